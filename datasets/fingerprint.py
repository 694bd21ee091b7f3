"""What cases hold, read once each: sizes, spacings, intensities, class shares, objects; what plans and checks go by."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datasets.cases import Case, open_case_image, prefix_errors
from datasets.references import count_classes, foreground_mask, open_reference
from disk.digest import sha256_of_file
from imaging.source import ImageSource, Region

WHOLE_PIXELS = 2**26  # larger slides are looked at in blocks
BLOCK_PX, BLOCKS_AN_AXIS = 1024, 5  # of them, spread evenly
SLAB_PIXELS = 2**22
SAMPLED_VALUES = 2**20  # that percentiles are taken from, about
OBJECT_PIXELS = 2**24  # more are thinned out before the foreground's parts are told apart


@dataclass(frozen=True)
class Intensities:
    """One channel's values over some pixels; `low` and `high` are the percentiles 0.5 and 99.5."""

    minimum: float
    maximum: float
    mean: float
    deviation: float
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class CaseFacts:
    """One case.

    Args:
        name: the case's.
        shape: in S order.
        spacing_um: in S order; None where neither the file nor the user says.
        dtype: of the pixels as stored.
        image: over all pixels, a channel each; of a slide of more than 2**26 pixels over 25 blocks of 1024 x 1024.
        foreground: over those of these pixels whose label isn't 0, a channel each; empty where there are none.
        label_counts: pixels of each label, all of them; empty without a reference.
        object_px: the median side, in pixels of S order, of the foreground's connected parts; None where there are none.
        sha256: of each image file, in order.
        pixels_sha256: of the decoded pixels; None where only blocks of them were read.
    """

    name: str
    shape: tuple[int, ...]
    spacing_um: tuple[float, ...] | None
    dtype: str
    image: tuple[Intensities, ...]
    foreground: tuple[Intensities, ...]
    label_counts: dict[int, int]
    object_px: tuple[float, ...] | None
    sha256: tuple[str, ...]
    pixels_sha256: str | None = None


def read_facts(case: Case) -> CaseFacts:
    """The facts of a case, with or without a reference; its files are opened, read once and closed.

    Raises:
        DataError: with the case's name: a file can't be read, or its labels aren't whole numbers.
    """
    with prefix_errors(case), open_case_image(case) as image:
        if case.reference is None or case.values:
            return measure_facts(case, image, None, {})
        with open_reference(case) as reference:
            return measure_facts(case, image, reference, count_reference_labels(reference, case.ignore_label))


def count_reference_labels(reference: ImageSource, ignore_label: int | None = None) -> dict[int, int]:
    """Pixels of each label of an open reference, without those to be ignored.

    Raises:
        DataError: pixels can't be read, or labels aren't whole numbers.
    """
    counts: Counter[int] = Counter()
    for region in _slabs(reference.shape):
        counts.update(count_classes(reference.read(region), ignore_label))
    return dict(sorted(counts.items()))


def measure_facts(case: Case, image: ImageSource, reference: ImageSource | None, counts: Mapping[int, int]) -> CaseFacts:
    """The facts of a case that is open.

    Args:
        case: whose name and files they are.
        image: the case's.
        reference: of the image's shape; None where there is none, or none that can be used.
        counts: what `label_counts` says of it.

    Raises:
        DataError: pixels can't be read.
    """
    sampled = is_read_in_blocks(image)
    step = ceil((BLOCKS_AN_AXIS * BLOCK_PX) ** 2 / SAMPLED_VALUES if sampled else prod(image.shape) / SAMPLED_VALUES)
    everywhere, foreground = _Tally(step), _Tally(step)
    digest = hashlib.sha256(repr((image.shape, image.channels, image.dtype.str)).encode())
    parts = _Parts(image.shape, sampled)
    for region in _blocks(image.shape) if sampled else _slabs(image.shape):
        pixels = image.read(region)  # (C, *region)
        everywhere.add(pixels.reshape(image.channels, -1))
        digest.update(np.ascontiguousarray(pixels).data)
        if reference is not None:
            inside = foreground_mask(reference.read(region), case.ignore_label)  # (*region)
            foreground.add(pixels[:, inside])
            parts.add(inside, region)
    return CaseFacts(
        name=case.name,
        shape=image.shape,
        spacing_um=image.spacing_um,
        dtype=image.dtype.name,
        image=everywhere.intensities(),
        foreground=foreground.intensities(),
        label_counts=dict(counts),
        object_px=parts.median_sides(),
        sha256=tuple(sha256_of_path(path) for path in case.images),
        pixels_sha256=None if sampled else digest.hexdigest(),
    )


