"""What a run leaves behind besides its checkpoints: TensorBoard's files; trouble there never ends a run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]

from evaluation.rendering import Picture


class Silent:
    """A writer that writes nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_, **__: None


class RunLogger(TensorBoardLogger):
    """Curves and pictures in `logs/` of the run's folder; when they can't be written, says so once and is silent.

    Args:
        folder: the run's.
        console: takes the warning.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        super().__init__(folder, name="", version="logs")
        self.console = console
        self.usable = True

    @property
    def experiment(self) -> Any:
        """TensorBoard's writer, or one that writes nothing."""
        self._attempt(lambda: super(RunLogger, self).experiment)
        return super().experiment if self.usable else Silent()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds numbers to their curves."""
        self._attempt(lambda: super(RunLogger, self).log_metrics(metrics, step))

    def add_picture(self, name: str, picture: Picture, step: int) -> None:
        """Adds a picture (H, W, 3) to those of that name."""
        self._attempt(lambda: self.experiment.add_image(name, picture, step, dataformats="HWC"))

    def forget_from(self, step: int) -> None:
        """Has TensorBoard drop what earlier sittings wrote of this step and later ones, which are now done anew."""
        event = Event(step=step, session_log=SessionLog(status=SessionLog.START))
        self._attempt(lambda: self.experiment.file_writer.add_event(event))

    def save(self) -> None:
        """Flushes."""
        self._attempt(super().save)

    def finalize(self, status: str) -> None:
        """Closes the files."""
        self._attempt(lambda: super(RunLogger, self).finalize(status))

    def _attempt(self, write: Callable[[], object]) -> None:
        if not self.usable:
            return
        try:
            write()
        except OSError as error:
            self.usable = False
            self.console.print(f"warning: no more curves for TensorBoard: {error}; training goes on", style="yellow")
