"""Where patches are cut: a share of them around foreground for the U-Net, every class equally often for the sliding window."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from datasets.references import check_labels, class_masks
from imaging.errors import DataError
from imaging.source import ImageSource

POSITIONS_KEPT = 10_000  # a case and class; a uniform draw of them, so memory doesn't grow with the image
BLOCK_BYTES = 16 * 2**20  # read at a time: enough rows of a slide that no tile of the file is decoded often
PIECE_PIXELS = 2**20  # looked at at a time: what indices take, 8 bytes a pixel, stays in the processor's cache


@dataclass(frozen=True)
class Census:
    """What a reference holds: its `shape`, `counts` (K,) of pixels, `positions` (n,) of each class.

    A position is a pixel's place in the reference read row by row; `numpy.unravel_index` turns it into coordinates.
    """

    shape: tuple[int, ...]
    counts: NDArray[np.int64]
    positions: tuple[NDArray[np.int64], ...]


def take_census(reference: ImageSource, classes: int, seed: int, ignore_label: int | None = None) -> Census:
    """Counts the labels of a reference and keeps a uniform draw of each label's positions, piece by piece.

    Equal seeds give equal draws, however the reference is cut. Of values instead of labels, all pixels are class 0.

    Args:
        reference: open; several channels are classes that overlap.
        classes: K; 1 stands for values.
        seed: of the draw.
        ignore_label: of pixels that are neither counted nor drawn.

    Raises:
        DataError: a value that is no class's label.
    """
    draws = [LabelDraw(np.random.default_rng((seed, label))) for label in range(classes)]
    first = 0
    for block in reference.blocks(BLOCK_BYTES):
        pixels = block.reshape(len(block), -1)  # (channels, n)
        for piece in np.split(pixels, range(PIECE_PIXELS, pixels.shape[1], PIECE_PIXELS), axis=1):
            masks = class_masks(piece, classes, ignore_label)
            if sum(draw.look(mask, first) for draw, mask in zip(draws, masks, strict=True)) < piece.shape[1]:
                check_labels(piece, classes, ignore_label)
            first += piece.shape[1]
    return Census(reference.shape, np.array([draw.count for draw in draws]), tuple(draw.positions() for draw in draws))


class LabelDraw:
    """A uniform draw without replacement of the positions of one label, whose number isn't known before the end.

    Source: Li 1994, algorithm L: once the reservoir is full, the number of pixels to pass over before the next one is
    taken can be drawn at once, so that the cost goes with the logarithm of the pixels.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.count = 0
        self._kept = np.empty(POSITIONS_KEPT, np.int64)
        self._taken = _taken(random)
        self._ordinals, self._slots = next(self._taken)

    def look(self, mask: NDArray[np.bool_], first: int) -> int:
        """Takes what it wants of a piece (n,) that begins at position `first`; gives the number of the label's pixels."""
        here = int(np.count_nonzero(mask))
        end = self.count + here
        if here and self._ordinals[0] < end:
            positions = np.flatnonzero(mask)
            while (wanted := int(np.searchsorted(self._ordinals, end))) > 0:
                self._kept[self._slots[:wanted]] = positions[self._ordinals[:wanted] - self.count] + first  # the last one stays
                self._ordinals, self._slots = self._ordinals[wanted:], self._slots[wanted:]
                if not self._ordinals.size:
                    self._ordinals, self._slots = next(self._taken)
        self.count = end
        return here

    def positions(self) -> NDArray[np.int64]:
        """(n,), at most `POSITIONS_KEPT`."""
        return self._kept[: self.count].copy()