def is_read_in_blocks(image: ImageSource) -> bool:
    """Whether only blocks of the image are read: a slide of more than 2**26 pixels."""
    return len(image.shape) == 2 and prod(image.shape) > WHOLE_PIXELS


class _Tally:
    """Statistics of each channel's values, added piece by piece; percentiles go by every `step`-th value."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.count = 0
        self.pieces: list[NDArray[np.float64]] = []  # (5, C) each: minimum, maximum, mean, squares, count
        self.sample: list[NDArray[Any]] = []

    def add(self, values: NDArray[Any]) -> None:
        """Takes (C, n) values."""
        if values.shape[1] == 0:
            return
        real = values.astype(np.float64)
        squares = ((real - real.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        counts = np.full(len(real), real.shape[1], np.float64)
        self.pieces.append(np.stack([real.min(axis=1), real.max(axis=1), real.mean(axis=1), squares, counts]))
        self.sample.append(values[:, :: self.step])

    def intensities(self) -> tuple[Intensities, ...]:
        """One a channel; none where no value was added."""
        if not self.pieces:
            return ()
        low, high, means, squares, counts = np.stack(self.pieces, axis=1)  # (pieces, C) each
        mean = (means * counts).sum(axis=0) / counts.sum(axis=0)
        squares = squares.sum(axis=0) + (counts * (means - mean) ** 2).sum(axis=0)
        deviation = np.sqrt(squares / counts.sum(axis=0))
        percentiles = np.percentile(np.concatenate(self.sample, axis=1), (50, 0.5, 99.5), axis=1)  # (3, C)
        rows = np.stack([low.min(axis=0), high.max(axis=0), mean, deviation, *percentiles], axis=1)  # (C, 7)
        return tuple(Intensities(*map(float, row)) for row in rows)


class _Parts:
    """Sides of the foreground's connected parts: of the whole image, thinned where it is large, or block by block."""

    def __init__(self, shape: tuple[int, ...], in_blocks: bool) -> None:
        self.in_blocks = in_blocks
        self.step = 1 if in_blocks else ceil((prod(shape) / OBJECT_PIXELS) ** (1 / len(shape)))
        self.sides: list[tuple[int, ...]] = []
        self.slabs: list[NDArray[np.bool_]] = []

    def add(self, foreground: NDArray[np.bool_], region: Region) -> None:
        """Takes a block, or the next slab."""
        if self.in_blocks:
            whole = [part for part in _parts(foreground) if not _touches(part, foreground.shape)]
            self.sides += [_sides(part) for part in whole]
            return
        first = slice(-region[0].start % self.step, None, self.step)
        self.slabs.append(foreground[(first, *[slice(None, None, self.step)] * (foreground.ndim - 1))])

    def median_sides(self) -> tuple[float, ...] | None:
        """In pixels, S order; None where there is no part."""
        sides = self.sides + ([_sides(part) for part in _parts(np.concatenate(self.slabs))] if self.slabs else [])
        return tuple(float(side) * self.step for side in np.median(sides, axis=0)) if sides else None


def _parts(foreground: NDArray[np.bool_]) -> list[Region]:
    return list(ndimage.find_objects(ndimage.label(foreground)[0]))


def _sides(part: Region) -> tuple[int, ...]:
    return tuple(axis.stop - axis.start for axis in part)


def _touches(part: Region, shape: tuple[int, ...]) -> bool:
    return any(axis.start == 0 or axis.stop == size for axis, size in zip(part, shape, strict=True))


def _slabs(shape: tuple[int, ...]) -> Iterator[Region]:
    rows = max(1, SLAB_PIXELS // prod(shape[1:]))
    for start in range(0, shape[0], rows):
        yield (slice(start, min(start + rows, shape[0])), *(slice(0, size) for size in shape[1:]))


def _blocks(shape: tuple[int, ...]) -> Iterator[Region]:
    """Blocks of a slide on an even grid, in reading order."""
    axes = []
    for size in shape:
        count = min(BLOCKS_AN_AXIS, ceil(size / BLOCK_PX))
        length = min(BLOCK_PX, size)
        axes.append([slice(start, start + length) for start in np.linspace(0, size - length, count).astype(int).tolist()])
    for rows in axes[0]:
        for columns in axes[1]:
            yield rows, columns


def sha256_of_path(path: Path) -> str:
    """SHA-256 in hexadecimal of a file; of a folder that is an image, over its files' names and digests."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = [f"{file.relative_to(path).as_posix()} {sha256_of_path(file)}\n" for file in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    return sha256_of_file(path)
