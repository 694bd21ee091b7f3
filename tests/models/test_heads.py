"""Heads: probabilities and masks, and that they are consistent."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.special import logit

from configs import schema
from models.errors import BundleError
from models.head import Head
from models.heads import HEADS, check_gives_masks, make_head

EXCLUSIVE = ("softmax", "one_hot", "soft_label", "cumulative", "sigmoid")
OUTPUTS = {"softmax": 4, "one_hot": 4, "soft_label": 1, "cumulative": 3, "multi_label": 3, "sigmoid": 1}


def head_of(name: str) -> Head:
    return HEADS[name](2 if name == "sigmoid" else 4)


def column(*probabilities: float) -> NDArray[np.float32]:
    """Return the logits (R, 1) of one pixel with these outputs."""
    return logit(np.array(probabilities, np.float32))[:, None]


@pytest.mark.parametrize("name", OUTPUTS)
@given(data=st.data())
def test_probabilities_and_mask(name: str, data: st.DataObject) -> None:
    """Check that probabilities are float32 with one per class, and sum to 1 unless classes overlap."""
    head = head_of(name)
    assert head.outputs == OUTPUTS[name]
    logits = data.draw(arrays(np.float32, (head.outputs, 2, 3), elements=st.floats(-8, 8, width=32)))
    probabilities, mask = head.probabilities(logits), head.mask(logits)
    assert (probabilities.shape, probabilities.dtype) == ((head.classes, 2, 3), np.float32)
    assert (mask.shape, mask.dtype) == ((2, 3), np.uint8)
    assert probabilities.min() >= -1e-6
    if name in EXCLUSIVE:
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    if name == "cumulative":  # the median
        below = np.cumsum(probabilities, axis=0)
        assert (np.take_along_axis(below, mask[None].astype(int), 0) >= 0.5 - 1e-5).all()
    elif name != "multi_label":  # the likeliest
        np.testing.assert_allclose(np.take_along_axis(probabilities, mask[None].astype(int), 0)[0], probabilities.max(axis=0))


@pytest.mark.parametrize("name", OUTPUTS)
@given(data=st.data())
def test_uncertainty_is_a_share_of_the_most(name: str, data: st.DataObject) -> None:
    head = head_of(name)
    logits = data.draw(arrays(np.float32, (head.outputs, 2, 3), elements=st.floats(-8, 8, width=32)))
    found = head.uncertainty(logits)
    assert (found.shape, found.dtype) == ((2, 3), np.float32)
    assert -1e-6 <= found.min() <= found.max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("name", "logits", "expected"),
    [
        ("softmax", [[5.0], [5.0], [5.0], [5.0]], 1.0),
        ("softmax", [[0.0], [0.0], [-100.0], [-100.0]], 0.5),  # a coin, of two coins that are most
        ("softmax", [[100.0], [0.0], [0.0], [0.0]], 0.0),
        ("sigmoid", [[0.0]], 1.0),
        ("sigmoid", [[-100.0]], 0.0),
        ("multi_label", [[100.0], [0.0], [-100.0]], 1.0),  # nothing is known of the second class
        ("multi_label", [[100.0], [100.0], [-100.0]], 0.0),
    ],
)
def test_uncertainty_of_what_is_known(name: str, logits: list[list[float]], expected: float) -> None:
    assert head_of(name).uncertainty(np.array(logits, np.float32))[0] == pytest.approx(expected, abs=1e-6)


def test_a_sigmoid_is_a_softmax_of_two_with_one_at_0() -> None:
    logits = np.linspace(-5, 5, 7, dtype=np.float32)[None]
    both = np.concatenate([np.zeros_like(logits), logits])
    np.testing.assert_allclose(HEADS["sigmoid"](2).probabilities(logits), HEADS["softmax"](2).probabilities(both), rtol=1e-5)
    np.testing.assert_array_equal(HEADS["sigmoid"](2).mask(logits), HEADS["softmax"](2).mask(both))


@pytest.mark.parametrize(
    ("outputs", "label", "background"),
    [((0.2, 0.4, 0.3), 0, 0.6), ((0.6, 0.9, 0.7), 2, 0.1), ((0.8, 0.8, 0.1), 1, 0.2), ((0.5, 0.5, 0.5), 0, 0.5)],
)
def test_classes_that_overlap(outputs: tuple[float, ...], label: int, background: float) -> None:
    head = head_of("multi_label")
    assert head.mask(column(*outputs)).tolist() == [label]
    assert head.probabilities(column(*outputs))[:, 0].tolist() == pytest.approx([background, *outputs])


@pytest.mark.parametrize(
    ("output", "grade", "probabilities"),
    [
        (0, 0, (1, 0, 0, 0)),
        (0.25, 1, (0.25, 0.75, 0, 0)),
        (0.5, 1, (0, 0.5, 0.5, 0)),
        (0.6, 2, (0, 0.2, 0.8, 0)),
        (1, 3, (0, 0, 0, 1)),
    ],
)
def test_soft_labels_go_to_the_nearest_grade(output: float, grade: int, probabilities: tuple[float, ...]) -> None:
    with np.errstate(divide="ignore"):
        logits = column(output)
    assert head_of("soft_label").mask(logits).tolist() == [grade]
    assert head_of("soft_label").probabilities(logits)[:, 0].tolist() == pytest.approx(probabilities, abs=1e-6)


@pytest.mark.parametrize(
    ("outputs", "grade", "probabilities"),
    [
        ((0.9, 0.6, 0.2), 2, (0.1, 0.3, 0.4, 0.2)),
        ((0.2, 0.6, 0.9), 2, (0.1, 0.3, 0.4, 0.2)),  # out of order: as if in order
        ((0.4, 0.3, 0.1), 0, (0.6, 0.1, 0.2, 0.1)),
        ((0.9, 0.5, 0.1), 1, (0.1, 0.4, 0.4, 0.1)),  # between two grades: the lower one
    ],
)
def test_cumulative_outputs_count_grades(outputs: tuple[float, ...], grade: int, probabilities: tuple[float, ...]) -> None:
    head = head_of("cumulative")
    assert head.mask(column(*outputs)).tolist() == [grade]
    assert head.probabilities(column(*outputs))[:, 0].tolist() == pytest.approx(probabilities, abs=1e-6)


def test_shares_put_back_into_the_outputs() -> None:
    """Check p' = p*pi/.5 / (p*pi/.5 + (1-p)*(1-pi)/.5) for both heads of two classes; values don't change."""
    prior, p = 0.1, 0.7
    wanted = p * prior / (p * prior + (1 - p) * (1 - prior))
    one = column(p) + HEADS["sigmoid"](2).shift((1 - prior, prior))[:, None]
    two = np.array([[0], logit([p])]) + HEADS["softmax"](2).shift((1 - prior, prior))[:, None]
    assert HEADS["sigmoid"](2).probabilities(one)[1, 0] == pytest.approx(wanted)
    assert HEADS["softmax"](2).probabilities(two)[1, 0] == pytest.approx(wanted)
    assert HEADS["regression"](1).shift((1.0,)).tolist() == [0]
    assert np.isfinite(HEADS["softmax"](2).shift((1.0, 0.0))).all()


def test_values() -> None:
    logits = np.array([[[0, 2.5]]], np.float32)
    assert HEADS["regression"](1).values(logits).tolist() == [[0, 2.5]]
    assert HEADS["unit_regression"](1).values(logits)[0].tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-2.5))])
    assert HEADS["unit_regression"](1).values(logits).dtype == np.float32


def test_what_a_head_does_not_give() -> None:
    logits = np.zeros((1, 2, 2), np.float32)
    with pytest.raises(BundleError, match="the bundle gives values and no mask; overtile predict writes them as a map"):
        HEADS["regression"](1).mask(logits)
    with pytest.raises(BundleError, match="gives values and no probabilities of classes; leave probabilities out"):
        HEADS["unit_regression"](1).probabilities(logits)
    with pytest.raises(BundleError, match="the bundle gives classes and no values; write masks or probabilities"):
        HEADS["softmax"](2).values(logits)


def test_the_config_s_head() -> None:
    overrides = ["head.kind=ordinal", "head.encoding=cumulative"]
    assert make_head(schema.load(Path("configs/mri_unet.yaml"), overrides)).outputs == 2
    overrides = ["data.classes=[{name: fat, colour: '#ffffff'}]", "head.kind=regression", "run.name=fatness"]
    with pytest.raises(BundleError, match="fatness gives values of fat and no masks; overtile predict writes them as maps"):
        check_gives_masks(schema.load(Path("configs/mri_unet.yaml"), overrides))
