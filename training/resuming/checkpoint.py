"""Checkpoints of a run: written atomically, verified when they are read, the newest two kept."""

import hashlib
import io
import os
import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning.plugins import CheckpointIO
from rich.console import Console

from disk.publish import publish
from training.errors import StorageError

FORMAT = 1  # of Overtile's part of a checkpoint
STATE_KEY = "overtile"  # of that part
MOST_CHECKPOINTS = 2
NAME = re.compile(r"step-(\d{8})-([0-9a-f]{16})\.ckpt")  # the step, and the first digits of the file's SHA-256

CheckpointState = dict[str, Any]


class StoredCheckpoint(NamedTuple):
    """A checkpoint that was read, and its path."""

    path: Path
    state: CheckpointState


class Checkpoints(CheckpointIO):
    """The checkpoints of one run, in a folder of their own.

    A file's name contains its step and its content's SHA-256, so that a single rename publishes both.

    Args:
        folder: created with the first checkpoint.
        run: the digest of the run's config and data; checkpoints of other runs are refused.
        console: takes warnings.
    """

    def __init__(self, folder: Path, run: str, console: Console) -> None:
        self.folder = folder
        self.run = run
        self.console = console

    def newest(self) -> StoredCheckpoint | None:
        """Return the newest valid checkpoint, with a warning for each newer invalid one; None if there are no files.

        Raises:
            StorageError: there are checkpoints, and none is valid.
        """
        paths = self._paths()
        for path in paths:
            try:
                return StoredCheckpoint(path, self._read(path))
            except StorageError as error:
                self.console.print(f"{error}; it is skipped", style="bold red")
        if paths:
            raise StorageError(
                f"{self.folder}: none of {len(paths)} checkpoints is valid; restore one, or delete the folder to start again"
            )
        return None

    def save_checkpoint(self, checkpoint: CheckpointState, path: str | Path, storage_options: object = None) -> None:
        """Write a checkpoint atomically, and delete older ones until MOST_CHECKPOINTS are left.

        Args:
            checkpoint: tensors and plain values; its `global_step` is part of the file's name.
            path: ignored, since the digest is part of the file's name.
            storage_options: ignored.

        Raises:
            StorageError: the disk is full or failed; earlier checkpoints are unchanged.
        """
        content = io.BytesIO()
        checkpoint[STATE_KEY] = {**checkpoint.get(STATE_KEY, {}), "format": FORMAT, "run": self.run}
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
                "unchanged: free space or repair the disk, then run the same command to resume from there"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: bool | None = True
    ) -> CheckpointState:
        """Read a checkpoint of this run; tensors are on the CPU.

        Raises:
            StorageError: the path is a URL, or the file can't be read, was changed or belongs to another run.
        """
        if "://" in str(path):
            raise StorageError(f"{path}: is a URL; checkpoints are read from the run's own folder only: copy it there")
        return self._read(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        """Return the files, the newest first."""
        return sorted((path for path in self.folder.glob("step-*.ckpt") if NAME.fullmatch(path.name)), reverse=True)

    def _read(self, path: Path) -> CheckpointState:
        name = NAME.fullmatch(path.name)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StorageError(f"{path}: can't be read ({error.strerror})") from error
        if name is None or hashlib.sha256(content).hexdigest()[:16] != name[2]:
            raise StorageError(f"{path}: is damaged: its SHA-256 differs from the one in its name")
        try:
            state: CheckpointState = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
            raise StorageError(f"{path}: is no checkpoint") from error
        own_state = state.get(STATE_KEY, {}) if isinstance(state, dict) else {}
        if own_state.get("format") != FORMAT:
            raise StorageError(f"{path}: is from another version of Overtile")
        if own_state.get("run") != self.run:
            raise StorageError(f"{path}: is from a run with another config or other data")
        return state

    def _delete_all_but(self, newest: Path) -> None:
        """Delete all but the newest and the one before; later steps belong to a history that the run went back from."""
        earlier = [path for path in self._paths() if path.name[:13] < newest.name[:13]]
        for path in set(self._paths()) - {newest, *earlier[: MOST_CHECKPOINTS - 1]}:
            path.unlink()


def _write(part: Path, content: io.BytesIO) -> None:
    with part.open("wb", buffering=0) as file:
        rest = content.getbuffer()
        while rest:  # a single write may be short
            rest = rest[os.write(file.fileno(), rest) :]
