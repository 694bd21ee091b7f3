"""Agreement of two methods' masks with each other, band by band and without the reference."""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from evaluation.comparison.result import Agreement
from evaluation.metrics.overlap import Counts, confusion, overlaps_from_counts
from imaging.source import ImageSource

BAND_PX = 2**22


def count_agreements(masks: Sequence[ImageSource], classes: int) -> list[Counts]:
    """Return the confusion matrix (K, K) of every pair of one case's masks, in the order of `itertools.combinations`.

    Args:
        masks: labels (1, *S) of each method.
        classes: K, background included.
    """
    shape = masks[0].shape
    counts = [np.zeros((classes, classes), np.int64) for _ in combinations(masks, 2)]
    rows = max(1, BAND_PX // math.prod(shape[1:]))
    for start in range(0, shape[0], rows):
        region = (slice(start, min(start + rows, shape[0])), *(slice(0, size) for size in shape[1:]))
        bands = [mask.read(region)[0] for mask in masks]
        for index, (first, second) in enumerate(combinations(bands, 2)):
            counts[index] += confusion(second, first, classes)
    return counts


def agreements_of(counts: Sequence[Sequence[Counts]], methods: int) -> tuple[Agreement, ...]:
    """Return the agreement of every pair of methods.

    Args:
        counts: for each case the confusion matrices of all pairs, see `count_agreements`.
        methods: number of methods.
    """
    agreements = []
    for index, (first, second) in enumerate(combinations(range(methods), 2)):
        of_cases = [case[index] for case in counts]
        pixels = sum(int(matrix.sum()) for matrix in of_cases)
        agreements.append(
            Agreement(
                first=first,
                second=second,
                equal=tuple(int(matrix.trace()) / int(matrix.sum()) for matrix in of_cases),
                dice=tuple(overlaps_from_counts(matrix).macro_dice for matrix in of_cases),
                equal_pixels=sum(int(matrix.trace()) for matrix in of_cases) / pixels if pixels else math.nan,
            )
        )
    return tuple(agreements)
