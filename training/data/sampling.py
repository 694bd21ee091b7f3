"""Sampling of patch locations: a share around foreground for the U-Net, all classes equally often for the sliding window."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from datasets.labels.counts import check_labels
from datasets.references import class_masks
from imaging.errors import DataError
from imaging.source import ImageSource

MOST_POSITIONS = 10_000  # per case and class, a uniform sample, so that memory doesn't grow with the image
BLOCK_BYTES = 16 * 2**20  # per read: enough rows of a slide that tiles of the file are rarely decoded twice
PIECE_PIXELS = 2**20  # per step: indices of 8 bytes a pixel then fit into the processor's cache


@dataclass(frozen=True)
class LabelIndex:
    """The labels of a reference: its `shape`, `counts` (K,) of pixels, and `positions` (n,) of some pixels of each class.

    A position is the index of a pixel in the flattened reference; `numpy.unravel_index` turns it into coordinates.
    """

    shape: tuple[int, ...]
    counts: NDArray[np.int64]
    positions: tuple[NDArray[np.int64], ...]


def index_labels(reference: ImageSource, classes: int, seed: int, ignore_label: int | None = None) -> LabelIndex:
    """Count the labels of a reference and sample positions of each label uniformly, piece by piece.

    Equal seeds give equal samples, independent of the size of the pieces.

    Args:
        reference: open; several channels are overlapping classes.
        classes: K; 1 for values instead of labels, whose pixels all count as class 0.
        seed: of the samples.
        ignore_label: of pixels that are neither counted nor sampled.

    Raises:
        DataError: a value is not the label of a class.
    """
    reservoirs = [PositionReservoir(np.random.default_rng((seed, label))) for label in range(classes)]
    first = 0
    for block in reference.blocks(BLOCK_BYTES):
        pixels = block.reshape(len(block), -1)  # (channels, n)
        for piece in np.split(pixels, range(PIECE_PIXELS, pixels.shape[1], PIECE_PIXELS), axis=1):
            masks = class_masks(piece, classes, ignore_label)
            labelled = sum(reservoir.add(mask, first) for reservoir, mask in zip(reservoirs, masks, strict=True))
            if labelled < piece.shape[1]:
                check_labels(piece, classes, ignore_label)
            first += piece.shape[1]
    counts = np.array([reservoir.count for reservoir in reservoirs])
    return LabelIndex(reference.shape, counts, tuple(reservoir.positions() for reservoir in reservoirs))


class PositionReservoir:
    """Uniform sample without replacement of one label's positions, whose number is not known in advance.

    Source: Li 1994, algorithm L: once the reservoir is full, the number of pixels to skip before the next replacement is
    drawn directly, so that the cost grows with the logarithm of the number of pixels.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.count = 0
        self._positions = np.empty(MOST_POSITIONS, np.int64)
        self._replacements = _replacements(random)
        self._ordinals, self._slots = next(self._replacements)

    def add(self, mask: NDArray[np.bool_], first: int) -> int:
        """Sample from a piece (n,) that begins at position `first`, and return the number of the label's pixels in it."""
        here = int(np.count_nonzero(mask))
        end = self.count + here
        if here and self._ordinals[0] < end:
            positions = np.flatnonzero(mask)
            while (size := int(np.searchsorted(self._ordinals, end))) > 0:
                # where a slot occurs several times, the last assignment counts
                self._positions[self._slots[:size]] = positions[self._ordinals[:size] - self.count] + first
                self._ordinals, self._slots = self._ordinals[size:], self._slots[size:]
                if not self._ordinals.size:
                    self._ordinals, self._slots = next(self._replacements)
        self.count = end
        return here

    def positions(self) -> NDArray[np.int64]:
        """Return the sample (n,), at most MOST_POSITIONS."""
        return self._positions[: self.count].copy()


