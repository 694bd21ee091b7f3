"""Kinds of labels where nobody declares classes: classes, numbers of objects, or labels whose meaning has to be asked for."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MANY_LABELS = 16  # in the median case; more may be numbers of objects
SOME_LABELS = 8  # over all cases; more may be numbers of objects where no case has a gap
MOST_CLASSES = 20  # over all cases; more may be numbers of objects
COMMON_SHARE = 0.8  # of the labels, which half of the cases have where labels are classes
ENOUGH_CASES = 5  # to call a label that few of them have an odd one
ODD_SHARE = 0.1  # largest share of the cases that have an odd label
IGNORE_LABELS = (255, 65535)  # that people give to pixels that nobody labelled


@dataclass(frozen=True)
class LabelKind:
    """Kind of the labels of a data set without declared classes.

    Args:
        labels: all labels in ascending order.
        number_objects: they number objects instead of classes.
        odd: labels that almost no case has, although many cases have others.
        unclear: label above classes without a gap that may be the label of ignored pixels; None where there is none.
    """

    labels: tuple[int, ...]
    number_objects: bool
    odd: tuple[int, ...] = ()
    unclear: int | None = None

    @property
    def has_gap(self) -> bool:
        """Return whether the labels of classes are not 0, 1, 2 ..; 0 itself may be missing."""
        labels = set(self.labels) - set(self.odd)
        return not self.number_objects and bool(labels - set(labels_without_gap(labels)))


def label_kind(counts: Sequence[Collection[int]]) -> LabelKind:
    """Return the kind of the labels.

    Args:
        counts: labels of each case, such as the mapping of labels to pixels.
    """
    cases_of = Counter(label for labels in counts for label in labels)
    labels = tuple(sorted(cases_of))
    if labels_number_objects(counts):
        return LabelKind(labels, number_objects=True)
    regular = labels_without_gap(cases_of)
    odd: tuple[int, ...] = ()
    if len(counts) >= ENOUGH_CASES:
        most_cases = max(1, ODD_SHARE * len(counts))
        odd = tuple(label for label in labels if label not in regular and cases_of[label] <= most_cases)
    others = [label for label in labels if label not in regular and label not in odd]
    unclear = others[0] if len(others) == 1 and others[0] in IGNORE_LABELS and regular.stop > 1 else None
    return LabelKind(labels, number_objects=False, odd=odd, unclear=unclear)


def labels_number_objects(counts: Sequence[Collection[int]]) -> bool:
    """Return whether labels number objects: there are many, and cases differ in how many they have, or in which.

    Fewer labels number objects if no case has a gap and most cases differ in how many they have: classes would leave gaps.
    """
    labels_of = [set(labels) - {0} for labels in counts if labels]
    cases_of = Counter(label for labels in labels_of for label in labels)
    is_gapless = all(len(labels) == max(labels, default=0) for labels in labels_of)
    sizes = {len(labels) for labels in labels_of}
    if is_gapless and len(cases_of) > SOME_LABELS and len(sizes) > max(2, len(labels_of) / 2):
        return True
    if len(cases_of) <= MOST_CLASSES and not (labels_of and np.median([len(labels) for labels in labels_of]) > MANY_LABELS):
        return False
    if len(labels_of) == 1:
        return True
    if is_gapless and len(sizes) > len(labels_of) / 4:
        return True
    common = sum(number >= len(labels_of) / 2 for number in cases_of.values())
    return common < COMMON_SHARE * len(cases_of)


def labels_without_gap(labels: Mapping[int, object] | Collection[int]) -> range:
    """Return the labels from 0 up to the first gap; 0 itself may be missing."""
    stop = 0
    while stop in labels or (stop == 0 and 1 in labels):
        stop += 1
    return range(stop)
