"""Resuming of interrupted work: finished rows stay on the disk, and the same command continues after them."""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from disk.lock import Held, only_one
from disk.publish import publish
from imaging.errors import DataError
from imaging.writing.row_buffer import BufferFile
from inference.confidence import ForegroundConfidence
from inference.predictors.predictor import Predictor

JOURNAL = "journal.json"
LOCK = "lock"
LEAST_INTERVAL_S = 1.0  # between two entries of the journal
SYNC_SHARE = 0.05  # of the time that writing to the disk may take


class Rows(Protocol):
    """Rows of an output on their way to the disk, such as those of a `BandWriter`."""

    def sync(self) -> None:
        """Wait until all written rows are on the disk."""
        ...


class Journal(BaseModel):
    """Journal of the work: its key, the rows on the disk, the tile sizes that it started with, and its confidence so far.

    `confidence` has the `counts` of a `ForegroundConfidence`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    rows: int = 0
    tile_sizes: tuple[tuple[int, ...], ...] = ()
    confidence: tuple[int, int] = (0, 0)


class UnfinishedOutputs:
    """Context manager of a hidden folder beside the outputs that holds the finished rows; for one process at a time.

    On exit the folder is removed if there is no error, or a DataError. If the process is killed or interrupted, or the disk is
    full, it stays, and the same work resumes from it.

    Args:
        folder: hidden folder beside the outputs.
        key: key of the work: a digest of all that its outputs depend on.
        tile_sizes: tile size of each predictor, for new work; resumed work has the sizes that it started with.

    Raises:
        DataError: `at_work`: another process uses the folder.
    """

    def __init__(self, folder: Path, key: str, tile_sizes: tuple[tuple[int, ...], ...]) -> None:
        self.folder = folder
        self.journal = Journal(key=key, tile_sizes=tile_sizes)
        self._lock = ExitStack()
        self._synced_s = time.monotonic()
        self._sync_s = 0.0

    @property
    def rows(self) -> int:
        """Number of rows that are on the disk."""
        return self.journal.rows

    @property
    def tile_sizes(self) -> tuple[tuple[int, ...], ...]:
        """Tile size of each predictor when the work started."""
        return self.journal.tile_sizes

    def rows_file(self, name: str) -> BufferFile:
        """Return the file that holds an output's rows."""
        return BufferFile(self.folder / f"{name.lstrip('.')}.rows", self.rows)

    def record(self, rows: int, writers: Sequence[Rows], confidence: ForegroundConfidence) -> None:
        """Write the finished rows to the disk, if enough time has passed since the last time.

        Args:
            rows: number of rows that were given to the writers.
            writers: rows of all outputs.
            confidence: accumulator that has these rows.
        """
        now_s = time.monotonic()
        if now_s - self._synced_s < max(LEAST_INTERVAL_S, self._sync_s / SYNC_SHARE):
            return
        for writer in writers:
            writer.sync()
        self.journal = self.journal.model_copy(update={"rows": rows, "confidence": confidence.counts})
        publish(self.folder / JOURNAL, lambda part: part.write_text(self.journal.model_dump_json()))
        self._synced_s = time.monotonic()
        self._sync_s = self._synced_s - now_s

    def __enter__(self) -> Self:
        self.folder.mkdir(exist_ok=True)
        try:
            self._lock.enter_context(only_one(self.folder / LOCK))
        except Held as error:
            raise DataError(
                "at_work",
                f"another process (process {error.process}) is segmenting this image into that folder; wait for it, stop it, "
                "or choose another folder",
            ) from error
        with suppress(OSError, ValidationError):  # no journal, or an unreadable one
            journal = Journal.model_validate_json((self.folder / JOURNAL).read_bytes())
            if journal.key == self.journal.key:
                self.journal = journal
                return self
        (self.folder / JOURNAL).unlink(missing_ok=True)  # rows of other work will be overwritten
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None or issubclass(kind, DataError):
            (self.folder / JOURNAL).unlink(missing_ok=True)  # first, so that no journal counts rows that are deleted
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def work_key(paths: Sequence[Path], predictors: Sequence[Predictor], request_text: str) -> str:
    """Return a digest of everything that the outputs depend on: the image's files, the bundles and runtimes, the request."""
    files: list[Path] = []
    for path in paths:
        files += sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    facts = json.dumps([stats, [predictor.identity for predictor in predictors], request_text])
    return hashlib.sha256(facts.encode()).hexdigest()