def _replacements(random: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield, endlessly and in chunks, ordinals of the label's pixels that enter the reservoir, and the slots they take."""
    yield np.arange(MOST_POSITIONS), np.arange(MOST_POSITIONS)
    log_largest, last = 0.0, MOST_POSITIONS - 1  # of the keys in the reservoir; ordinal of the latest entry
    while True:
        logs = log_largest - np.cumsum(random.standard_exponential(MOST_POSITIONS)) / MOST_POSITIONS
        skips = random.standard_exponential(MOST_POSITIONS) / -np.log(-np.expm1(logs))
        ordinals = last + np.cumsum(np.minimum(skips, 2**40).astype(np.int64) + 1)
        yield ordinals, random.integers(MOST_POSITIONS, size=MOST_POSITIONS)
        log_largest, last = float(logs[-1]), int(ordinals[-1])


class PatchSampler:
    """Draws locations of patches: a case, and the patch's first pixel.

    Args:
        indices: of the labels of each case.
        config: the run's.

    Raises:
        DataError: no case contains foreground.
    """

    def __init__(self, indices: Sequence[LabelIndex], config: Config) -> None:
        self.indices = indices
        self.patch_size = config.patch_size
        self.cuts_windows = config.model.name == "sliding_window"
        self.foreground_share = config.sampling.foreground_share
        self.hard_negative_share = config.sampling.hard_negative_share
        self.hard_negatives = np.empty((0, 2), np.int64)  # case and position
        self.cases_with = [
            [number for number, index in enumerate(indices) if index.counts[label]] for label in range(len(config.data.classes))
        ]
        self.labels = [label for label, cases in enumerate(self.cases_with) if cases]
        self.foreground = [label for label in self.labels if label]
        if not self.foreground and len(config.data.classes) > 1:
            raise DataError(
                "no_foreground",
                "the training references have no label above 0; annotate some foreground, or check data.classes",
            )

    @property
    def class_prior(self) -> tuple[float, ...]:
        """Return each class's fraction of all training pixels."""
        counts = np.sum([index.counts for index in self.indices], axis=0)
        return tuple((counts / counts.sum()).tolist())

    def draw(self, random: np.random.Generator) -> tuple[int, tuple[int, ...]]:
        """Draw the number of a case and the first pixel of a patch, in S order; a window may begin outside the image."""
        if self.cuts_windows:
            label = int(random.choice(self.labels))  # of the central pixel; some of the background's are hard negatives
            if label == 0 and len(self.hard_negatives) and random.random() < self.hard_negative_share:
                number, position = map(int, self.hard_negatives[random.integers(len(self.hard_negatives))])
            else:
                number, position = self._draw_pixel(label, random)
            place = np.unravel_index(position, self.indices[number].shape)
            return number, tuple(int(value) - size // 2 for value, size in zip(place, self.patch_size, strict=True))
        if self.foreground and random.random() < self.foreground_share:
            return self._draw_patch_with(int(random.choice(self.foreground)), random)
        number = int(random.integers(len(self.indices)))
        shape = self.indices[number].shape
        return number, tuple(
            int(random.integers(max(0, size - patch) + 1)) for size, patch in zip(shape, self.patch_size, strict=True)
        )

    def set_hard_negatives(self, number: int, positions: NDArray[np.int64]) -> None:
        """Replace the hard negatives of a case by these background positions (n,)."""
        others = self.hard_negatives[self.hard_negatives[:, 0] != number]
        self.hard_negatives = np.concatenate([others, np.stack([np.full_like(positions, number), positions], axis=1)])

    def _draw_patch_with(self, label: int, random: np.random.Generator) -> tuple[int, tuple[int, ...]]:
        """Draw a patch that contains a pixel of a label, at a random place in it."""
        number, position = self._draw_pixel(label, random)
        shape = self.indices[number].shape
        place = np.unravel_index(position, shape)
        starts = (int(value) - int(random.integers(size)) for value, size in zip(place, self.patch_size, strict=True))
        limits = (max(0, size - patch) for size, patch in zip(shape, self.patch_size, strict=True))
        return number, tuple(min(max(start, 0), limit) for start, limit in zip(starts, limits, strict=True))

    def _draw_pixel(self, label: int, random: np.random.Generator) -> tuple[int, int]:
        """Draw a case among those with the label, each equally likely, and the position of a pixel of the label in it."""
        number = int(random.choice(self.cases_with[label]))
        positions = self.indices[number].positions[label]
        return number, int(positions[random.integers(len(positions))])
