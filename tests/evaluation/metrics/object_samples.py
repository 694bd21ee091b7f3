"""Small random arrays of numbered objects, which overlap, touch, or lie apart."""

from collections.abc import Iterator

import numpy as np

Objects = np.ndarray


def random_objects(cases: int = 200) -> Iterator[tuple[Objects, Objects, tuple[float, ...]]]:
    """Yield masks and references (*S) in 2D and 3D with 0 to 5 objects, with a spacing in micrometres."""
    for seed in range(cases):
        random = np.random.default_rng(seed)
        shape = (14, 17) if seed % 2 else (4, 9, 8)
        reference = np.zeros(shape, np.uint32)
        mask = np.zeros(shape, np.uint32)
        for number in range(1, random.integers(0, 6) + 1):
            box = random_box(random, shape)
            reference[box] = 10 * number
            shift = random.integers(-1, 2, len(shape))
            if random.random() < 0.8:
                mask[tuple(slice(max(0, part.start + by), part.stop + by) for part, by in zip(box, shift, strict=True))] = (
                    number
                )
        if random.random() < 0.4:
            mask[random_box(random, shape)] = 77
        yield mask, reference, (2.0, 0.5) if seed % 2 else (3.0, 1.0, 0.5)


def random_box(random: np.random.Generator, shape: tuple[int, ...]) -> tuple[slice, ...]:
    starts = [int(random.integers(0, size - 1)) for size in shape]
    return tuple(slice(start, start + int(random.integers(1, 7))) for start in starts)


def renumbered(objects: Objects, seed: int = 0) -> Objects:
    """Return the same objects with other numbers, in another order."""
    numbers = np.unique(objects[objects > 0])
    others = np.random.default_rng(seed).permutation(3 * np.arange(1, numbers.size + 1))
    result = np.zeros_like(objects)
    for number, other in zip(numbers, others, strict=True):
        result[objects == number] = other
    return result
