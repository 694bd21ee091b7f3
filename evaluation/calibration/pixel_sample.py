"""Sample of an image's pixels that is the same whatever the bands in which the image comes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class PixelSample:
    """Uniform sample, without replacement, of at most `most` chosen pixels of one image.

    Each pixel has a priority that is drawn from the seed and the number of its row; the pixels with the lowest priorities are
    the sample.

    Args:
        most: number of pixels that are kept.
        seed: number of the image.
    """

    def __init__(self, most: int, seed: int) -> None:
        self.most = most
        self.seed = seed
        self._limit = np.inf  # priority above which no pixel can be in the sample
        self._priorities: list[NDArray[np.float64]] = []
        self._values: list[Floats] = []
        self._buffered = 0

    @property
    def values(self) -> Floats:
        """Values of the pixels, (V, N), in the order of their priorities; (0, 0) if no rows were added."""
        self._prune()
        return self._values[0] if self._values else np.zeros((0, 0), np.float32)

    def add(self, first_row: int, values: NDArray[Any], is_chosen: NDArray[np.bool_]) -> None:
        """Add rows of the image, each once.

        Args:
            first_row: number of the first of these rows in the image.
            values: V values per pixel, (V, rows, *rest).
            is_chosen: the pixels that may be in the sample, (rows, *rest).
        """
        for row, chosen in enumerate(is_chosen):
            priorities = np.random.default_rng((self.seed, first_row + row)).random(chosen.shape)  # (*rest)
            candidates = chosen & (priorities < self._limit)
            self._priorities.append(priorities[candidates])
            self._values.append(values[:, row][:, candidates].astype(np.float32))
            self._buffered += self._priorities[-1].size
            if self._buffered > 2 * self.most:
                self._prune()

    def _prune(self) -> None:
        """Keep the pixels with the lowest priorities."""
        if not self._values:
            return
        priorities, values = np.concatenate(self._priorities), np.concatenate(self._values, axis=1)
        order = np.argsort(priorities)[: self.most]
        self._priorities, self._values, self._buffered = [priorities[order]], [values[:, order]], order.size
        if order.size == self.most:
            self._limit = self._priorities[0][-1]
