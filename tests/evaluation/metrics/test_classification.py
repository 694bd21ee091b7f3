"""Scores of images' labels and weighted kappa: by hand, against scikit-learn, and where they are undefined."""

from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, recall_score, roc_auc_score

from evaluation.metrics.classification import (
    LabelledImages,
    accuracy,
    area_under_curve,
    balanced_accuracy,
    quadratic_weighted_kappa,
    weighted_f1,
)
from evaluation.metrics.overlap import confusion

labelled_pairs = st.integers(2, 5).flatmap(
    lambda k: st.tuples(st.just(k), st.lists(st.tuples(*[st.integers(0, k - 1)] * 2), min_size=1, max_size=30))
)

tables = st.integers(2, 5).flatmap(lambda k: hnp.arrays(np.int64, (k, k), elements=st.integers(0, 9)))


def test_a_table_counted_by_hand() -> None:
    # four images of the first label, of which one was given the second, and one of the second
    images = LabelledImages(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 1]), 2)
    assert accuracy(images) == 0.8
    assert balanced_accuracy(images) == pytest.approx((3 / 4 + 1) / 2)
    assert weighted_f1(images) == pytest.approx((4 * 6 / 7 + 1 * 2 / 3) / 5)
    assert isnan(area_under_curve(images))  # needs probabilities


def test_area_under_the_curve_counted_by_hand() -> None:
    probabilities = np.array([0.9, 0.3, 0.3, 0.1])
    images = LabelledImages(np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0]), 2, np.stack([1 - probabilities, probabilities], 1))
    assert area_under_curve(images) == pytest.approx((3 + 0.5) / 4)  # of four pairs three are in order, and one is equal


def test_a_label_that_no_image_has_is_left_out() -> None:
    images = LabelledImages(np.array([0, 2]), np.array([0, 1]), 3, np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3]]))
    assert balanced_accuracy(images) == 1 / 2
    assert area_under_curve(images) == 1
    assert isnan(area_under_curve(LabelledImages(np.array([1]), np.array([1]), 2, np.array([[0.2, 0.8]]))))


def test_without_images_they_are_undefined() -> None:
    nothing = LabelledImages(np.zeros(0, np.int64), np.zeros(0, np.int64), 2, np.zeros((0, 2)))
    assert all(isnan(score(nothing)) for score in (accuracy, balanced_accuracy, weighted_f1, area_under_curve))


@settings(deadline=None)
@given(labelled_pairs)
def test_accuracies_and_f1_are_scikit_learns(case: tuple[int, list[tuple[int, int]]]) -> None:
    classes, pairs = case
    true, predicted = np.array(pairs).T
    images = LabelledImages(true, predicted, classes)
    assert accuracy(images) == pytest.approx(accuracy_score(true, predicted))
    expected = recall_score(true, predicted, labels=np.unique(true), average="macro")
    assert balanced_accuracy(images) == pytest.approx(expected)
    assert weighted_f1(images) == pytest.approx(f1_score(true, predicted, average="weighted", zero_division=0))


def test_area_under_the_curve_is_scikit_learns() -> None:
    for seed in range(200):
        random = np.random.default_rng(seed)
        classes = 2 + seed % 3
        true = np.concatenate([np.arange(classes), random.integers(0, classes, 20)])
        parts = random.multinomial(4, [1 / classes] * classes, true.size)  # quarters, so that some are equal
        images = LabelledImages(true, parts.argmax(axis=1), classes, parts / 4)
        expected = roc_auc_score(true, parts / 4 if classes > 2 else parts[:, 1], multi_class="ovr")
        assert area_under_curve(images) == pytest.approx(expected, abs=1e-6)


def test_kappa_of_a_table_counted_by_hand() -> None:
    counts = np.array([[2, 1, 0], [0, 1, 0], [1, 0, 1]])
    # sum(w O) = 1 + 4 = 5; rows 3 1 2, columns 3 2 1: sum(w E) = (3*2*1 + 3*1*4 + 1*3*1 + 1*1*1 + 2*3*4 + 2*2*1) / 6
    assert quadratic_weighted_kappa(counts) == pytest.approx(1 - 5 / (50 / 6))


def test_kappa_of_two_classes_is_the_plain_one() -> None:
    assert quadratic_weighted_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)  # (.7 - .5) / (1 - .5)


def test_kappa_of_perfect_and_opposite_agreement() -> None:
    assert quadratic_weighted_kappa(np.diag([3, 1, 3])) == 1
    assert quadratic_weighted_kappa(np.array([[0, 4], [4, 0]])) == -1


@pytest.mark.parametrize("counts", [np.zeros((3, 3), np.int64), np.diag([0, 5, 0]), np.array([[4]])])
def test_kappa_is_undefined_without_disagreement_by_chance(counts: np.ndarray) -> None:
    assert isnan(quadratic_weighted_kappa(counts))


@settings(deadline=None)
@given(tables)
def test_kappa_is_scikit_learns_with_every_class_named(counts: np.ndarray) -> None:
    kappa = quadratic_weighted_kappa(counts)
    if isnan(kappa):
        return
    rows, columns = (np.repeat(axis.ravel(), counts.ravel()) for axis in np.indices(counts.shape))
    labels = range(len(counts))
    assert kappa == pytest.approx(cohen_kappa_score(rows, columns, labels=list(labels), weights="quadratic"), abs=1e-12)
    assert (confusion(columns, rows, len(counts)) == counts).all()


@settings(deadline=None)
@given(tables)
def test_kappa_is_symmetric_and_ignores_a_class_that_never_occurs(counts: np.ndarray) -> None:
    kappa = quadratic_weighted_kappa(counts)
    np.testing.assert_allclose(quadratic_weighted_kappa(counts.T), kappa, atol=1e-12)
    np.testing.assert_allclose(quadratic_weighted_kappa(counts[::-1, ::-1]), kappa, atol=1e-12)
    np.testing.assert_allclose(quadratic_weighted_kappa(np.pad(counts, (0, 2))), kappa, atol=1e-12)
