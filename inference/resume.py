"""What is there of an image's outputs when its work breaks off, so that the same command goes on from the last row."""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from disk.lock import Held, only_one
from disk.publish import publish
from imaging.errors import DataError
from imaging.writing.band_writer import BandWriter
from imaging.writing.row_buffer import Kept
from inference.predictors.predictor import Predictor

JOURNAL = "journal.json"
LOCK = "lock"
LEAST_S = 1.0  # between two entries
SHARE = 0.05  # of the time that writing to the disk may take


class Journal(BaseModel):
    """How far the work came: for which work it is, the rows on the disk, and the tiles that it is done with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    rows: int = 0
    tile_sizes: tuple[tuple[int, ...], ...] = ()


class Unfinished:
    """A hidden folder beside the outputs with the rows that are done; a context manager, for one process at a time.

    Left without an error, or when the image can't be used, the folder is removed; when the process is killed, interrupted or
    finds the disk full, it stays, and the same work goes on there.

    Args:
        folder: hidden, beside the outputs.
        key: of the work: all that its outputs depend on.
        predictors: one a bundle; while it is entered, their tiles are those that they began with, whatever memory there is now.
        shapes: of the image as each of them sees it.

    Raises:
        DataError: `at_work`: another process is in the folder.
    """

    def __init__(self, folder: Path, key: str, predictors: Sequence[Predictor], shapes: Sequence[tuple[int, ...]]) -> None:
        self.folder = folder
        self.predictors = predictors
        sizes = tuple(each.grid(shape).tile_size for each, shape in zip(predictors, shapes, strict=True))
        self.journal = Journal(key=key, tile_sizes=sizes)  # of work that begins
        self._lock = ExitStack()
        self._written = time.monotonic()
        self._took_s = 0.0

    @property
    def rows(self) -> int:
        """That are done."""
        return self.journal.rows

    def kept(self, name: str) -> Kept:
        """The file of an output's rows."""
        return Kept(self.folder / f"{name.lstrip('.')}.rows", self.rows)

    def note(self, rows: int, writers: Sequence[BandWriter]) -> None:
        """Brings to the disk what is done, from time to time.

        Args:
            rows: that the writers have.
            writers: of all outputs.
        """
        now = time.monotonic()
        if now - self._written < max(LEAST_S, self._took_s / SHARE):
            return
        for writer in writers:
            writer.sync()
        self.journal = self.journal.model_copy(update={"rows": rows})
        publish(self.folder / JOURNAL, lambda part: part.write_text(self.journal.model_dump_json()))
        self._written = time.monotonic()
        self._took_s = self._written - now

    def __enter__(self) -> Self:
        self.folder.mkdir(exist_ok=True)
        try:
            self._lock.enter_context(only_one(self.folder / LOCK))
        except Held as error:
            raise DataError(
                "at_work",
                f"another process is at work on this image in that folder (process {error.process}); wait for it, stop it, or "
                "choose another folder",
            ) from error
        begun = _read(self.folder, self.journal.key)
        if begun is None:  # what other work counted there is written over
            (self.folder / JOURNAL).unlink(missing_ok=True)
        self.journal = begun or self.journal
        for predictor, size in zip(self.predictors, self.journal.tile_sizes, strict=True):
            predictor.tile_size = size
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for predictor in self.predictors:
            predictor.tile_size = None
        if kind is None or issubclass(kind, DataError):
            (self.folder / JOURNAL).unlink(missing_ok=True)  # first: it mustn't count rows that are gone
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def key_of(image: Path, predictors: Sequence[Predictor], wishes: object) -> str:
    """What the outputs depend on: the image's files, the bundles and what runs them, and what is wanted."""
    files = sorted(path for path in image.rglob("*") if path.is_file()) if image.is_dir() else [image]
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    facts = json.dumps([stats, [predictor.identity for predictor in predictors], repr(wishes)])
    return hashlib.sha256(facts.encode()).hexdigest()


def _read(folder: Path, key: str) -> Journal | None:
    """Of this work; None where there is none, or of another."""
    with suppress(OSError, ValidationError):
        found = Journal.model_validate_json((folder / JOURNAL).read_bytes())
        if found.key == key:
            return found
    return None
