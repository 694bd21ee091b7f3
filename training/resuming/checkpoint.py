"""A run's whole state on the disk: written whole or not at all, verified when it is read, two of them kept."""

import hashlib
import io
import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import CheckpointIO
from rich.console import Console

from disk.publish import publish
from training.errors import StorageError

FORMAT = 1  # of what this project adds to Lightning's state
OURS = "overtile"  # the key under which it does
KEPT = 2
NAME = re.compile(r"step-(\d{8})-([0-9a-f]{16})\.ckpt")  # the step, and the beginning of the file's SHA-256

State = dict[str, Any]


class Checkpoints(CheckpointIO):
    """The checkpoints of one run, in a folder of its own.

    A file's name says its step and its content's SHA-256, so that a single rename puts both in place.

    Args:
        folder: made when the first one is written.
        run: what the run is, as a digest; a checkpoint of another run isn't taken.
        console: where trouble is told.
    """

    def __init__(self, folder: Path, run: str, console: Console) -> None:
        self.folder = folder
        self.run = run
        self.console = console

    def newest(self) -> tuple[Path, State] | None:
        """The newest one that is sound, with what it holds; those that aren't are told. None where there are no files at all.

        Raises:
            StorageError: there are checkpoints, and none is sound.
        """
        paths = self._paths()
        for path in paths:
            try:
                return path, self._read(path)
            except StorageError as error:
                self.console.print(f"{error}; it is left out", style="bold red")
        if paths:
            raise StorageError(
                f"{self.folder}: none of {len(paths)} checkpoints can be used; restore one, or delete the folder to begin anew"
            )
        return None

    def save_checkpoint(self, checkpoint: State, path: str | Path, storage_options: object = None) -> None:
        """Writes a state beside its place, has it reach the disk, renames it, and deletes all but the newest before it.

        Args:
            checkpoint: tensors and plain values; `global_step` gives the file its name.
            path: not looked at, as the name says more than Lightning knows.
            storage_options: none are taken.

        Raises:
            StorageError: there was no room, or the disk failed; the checkpoints before are as they were.
        """
        content = io.BytesIO()
        checkpoint[OURS] = {**checkpoint.get(OURS, {}), "format": FORMAT, "run": self.run}
        torch.save(checkpoint, content)
        step, digest = checkpoint["global_step"], hashlib.sha256(content.getbuffer()).hexdigest()[:16]
        target = self.folder / f"step-{step:08d}-{digest}.ckpt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            publish(target, lambda part: _write(part, content))
            self._delete_all_but(target)
        except OSError as error:
            raise StorageError(
                f"{self.folder}: the checkpoint of step {step} can't be written ({error.strerror or error}); earlier ones are "
                "as they were: make room or mend the disk, and the same command goes on from there"
            ) from error

    def load_checkpoint(self, path: str | Path, map_location: object = None, weights_only: bool | None = True) -> State:
        """What a checkpoint of this run holds.

        Raises:
            StorageError: a URL, or a file that can't be read, was changed, or is another run's.
        """
        if "://" in str(path):
            raise StorageError(f"{path}: is a URL, and a checkpoint is taken from the run's own folder alone; copy it there")
        return self._read(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Deletes a checkpoint."""
        Path(path).unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        """The newest first."""
        return sorted((path for path in self.folder.glob("step-*.ckpt") if NAME.fullmatch(path.name)), reverse=True)

    def _read(self, path: Path) -> State:
        name = NAME.fullmatch(path.name)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StorageError(f"{path}: can't be read ({error.strerror})") from error
        if name is None or hashlib.sha256(content).hexdigest()[:16] != name[2]:
            raise StorageError(f"{path}: isn't as it was written: its SHA-256 is another than the name says")
        try:
            state: State = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
            raise StorageError(f"{path}: isn't a checkpoint") from error
        ours = state.get(OURS, {}) if isinstance(state, dict) else {}
        if ours.get("format") != FORMAT:
            raise StorageError(f"{path}: is of another version of Overtile")
        if ours.get("run") != self.run:
            raise StorageError(f"{path}: is another run's, of another config or other data")
        return state

    def _delete_all_but(self, newest: Path) -> None:
        """Keeps the newest and the one before; what lies after it is of a history that was given up."""
        before = [path for path in self._paths() if path.name[:13] < newest.name[:13]]
        for path in set(self._paths()) - {newest, *before[: KEPT - 1]}:
            path.unlink()


def _write(part: Path, content: io.BytesIO) -> None:
    with part.open("wb", buffering=0) as file:
        left = content.getbuffer()
        while left:
            left = left[os.write(file.fileno(), left) :]
