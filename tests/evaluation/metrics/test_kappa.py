"""Weighted kappa against a count by hand, against scikit-learn, and where it is undefined."""

from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import cohen_kappa_score

from evaluation.metrics.kappa import quadratic_weighted_kappa
from evaluation.metrics.overlap import confusion

tables = st.integers(2, 5).flatmap(lambda k: hnp.arrays(np.int64, (k, k), elements=st.integers(0, 9)))


def test_a_table_counted_by_hand() -> None:
    counts = np.array([[2, 1, 0], [0, 1, 0], [1, 0, 1]])
    # sum(w O) = 1 + 4 = 5; rows 3 1 2, columns 3 2 1: sum(w E) = (3*2*1 + 3*1*4 + 1*3*1 + 1*1*1 + 2*3*4 + 2*2*1) / 6
    assert quadratic_weighted_kappa(counts) == pytest.approx(1 - 5 / (50 / 6))


def test_two_classes_give_the_plain_kappa() -> None:
    assert quadratic_weighted_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)  # (.7 - .5) / (1 - .5)


def test_perfect_and_opposite_agreement() -> None:
    assert quadratic_weighted_kappa(np.diag([3, 1, 3])) == 1
    assert quadratic_weighted_kappa(np.array([[0, 4], [4, 0]])) == -1


@pytest.mark.parametrize("counts", [np.zeros((3, 3), np.int64), np.diag([0, 5, 0]), np.array([[4]])])
def test_without_disagreement_by_chance_it_is_undefined(counts: np.ndarray) -> None:
    assert isnan(quadratic_weighted_kappa(counts))


@settings(deadline=None)
@given(tables)
def test_it_is_scikit_learns_with_every_class_named(counts: np.ndarray) -> None:
    found = quadratic_weighted_kappa(counts)
    if isnan(found):
        return
    rows, columns = (np.repeat(axis.ravel(), counts.ravel()) for axis in np.indices(counts.shape))
    labels = range(len(counts))
    assert found == pytest.approx(cohen_kappa_score(rows, columns, labels=list(labels), weights="quadratic"), abs=1e-12)
    assert (confusion(columns, rows, len(counts)) == counts).all()


@settings(deadline=None)
@given(tables)
def test_it_takes_no_side_and_a_class_that_never_occurs_changes_nothing(counts: np.ndarray) -> None:
    found = quadratic_weighted_kappa(counts)
    np.testing.assert_allclose(quadratic_weighted_kappa(counts.T), found, atol=1e-12)
    np.testing.assert_allclose(quadratic_weighted_kappa(counts[::-1, ::-1]), found, atol=1e-12)
    np.testing.assert_allclose(quadratic_weighted_kappa(np.pad(counts, (0, 2))), found, atol=1e-12)
