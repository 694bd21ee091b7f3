"""TensorBoard's files of a run; an error while writing them becomes a warning and never ends the run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]

from evaluation.rendering import Picture


class NullWriter:
    """A writer whose methods do nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_, **__: None


class RunLogger(TensorBoardLogger):
    """Writes curves and pictures to `logs/` of the run's folder, until the first error; then it warns and stops writing.

    Args:
        folder: the run's.
        console: takes the warning.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        super().__init__(folder, name="", version="logs")
        self.console = console
        self.is_usable = True

    @property
    def experiment(self) -> Any:
        """Return TensorBoard's writer; one that does nothing after an error."""
        self._attempt(lambda: super(RunLogger, self).experiment)
        return super().experiment if self.is_usable else NullWriter()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append values to the curves of their names."""
        self._attempt(lambda: super(RunLogger, self).log_metrics(metrics, step))

    def add_picture(self, name: str, picture: Picture, step: int) -> None:
        """Append a picture (H, W, 3) to those of its name."""
        self._attempt(lambda: self.experiment.add_image(name, picture, step, dataformats="HWC"))

    def purge_from(self, step: int) -> None:
        """Have TensorBoard drop what earlier sessions wrote at this step and later, which the run now repeats."""
        event = Event(step=step, session_log=SessionLog(status=SessionLog.START))
        self._attempt(lambda: self.experiment.file_writer.add_event(event))

    def save(self) -> None:
        """Flush the files."""
        self._attempt(super().save)

    def finalize(self, status: str) -> None:
        """Close the files."""
        self._attempt(lambda: super(RunLogger, self).finalize(status))

    def _attempt(self, write: Callable[[], object]) -> None:
        if not self.is_usable:
            return
        try:
            write()
        except OSError as error:
            self.is_usable = False
            self.console.print(f"warning: no more curves for TensorBoard: {error}; training continues", style="yellow")
