"""Where patches are cut: a share of them around foreground for the U-Net, every class equally often for the sliding window."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from datasets.references import check_labels
from imaging.errors import DataError
from imaging.source import ImageSource

POSITIONS_KEPT = 10_000  # a case and class; a uniform draw of them, so memory doesn't grow with the image


@dataclass(frozen=True)
class Census:
    """What a reference holds: its `shape`, `counts` (K,) of pixels, `positions` (n, dimensions) of each class."""

    shape: tuple[int, ...]
    counts: NDArray[np.int64]
    positions: tuple[NDArray[np.int64], ...]


def take_census(reference: ImageSource, classes: int, seed: int) -> Census:
    """Counts the labels of a reference and keeps a uniform draw of each label's positions, block by block.

    Raises:
        DataError: a value that is no class's label.
    """
    random = np.random.default_rng(seed)
    counts = np.zeros(classes, np.int64)
    drawn = [(np.empty(0), np.empty((0, len(reference.shape)), np.int64)) for _ in range(classes)]
    row = 0
    for block in reference.blocks():
        labels = block[0]
        check_labels(labels, classes)
        for label in range(classes):
            positions = np.argwhere(labels == label) + np.array([row] + [0] * (labels.ndim - 1))
            counts[label] += len(positions)
            drawn[label] = _keep_lowest(drawn[label], random.random(len(positions)), positions)
        row += labels.shape[0]
    return Census(reference.shape, counts, tuple(positions for _, positions in drawn))


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
        self.cases_with = [
            [number for number, census in enumerate(censuses) if census.counts[label]]
            for label in range(len(config.data.classes))
        ]
        self.labels = [label for label, cases in enumerate(self.cases_with) if cases]
        if self.labels in ([], [0]):
            raise DataError("no_foreground", "the training references hold no label above 0; draw some, or check data.classes")

    @property
    def class_prior(self) -> tuple[float, ...]:
        """Each class's share of all training pixels."""
        counts = np.sum([census.counts for census in self.censuses], axis=0)
        return tuple((counts / counts.sum()).tolist())

    def draw(self, random: np.random.Generator) -> tuple[int, tuple[int, ...]]:
        """The number of a case and where its patch begins, in S order; a window may begin outside the image."""
        if self.window:
            return self._around(int(random.choice(self.labels)), random)
        if random.random() < self.foreground_share:
            return self._around(int(random.choice([label for label in self.labels if label])), random)
        number = int(random.integers(len(self.censuses)))
        shape = self.censuses[number].shape
        return number, tuple(
            int(random.integers(max(0, size - patch) + 1)) for size, patch in zip(shape, self.patch_size, strict=True)
        )

    def _around(self, label: int, random: np.random.Generator) -> tuple[int, tuple[int, ...]]:
        """A window with a pixel of that label in its centre, or a patch that holds such a pixel anywhere."""
        number = int(random.choice(self.cases_with[label]))
        census = self.censuses[number]
        position = census.positions[label][random.integers(len(census.positions[label]))]
        if self.window:
            return number, tuple(int(value) - size // 2 for value, size in zip(position, self.patch_size, strict=True))
        starts = (int(value) - int(random.integers(size)) for value, size in zip(position, self.patch_size, strict=True))
        limits = (max(0, size - patch) for size, patch in zip(census.shape, self.patch_size, strict=True))
        return number, tuple(min(max(start, 0), limit) for start, limit in zip(starts, limits, strict=True))


Drawn = tuple[NDArray[np.float64], NDArray[np.int64]]


def _keep_lowest(drawn: Drawn, keys: NDArray[np.float64], positions: NDArray[np.int64]) -> Drawn:
    """The positions with the lowest random keys: a uniform draw without replacement, however many blocks there are."""
    keys, positions = np.concatenate([drawn[0], keys]), np.concatenate([drawn[1], positions])
    lowest = np.argsort(keys)[:POSITIONS_KEPT]
    return keys[lowest], positions[lowest]
