"""Random pairs of small masks on which metrics are compared with other implementations."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SPACINGS = {2: (None, (0.5, 0.5), (0.7, 2.3)), 3: (None, (1.2, 1.2, 1.2), (3.0, 0.6, 0.9))}


class MaskPair(NamedTuple):
    """Mask and reference (*S) of one structure, in 2D or 3D; either may be empty."""

    mask: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    spacing_um: tuple[float, ...] | None


def random_pairs(count: int = 200) -> Iterator[MaskPair]:
    """Yield pairs of all densities: every second in 3D, and half of the references are the mask with some pixels changed."""
    random = np.random.default_rng(0)
    for number in range(count):
        axes = 2 + number % 2
        shape = tuple(random.integers(1, 15 if axes == 2 else 8, axes))
        mask = random.random(shape) < random.random()
        changed = random.random(shape) < random.random() ** 2
        reference = changed if random.random() < 0.5 else mask ^ changed
        yield MaskPair(mask, reference, SPACINGS[axes][number // 2 % 3])
