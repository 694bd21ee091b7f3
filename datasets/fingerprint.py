"""Facts of cases for plans and checks: sizes, spacings, intensities, label counts, object sizes; each case is read once."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.cases import Case, open_case_image, prefix_errors
from datasets.foreground_parts import ForegroundParts
from datasets.references import count_classes, foreground_mask, open_reference
from disk.digest import sha256_of_file
from imaging.source import ImageSource, Region

WHOLE_PIXELS = 2**26  # of larger slides only blocks are read
BLOCK_PX, BLOCKS_AN_AXIS = 1024, 5  # size of a block, and evenly spread blocks along each axis
SLAB_PIXELS = 2**22  # read at once
SAMPLED_VALUES = 2**20  # approximate number of values for the percentiles


@dataclass(frozen=True)
class Intensities:
    """Statistics of one channel over some pixels; `low` and `high` are the percentiles 0.5 and 99.5."""

    minimum: float
    maximum: float
    mean: float
    deviation: float
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class CaseFacts:
    """Facts of one case.

    Args:
        name: name of the case.
        shape: shape of the image, in S order.
        spacing_um: spacing in S order; None where neither the file nor the user gives it.
        dtype: type of the pixels as stored.
        image: intensities of each channel over all pixels; of a slide of more than 2**26 pixels, over 25 blocks of 1024 x 1024.
        foreground: intensities of each channel over the foreground of the same pixels; empty where there is none.
        label_counts: pixels of each label over the whole reference; empty without a reference.
        object_px: median sides, in S order, of the connected parts of the foreground; None where there are none.
        sha256: digest of each image file, in order.
        pixels_sha256: digest of the decoded pixels; None where only blocks were read.
        hole_px: size that a hundredth of the foreground's holes don't exceed; None without holes, or of a large image.
        opening_shares: share of the foreground that remains after openings by discs of radius 1, 2 and 3 (a ball of radius 1
            in 3D); empty without foreground, or of a large image.
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
    hole_px: float | None = None
    opening_shares: tuple[float, ...] = ()


def read_facts(case: Case) -> CaseFacts:
    """Open a case, with or without a reference, and measure its facts; its files are read once.

    Raises:
        DataError: a file can't be read, or labels aren't whole numbers; with the case's name.
    """
    with prefix_errors(case), open_case_image(case) as image:
        if case.reference is None or case.values:
            return measure_facts(case, image, None, {})
        with open_reference(case) as reference:
            return measure_facts(case, image, reference, count_reference_labels(reference, case.ignore_label))


def count_reference_labels(reference: ImageSource, ignore_label: int | None = None) -> dict[int, int]:
    """Count the pixels of each label of an open reference, without the ignored ones.

    Raises:
        DataError: pixels can't be read, or labels aren't whole numbers.
    """
    counts: Counter[int] = Counter()
    for region in _slabs(reference.shape):
        counts.update(count_classes(reference.read(region), ignore_label))
    return dict(sorted(counts.items()))


def measure_facts(case: Case, image: ImageSource, reference: ImageSource | None, counts: Mapping[int, int]) -> CaseFacts:
    """Measure the facts of a case whose files are open.

    Args:
        case: the case.
        image: its image.
        reference: its reference, of the image's shape; None where there is no usable one.
        counts: result of `count_reference_labels`.

    Raises:
        DataError: pixels can't be read.
    """
    sampled = is_read_in_blocks(image)
    step = ceil((BLOCKS_AN_AXIS * BLOCK_PX) ** 2 / SAMPLED_VALUES if sampled else prod(image.shape) / SAMPLED_VALUES)
    everywhere, foreground = _IntensityTally(step), _IntensityTally(step)
    digest = hashlib.sha256(repr((image.shape, image.channels, image.dtype.str)).encode())
    objects = ForegroundParts(image.shape, sampled)
    for region in _blocks(image.shape) if sampled else _slabs(image.shape):
        pixels = image.read(region)  # (C, *region)
        everywhere.add(pixels.reshape(image.channels, -1))
        digest.update(np.ascontiguousarray(pixels).data)
        if reference is not None:
            inside = foreground_mask(reference.read(region), case.ignore_label)  # (*region)
            foreground.add(pixels[:, inside])
            objects.add(inside, region)
    return CaseFacts(
        name=case.name,
        shape=image.shape,
        spacing_um=image.spacing_um,
        dtype=image.dtype.name,
        image=everywhere.intensities(),
        foreground=foreground.intensities(),
        label_counts=dict(counts),
        object_px=objects.median_sides(),
        sha256=tuple(sha256_of_path(path) for path in case.images),
        pixels_sha256=None if sampled else digest.hexdigest(),
        hole_px=objects.small_hole_px(),
        opening_shares=objects.opening_shares(),
    )


def is_read_in_blocks(image: ImageSource) -> bool:
    """Return whether only blocks of the image are read, because it is a slide of more than 2**26 pixels."""
    return len(image.shape) == 2 and prod(image.shape) > WHOLE_PIXELS


class _IntensityTally:
    """Statistics of each channel's values, which are added piece by piece; percentiles use every `step`-th value."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.count = 0
        self.pieces: list[NDArray[np.float64]] = []  # (5, C) each: minimum, maximum, mean, squares, count
        self.sample: list[NDArray[Any]] = []

    def add(self, values: NDArray[Any]) -> None:
        """Add values (C, n)."""
        if values.shape[1] == 0:
            return
        real = values.astype(np.float64)
        squares = ((real - real.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        counts = np.full(len(real), real.shape[1], np.float64)
        self.pieces.append(np.stack([real.min(axis=1), real.max(axis=1), real.mean(axis=1), squares, counts]))
        self.sample.append(values[:, :: self.step])

    def intensities(self) -> tuple[Intensities, ...]:
        """Return the statistics of each channel; empty where no value was added."""
        if not self.pieces:
            return ()
        low, high, means, squares, counts = np.stack(self.pieces, axis=1)  # (pieces, C) each
        mean = (means * counts).sum(axis=0) / counts.sum(axis=0)
        squares = squares.sum(axis=0) + (counts * (means - mean) ** 2).sum(axis=0)
        deviation = np.sqrt(squares / counts.sum(axis=0))
        percentiles = np.percentile(np.concatenate(self.sample, axis=1), (50, 0.5, 99.5), axis=1)  # (3, C)
        rows = np.stack([low.min(axis=0), high.max(axis=0), mean, deviation, *percentiles], axis=1)  # (C, 7)
        return tuple(Intensities(*map(float, row)) for row in rows)


def _slabs(shape: tuple[int, ...]) -> Iterator[Region]:
    rows = max(1, SLAB_PIXELS // prod(shape[1:]))
    for start in range(0, shape[0], rows):
        yield (slice(start, min(start + rows, shape[0])), *(slice(0, size) for size in shape[1:]))


def _blocks(shape: tuple[int, ...]) -> Iterator[Region]:
    """Yield evenly spread blocks of a slide, row by row."""
    axes = []
    for size in shape:
        count = min(BLOCKS_AN_AXIS, ceil(size / BLOCK_PX))
        length = min(BLOCK_PX, size)
        axes.append([slice(start, start + length) for start in np.linspace(0, size - length, count).astype(int).tolist()])
    for rows in axes[0]:
        for columns in axes[1]:
            yield rows, columns


def sha256_of_path(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, or of an image that is a folder, over the names and digests of its files."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = [f"{file.relative_to(path).as_posix()} {sha256_of_path(file)}\n" for file in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    return sha256_of_file(path)
