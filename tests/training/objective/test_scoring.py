"""Scores of a case: compared with counts by hand, independent of bands and of ignored pixels."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from configs import schema
from configs.schema import Config
from evaluation.metrics.classification import quadratic_weighted_kappa
from evaluation.metrics.overlap import confusion
from training.objective.scoring import make_score

ENTRIES = [f"{{name: c{label}, colour: '#00000{label}'}}" for label in range(4)]


def config_of(kind: str, classes: int, *overrides: str) -> Config:
    return schema.load(
        Path("configs/histology_unet.yaml"), [f"data.classes=[{', '.join(ENTRIES[:classes])}]", f"head.kind={kind}", *overrides]
    )


def score_of(config: Config, logits: NDArray[np.float32], reference: NDArray[np.generic], *cuts: int) -> float:
    score = make_score(config)
    for start, stop in zip((0, *cuts), (*cuts, logits.shape[1]), strict=True):
        score.add(logits[:, start:stop], reference[:, start:stop])
    return score.value()


KINDS = [("softmax", 3), ("sigmoid", 2), ("multi_label", 3), ("ordinal", 4), ("regression", 1), ("unit_regression", 1)]


@settings(max_examples=10, deadline=None)
@given(cut=st.integers(1, 11), seed=st.integers(0, 99), kind=st.sampled_from(KINDS))
def test_neither_bands_nor_ignored_pixels_change_the_score(cut: int, seed: int, kind: tuple[str, int]) -> None:
    name, classes = kind
    config, random = config_of(name, classes, "data.ignore_label=9"), np.random.default_rng(seed)
    logits = random.normal(size=(make_score(config).head.outputs, 12, 5)).astype(np.float32)
    reference = random.integers(0, classes, (1, 12, 5)) if classes > 1 else random.random((1, 12, 5))
    if name == "multi_label":
        reference = random.integers(0, 2, (2, 12, 5))
    whole = score_of(config, logits, reference)
    assert score_of(config, logits, reference, cut) == pytest.approx(whole)
    more = np.concatenate([logits, -logits], axis=1), np.concatenate([reference, np.full_like(reference, 9)], axis=1)
    assert score_of(config, *more) == pytest.approx(whole)


def test_dice_of_classes_that_overlap() -> None:
    """The first class: TP 1, FP 1; the second: FN 1; the third nowhere."""
    logits = np.array([[[1, 1, -1]], [[-1, -1, -1]], [[-1, -1, -1]]], np.float32)
    reference = np.array([[[1, 0, 0]], [[1, 0, 0]], [[0, 0, 0]]])
    score = make_score(config_of("multi_label", 4))
    assert score.name == "dice"
    assert score_of(config_of("multi_label", 4), logits, reference) == pytest.approx((2 / 3 + 0) / 2)


def test_grades_by_kappa() -> None:
    random = np.random.default_rng(0)
    logits, reference = random.normal(size=(1, 20, 20)).astype(np.float32), random.integers(0, 3, (1, 20, 20))
    config = config_of("ordinal", 4)
    mask = make_score(config).head.mask(logits)
    expected = quadratic_weighted_kappa(confusion(mask, reference[0], 4))
    assert score_of(config, logits, reference) == pytest.approx(expected)
    assert make_score(config).name == "quadratic_kappa"


def test_values_by_explained_variance() -> None:
    random = np.random.default_rng(0)
    logits, reference = random.normal(size=(1, 20, 20)).astype(np.float32), 1e3 + random.random((1, 20, 20))
    config = config_of("regression", 1)
    expected = 1 - ((1e3 + logits - reference) ** 2).mean() / reference.var()
    assert score_of(config, 1e3 + logits, reference, 7) == pytest.approx(expected, rel=1e-3)
    assert make_score(config).name == "r2"


def test_cases_without_foreground_or_variance_have_no_score() -> None:
    nothing = -np.ones((1, 2, 2), np.float32)
    for kind, classes in (("sigmoid", 2), ("multi_label", 2), ("ordinal", 2), ("regression", 1)):
        assert math.isnan(score_of(config_of(kind, classes), nothing, np.zeros((1, 2, 2), np.uint8)))
