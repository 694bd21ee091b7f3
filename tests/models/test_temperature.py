"""Temperatures: they change probabilities and uncertainty as divided logits do, and no mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.head import Head
from models.heads import HEADS, pooled_head

OUTPUTS = {"softmax": 4, "one_hot": 4, "soft_label": 1, "cumulative": 3, "multi_label": 3, "sigmoid": 1}
TEMPERATURES = st.floats(0.25, 20)


def head_of(name: str, temperature: float = 1.0, low_confidence: float | None = None) -> Head:
    return HEADS[name](2 if name == "sigmoid" else 4, temperature, low_confidence)


@pytest.mark.parametrize("name", OUTPUTS)
@given(data=st.data(), temperature=TEMPERATURES)
def test_a_temperature_changes_no_mask_no_value_no_mean_and_no_shift(
    name: str, data: st.DataObject, temperature: float
) -> None:
    raw, head = head_of(name), head_of(name, temperature)
    logits = data.draw(arrays(np.float32, (2, OUTPUTS[name], 2, 3), elements=st.floats(-30, 30, width=32)))
    assert head.mask(logits[0]).tobytes() == raw.mask(logits[0]).tobytes()
    assert head.mean(logits).tobytes() == raw.mean(logits).tobytes()
    assert head.nothing.tobytes() == raw.nothing.tobytes()
    prior = np.full(head.classes, 1 / head.classes)
    assert np.array_equal(head.shift(prior), raw.shift(prior))


@pytest.mark.parametrize("name", [name for name in OUTPUTS if name != "soft_label"])
@given(data=st.data(), temperature=TEMPERATURES)
def test_probabilities_are_those_of_the_divided_logits(name: str, data: st.DataObject, temperature: float) -> None:
    raw, head = head_of(name), head_of(name, temperature)
    logits = data.draw(arrays(np.float32, (OUTPUTS[name], 2, 3), elements=st.floats(-30, 30, width=32)))
    divided = (logits / np.float32(temperature)).astype(np.float32)
    np.testing.assert_allclose(head.probabilities(logits), raw.probabilities(divided), atol=1e-6)
    np.testing.assert_allclose(head.uncertainty(logits), raw.uncertainty(divided), atol=1e-5)
    assert head.probabilities(logits).dtype == np.float32


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "multi_label"])
@given(data=st.data(), temperature=TEMPERATURES)
def test_the_mask_is_the_likeliest_class_of_the_calibrated_probabilities(
    name: str, data: st.DataObject, temperature: float
) -> None:
    head = head_of(name, temperature)
    logits = data.draw(arrays(np.float32, (OUTPUTS[name], 2, 3), elements=st.floats(-30, 30, width=32)))
    probabilities = head.probabilities(logits)
    of_mask = np.take_along_axis(probabilities, head.mask(logits)[None].astype(int), 0)[0]
    np.testing.assert_allclose(of_mask, probabilities.max(axis=0), atol=1e-6)


def test_typed_out() -> None:
    """Check that odds of 3 : 1 become odds of sqrt(3) : 1 with temperature 2."""
    logits = np.log(np.array([[3.0], [1.0]]))
    share = 3**0.5 / (3**0.5 + 1)
    np.testing.assert_allclose(HEADS["softmax"](2, 2.0).probabilities(logits)[:, 0], [share, 1 - share])
    np.testing.assert_allclose(HEADS["sigmoid"](2, 2.0).probabilities(np.log([[3.0]]))[:, 0], [1 - share, share])


@pytest.mark.parametrize("name", OUTPUTS)
@given(data=st.data())
def test_a_temperature_of_one_gives_the_same_bytes(name: str, data: st.DataObject) -> None:
    head = head_of(name, 1.0, 0.9)
    logits = data.draw(arrays(np.float32, (OUTPUTS[name], 2, 3), elements=st.floats(-30, 30, width=32)))
    assert head.tempered(logits) is logits
    assert head.probabilities(logits).tobytes() == head_of(name).probabilities(logits).tobytes()


def test_a_place_between_the_classes_has_no_temperature() -> None:
    head, logits = head_of("soft_label", 3.0), np.array([[2.0]], np.float32)
    assert not head.has_temperature
    assert head.probabilities(logits).tobytes() == head_of("soft_label").probabilities(logits).tobytes()
    assert not HEADS["regression"].has_temperature


def test_several_heads_have_the_geometric_mean_temperature_and_the_lowest_threshold() -> None:
    pooled = pooled_head([head_of("softmax", 1.0, 0.8), head_of("softmax", 4.0, 0.7)])
    assert (pooled.temperature, pooled.low_confidence) == (pytest.approx(2), 0.7)
    assert pooled_head([head_of("softmax", 4.0, 0.7), head_of("softmax")]).low_confidence is None
    alike = [head_of("softmax", 1.7, 0.7) for _ in range(3)]
    assert pooled_head(alike) is alike[0]


def test_uncalibrated() -> None:
    head = head_of("multi_label", 4.0, 0.7).uncalibrated
    assert (head.classes, head.temperature, head.low_confidence) == (4, 1.0, None)
