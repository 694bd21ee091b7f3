"""Temperatures: a known factor is found again, and the calibration error falls on pixels that were not fitted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, softmax

from evaluation.calibration.diagram import reliability_diagram
from evaluation.calibration.temperature import LIMITS, fit_temperature, reliability
from evaluation.rendering import DARK, LIGHT
from models.calibration import Calibration, ensemble_calibration
from models.head import Head
from models.heads import HEADS
from tests.calibrations import calibration
from tests.calibrations import reliability as some_reliability

NAMES = ("softmax", "one_hot", "sigmoid", "multi_label", "cumulative")
PIXELS = 20_000


def head_of(name: str, temperature: float = 1.0) -> Head:
    return HEADS[name](2 if name == "sigmoid" else 4, temperature)


def draw(name: str, seed: int, pixels: int = PIXELS) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return logits (R, N) that are perfectly calibrated, and labels that are drawn from their probabilities."""
    random, outputs = np.random.default_rng(seed), head_of(name).outputs
    if name == "cumulative":  # a place between thresholds, seen with logistic noise
        place, thresholds = random.normal(0, 2, pixels), np.array([-1.5, 0, 1])[:, None]
        labels = (place + random.logistic(size=pixels) > thresholds).sum(axis=0)[None]
        return (place - thresholds).astype(np.float32), labels
    logits = random.normal(0, 2, (outputs, pixels)).astype(np.float32)
    if name in ("softmax", "one_hot"):
        below = np.cumsum(softmax(logits, axis=0), axis=0)
        return logits, (random.random(pixels) > below[:-1]).sum(axis=0)[None]
    return logits, (random.random(logits.shape) < expit(logits)).astype(np.int64)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [0.4, 1.0, 1.7, 6.0])
def test_a_known_factor_is_the_temperature(name: str, factor: float) -> None:
    logits, labels = draw(name, 1)
    assert fit_temperature(head_of(name), np.float32(factor) * logits, labels) == pytest.approx(factor, rel=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_error_and_likelihood_improve_on_pixels_that_were_not_fitted(name: str) -> None:
    """Check logits that are 3 times too large, which is what an overfitted network's look like."""
    (fitted, labels), (unseen, unseen_labels) = draw(name, 2), draw(name, 3)
    temperature = fit_temperature(head_of(name), 3 * fitted, labels)
    before = reliability(head_of(name), 3 * unseen, unseen_labels)
    after = reliability(head_of(name, temperature), 3 * unseen, unseen_labels)
    assert after.ece < 0.2 * before.ece
    assert after.ece < 0.02
    assert after.nll < before.nll
    assert after.brier < before.brier
    assert sum(after.pixels) == sum(before.pixels) == unseen_labels.size


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), factor=st.floats(0.3, 10))
def test_the_fit_scales_with_the_logits(seed: int, factor: float) -> None:
    logits, labels = draw("softmax", seed, 500)
    plain = fit_temperature(head_of("softmax"), logits, labels)
    scaled = fit_temperature(head_of("softmax"), np.float32(factor) * logits, labels)
    assert scaled == pytest.approx(np.clip(factor * plain, *LIMITS), rel=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_pixels_that_are_all_right_or_all_wrong_give_a_limit(name: str) -> None:
    head = head_of(name)
    logits = draw(name, 4, 200)[0]
    mask = head.mask(logits).astype(np.int64)[None]
    right = (logits > 0).astype(np.int64) if name == "multi_label" else mask
    assert fit_temperature(head, logits, right) == pytest.approx(LIMITS[0], rel=1e-2)
    wrong = 1 - right if name == "multi_label" else (mask + head.classes // 2) % head.classes
    assert fit_temperature(head, logits, wrong) > 4


def test_typed_out_reliability() -> None:
    """Check two pixels of .9, one of which is right, and one of .6 that is right."""
    odds = np.array([[9, 9, 1.5]])
    found = reliability(head_of("sigmoid"), np.log(odds).astype(np.float32), np.array([[1, 0, 1]]))
    assert found.ece == pytest.approx((2 * abs(0.5 - 0.9) + abs(1 - 0.6)) / 3, abs=1e-6)
    assert found.nll == pytest.approx(-np.log([0.9, 0.1, 0.6]).mean(), abs=1e-6)
    assert found.brier == pytest.approx(2 * (0.1**2 + 0.9**2 + 0.4**2) / 3, abs=1e-6)
    assert [(number, pixels) for number, pixels in enumerate(found.pixels) if pixels] == [(8, 1), (13, 2)]
    assert found.accuracy[13] == 0.5
    assert found.confidence[8] == pytest.approx(0.6, abs=1e-6)


def test_the_bins_of_several_networks_are_added() -> None:
    parts = [reliability(head_of("softmax"), *draw("softmax", seed, 300 * (seed + 1))) for seed in range(3)]
    logits, labels = (
        np.concatenate(arrays, axis=1)
        for arrays in zip(*(draw("softmax", seed, 300 * (seed + 1)) for seed in range(3)), strict=True)
    )
    together = reliability(head_of("softmax"), logits, labels)
    members = [
        Calibration(temperature=temperature, low_confidence=low, cases=2, pixels=sum(part.pixels), before=part, after=part)
        for part, temperature, low in zip(parts, (1.0, 2.0, 4.0), (0.8, 0.7, 0.9), strict=True)
    ]
    pooled = ensemble_calibration(members)
    assert (pooled.temperature, pooled.low_confidence, pooled.cases) == (pytest.approx(2), 0.7, 6)
    assert pooled.before.pixels == together.pixels
    for name in ("ece", "nll", "brier", "confidence", "accuracy"):
        assert getattr(pooled.before, name) == pytest.approx(getattr(together, name), abs=1e-9)
    assert ensemble_calibration([calibration(2, None), calibration(2, 0.5)]).low_confidence is None


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_the_diagram_is_a_picture(scheme) -> None:  # type: ignore[no-untyped-def]
    logits, labels = draw("softmax", 2)
    fitted = calibration(3).model_copy(
        update={
            "before": reliability(head_of("softmax"), 3 * logits, labels),
            "after": reliability(head_of("softmax", 3), 3 * logits, labels),
        }
    )
    assert reliability_diagram(fitted, scheme).startswith(b"\x89PNG")
    assert reliability_diagram(fitted.model_copy(update={"after": some_reliability(0.1)}), scheme) != reliability_diagram(
        fitted, scheme
    )
