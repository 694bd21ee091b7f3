"""Accuracy and weighted F1 of labels of whole images, by hand and against scikit-learn."""

from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from evaluation.metrics.classification import accuracy, weighted_f1
from evaluation.metrics.overlap import confusion

said = st.integers(2, 5).flatmap(
    lambda k: st.tuples(st.just(k), st.lists(st.tuples(*[st.integers(0, k - 1)] * 2), min_size=1, max_size=30))
)


def test_a_table_counted_by_hand() -> None:
    counts = np.array([[3, 1], [0, 1]])  # four images of the first label, one of the second
    assert accuracy(counts) == 0.8
    assert weighted_f1(counts) == pytest.approx((4 * 6 / 7 + 1 * 2 / 3) / 5)


def test_of_no_images_nothing_is_known() -> None:
    assert isnan(accuracy(np.zeros((2, 2), np.int64)))
    assert isnan(weighted_f1(np.zeros((2, 2), np.int64)))


@settings(deadline=None)
@given(said)
def test_they_are_scikit_learns(case: tuple[int, list[tuple[int, int]]]) -> None:
    classes, pairs = case
    true, found = np.array(pairs).T
    counts = confusion(found, true, classes)
    assert accuracy(counts) == pytest.approx(accuracy_score(true, found))
    assert weighted_f1(counts) == pytest.approx(f1_score(true, found, average="weighted", zero_division=0))