def _taken(random: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Which pixels of a label are kept, by their number among its pixels, and in which slot; without end, in pieces."""
    yield np.arange(POSITIONS_KEPT), np.arange(POSITIONS_KEPT)
    log_largest, last = 0.0, POSITIONS_KEPT - 1  # of the keys in the reservoir; the pixel taken last
    while True:
        logs = log_largest - np.cumsum(random.standard_exponential(POSITIONS_KEPT)) / POSITIONS_KEPT
        passed_over = random.standard_exponential(POSITIONS_KEPT) / -np.log(-np.expm1(logs))
        ordinals = last + np.cumsum(np.minimum(passed_over, 2**40).astype(np.int64) + 1)
        yield ordinals, random.integers(POSITIONS_KEPT, size=POSITIONS_KEPT)
        log_largest, last = float(logs[-1]), int(ordinals[-1])


class PatchSampler:
    """Draws a case and the first pixel of a patch in it.

    Args:
        censuses: one a case.
        config: the run's.

    Raises:
        DataError: no case holds any foreground.
    """

    def __init__(self, censuses: Sequence[Census], config: Config) -> None:
        self.censuses = censuses
        self.patch_size = config.patch_size
        self.window = config.model.name == "sliding_window"
        self.foreground_share = config.sampling.foreground_share
        self.hard_negative_share = config.sampling.hard_negative_share
        self.hard_negatives = np.empty((0, 2), np.int64)  # case and position of background that was taken for foreground
        self.cases_with = [
            [number for number, census in enumerate(censuses) if census.counts[label]]
            for label in range(len(config.data.classes))
        ]
        self.labels = [label for label, cases in enumerate(self.cases_with) if cases]
        self.foreground = [label for label in self.labels if label]
        if not self.foreground and len(config.data.classes) > 1:
            raise DataError("no_foreground", "the training references hold no label above 0; draw some, or check data.classes")

    @property
    def class_prior(self) -> tuple[float, ...]:
        """Each class's share of all training pixels."""
        counts = np.sum([census.counts for census in self.censuses], axis=0)
        return tuple((counts / counts.sum()).tolist())

    def draw(self, random: np.random.Generator) -> tuple[int, tuple[int, ...]]:
        """The number of a case and where its patch begins, in S order; a window may begin outside the image."""
        if self.window:
            return self._window(int(random.choice(self.labels)), random)
        if self.foreground and random.random() < self.foreground_share:
            return self._around(int(random.choice(self.foreground)), random)
        number = int(random.integers(len(self.censuses)))
        shape = self.censuses[number].shape
        return number, tuple(
            int(random.integers(max(0, size - patch) + 1)) for size, patch in zip(shape, self.patch_size, strict=True)
        )

    def keep_hard_negatives(self, number: int, positions: NDArray[np.int64]) -> None:
        """Takes these background positions (n,) of a case for its hard negatives, in the place of those it had."""
        others = self.hard_negatives[self.hard_negatives[:, 0] != number]
        self.hard_negatives = np.concatenate([others, np.stack([np.full_like(positions, number), positions], axis=1)])

    def _window(self, label: int, random: np.random.Generator) -> tuple[int, tuple[int, ...]]:
        """With a pixel of that label in its centre; a share of the background is hard, where any hard negatives are known."""
        if label == 0 and len(self.hard_negatives) and random.random() < self.hard_negative_share:
            number, position = self.hard_negatives[random.integers(len(self.hard_negatives))]
        else:
            number, position = self._pixel(label, random)
        place = np.unravel_index(position, self.censuses[number].shape)
        return int(number), tuple(int(value) - size // 2 for value, size in zip(place, self.patch_size, strict=True))

    def _around(self, label: int, random: np.random.Generator) -> tuple[int, tuple[int, ...]]:
        """A patch that holds a pixel of that label, anywhere."""
        number, position = self._pixel(label, random)
        shape = self.censuses[number].shape
        place = np.unravel_index(position, shape)
        starts = (int(value) - int(random.integers(size)) for value, size in zip(place, self.patch_size, strict=True))
        limits = (max(0, size - patch) for size, patch in zip(shape, self.patch_size, strict=True))
        return number, tuple(min(max(start, 0), limit) for start, limit in zip(starts, limits, strict=True))

    def _pixel(self, label: int, random: np.random.Generator) -> tuple[int, int]:
        """A case that holds the label, each as likely as the next, and the position of such a pixel."""
        number = int(random.choice(self.cases_with[label]))
        positions = self.censuses[number].positions[label]
        return number, int(positions[random.integers(len(positions))])
