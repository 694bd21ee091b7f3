"""Targets of the loss: by head, with ignored pixels, with weights between objects."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from configs import schema
from configs.schema import Config
from training.objective.border_weights import border_weights
from training.objective.encodings import IGNORED
from training.objective.targets import Targets, empty_targets
from transforms.augment import make_augment

THREE = "data.classes=[{name: a, colour: '#000000'}, {name: b, colour: '#111111'}, {name: c, colour: '#222222'}]"
VALUE = "data.classes=[{name: fat, colour: '#000000'}]"
LABELS = np.array([[[0, 1, 2], [9, 0, 1]]], np.uint8)
INSIDE = np.array([[True, True, True], [True, True, False]])


def config_of(*overrides: str, method: str = "unet") -> Config:
    return schema.load(Path(f"configs/histology_{method}.yaml"), list(overrides))


def test_labels() -> None:
    reference, weights = Targets(config_of(THREE, "data.ignore_label=9"))(LABELS, INSIDE)
    assert reference.dtype == torch.int64
    assert reference.tolist() == [[0, 1, 2], [IGNORED, 0, IGNORED]]
    assert weights.shape == (0,)
    assert LABELS[0, 1, 2] == 1  # the input is not changed


def test_classes_that_overlap_have_a_channel_each() -> None:
    channels = np.array([[[1, 0], [9, 1]], [[1, 1], [0, 0]]], np.uint8)
    reference, _ = Targets(config_of(THREE, "head.kind=multi_label", "data.ignore_label=9"))(channels)
    assert reference.tolist() == [[[1, 0], [IGNORED, 1]], [[1, 1], [0, 0]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_values(dtype: type) -> None:
    reference, weights = Targets(config_of(VALUE, "head.kind=regression", "data.ignore_label=9"))(LABELS.astype(dtype), INSIDE)
    assert reference.dtype == torch.float32
    assert reference.nan_to_num(-1).tolist() == [[0, 1, 2], [-1, 0, -1]]
    assert weights.shape == (0,)


def test_the_centre_of_a_window() -> None:
    labels = np.arange(35 * 35).reshape(1, 35, 35) % 2
    config = config_of("loss.border_weight=10", method="sliding_window")
    reference, weights = Targets(config)(labels)
    assert (reference.shape, reference.item()) == ((), labels[0, 17, 17])
    objects = np.zeros((1, 35, 35), np.uint8)
    objects[0, 16, 17] = objects[0, 18, 17] = 1
    reference, weights = Targets(config)(objects)
    assert (reference.item(), weights.shape) == (0, ())
    assert weights.item() == pytest.approx(10 * math.exp(-4 / 50), rel=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_numbers_of_objects_become_a_class_and_weights(dtype: type) -> None:
    """Two pieces of one number are one object, unlike two connected components."""
    numbers = np.array([[[200, 0, 200, 0, 7, 255]]], dtype)
    config = config_of("data.instances=true", "data.ignore_label=255", "loss.border_weight=10")
    reference, weights = Targets(config)(numbers)
    assert reference.tolist() == [[1, 0, 1, 0, 1, IGNORED]]
    expected = border_weights(np.array([[1, 0, 1, 0, 2, 0]]), 10, 5)
    np.testing.assert_array_equal(weights.numpy(), expected)
    assert weights[0, 1] < weights[0, 3]


def test_without_numbers_connected_pieces_are_the_objects() -> None:
    labels = np.array([[[1, 0, 1, 0, 2, 0]]], np.uint8)
    _, weights = Targets(config_of(THREE, "loss.border_weight=10"))(labels)
    np.testing.assert_array_equal(weights.numpy(), border_weights(np.array([[1, 0, 2, 0, 3, 0]]), 10, 5))


@pytest.mark.parametrize(
    "overrides",
    [
        (THREE,),
        (THREE, "loss.border_weight=1"),
        (THREE, "head.kind=multi_label"),
        (VALUE, "head.kind=regression"),
        ("sliding_window", "loss.border_weight=1"),
        ("sliding_window",),
    ],
)
def test_empty_targets_have_the_same_shape_and_type(overrides: tuple[str, ...]) -> None:
    method = "sliding_window" if overrides[0] == "sliding_window" else "unet"
    config = config_of(*(word for word in overrides if "=" in word), "trainer.batch_size=2", method=method)
    channels = 2 if "head.kind=multi_label" in overrides else 1
    targets = Targets(config)(np.zeros((channels, *config.patch_size), np.uint8))
    for empty, target in zip(empty_targets(config, torch.device("meta")), targets, strict=True):
        assert (empty.shape, empty.dtype) == ((2, *target.shape), target.dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_augmentation_moves_numbers_and_values_without_new_ones(dtype: type) -> None:
    config = config_of("augment.probability=1", "augment.elastic_px=3")
    reference = np.arange(2 * 40 * 40).reshape(2, 40, 40).astype(dtype)
    augment = make_augment(config.augment, 2)
    moved = augment(np.zeros((3, 40, 40), np.float32), reference, np.random.default_rng(0)).reference
    assert (moved.shape, moved.dtype) == (reference.shape, dtype)
    assert not np.array_equal(moved, reference)
    assert set(np.unique(moved)) <= set(np.unique(reference))
    if dtype == np.int32:
        np.testing.assert_array_equal(moved[1], moved[0] + 1600)  # all channels move alike
