"""Losses, compared with figures computed by hand, with MONAI's, and with changes that must not affect them."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.losses import DiceCELoss, FocalLoss, TverskyLoss
from torch import Tensor

from configs import schema
from configs.schema import Config
from training.module import foreground_dice
from training.objective.boundary_distance import MAX_DISTANCE_PX, signed_border_distances
from training.objective.encodings import IGNORED
from training.objective.levels import crop_reference
from training.objective.losses import LOSSES, make_loss

EVEN = torch.empty(1, 0)  # every pixel counts alike
TWO = "[{name: a, colour: '#000000'}, {name: b, colour: '#111111'}]"
THREE = f"{TWO[:-1]}, {{name: c, colour: '#222222'}}]"
VALUE = "[{name: fat, colour: '#000000'}]"


def config_of(*overrides: str, classes: str = THREE) -> Config:
    return schema.load(Path("configs/histology_unet.yaml"), [f"data.classes={classes}", *overrides])


def windows_of(*overrides: str, classes: str = THREE) -> Config:
    return schema.load(Path("configs/histology_sliding_window.yaml"), [f"data.classes={classes}", *overrides])


def random_batch(outputs: int, classes: int, *shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (2, R, *shape) and labels (2, *shape)."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(2, outputs, *shape, generator=random), torch.randint(0, classes, (2, *shape), generator=random)


def test_cross_entropy_of_equal_logits_is_ln_of_the_number_of_classes() -> None:
    loss = make_loss(windows_of())
    assert loss([torch.zeros(4, 3)], torch.tensor([0, 1, 2, 1]), EVEN).item() == pytest.approx(math.log(3))


def test_dice_and_cross_entropy() -> None:
    loss = make_loss(schema.load(Path("configs/histology_unet.yaml")))
    reference = torch.tensor([[[0, 1], [1, 0]]])
    right = torch.stack([1 - reference, reference], dim=1) * 40.0 - 20
    assert loss([right], reference, EVEN).item() == pytest.approx(0, abs=1e-5)
    wrong = loss([-right], reference, EVEN).item()
    assert wrong == pytest.approx(1 + 40, rel=1e-3)  # Dice 0, and 40 nats a pixel


MONAI_LOSSES: dict[str, tuple[tuple[str, ...], Callable[[Tensor, Tensor], Tensor]]] = {
    "dice_cross_entropy": ((), DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)),
    "tversky": (
        ("loss.tversky_false_positives=0.2",),
        TverskyLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True, alpha=0.2, beta=0.8),
    ),
    "focal": (
        ("loss.focal_gamma=1.5",),
        lambda logits, reference: 3 * FocalLoss(to_onehot_y=True, use_softmax=True, gamma=1.5)(logits, reference),
    ),  # MONAI takes the mean over the classes, of which all but the right one are 0
}


@pytest.mark.parametrize("name", MONAI_LOSSES)
def test_without_ignored_pixels_equals_monai(name: str) -> None:
    overrides, monai_loss = MONAI_LOSSES[name]
    logits, reference = random_batch(3, 3, 5, 6, seed=1)
    loss = make_loss(config_of(f"loss.name={name}", *overrides))
    assert loss([logits], reference, EVEN).item() == pytest.approx(monai_loss(logits, reference[:, None]).item())


HEADS = {  # by head: outputs for its classes, classes, channels of the reference
    "softmax": (3, THREE, 0),
    "sigmoid": (1, TWO, 0),
    "multi_label": (2, THREE, 2),
    "ordinal head.encoding=one_hot": (3, THREE, 0),
    "ordinal head.encoding=cumulative": (2, THREE, 0),
    "ordinal": (1, THREE, 0),
    "regression": (1, VALUE, 0),
    "unit_regression": (1, VALUE, 0),
}


def of_head(head: str, *shape: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits and a reference as the head takes them, and its value for ignored pixels."""
    outputs, classes, channels = HEADS[head]
    logits, labels = random_batch(outputs, classes.count("name"), *shape, seed=seed)
    if classes == VALUE:
        return logits, torch.rand(2, *shape, generator=torch.Generator().manual_seed(seed)), torch.tensor(math.nan)
    if channels:
        labels = torch.stack([labels > channel for channel in range(channels)], dim=1).long()
    return logits, labels, torch.tensor(IGNORED)


def heads_with_losses() -> list[tuple[str, str]]:
    names = [name for name in LOSSES if name != "squared_error"]
    few = {"ordinal": ["cross_entropy"], "regression": ["null"], "unit_regression": ["null"]}
    return [(head, name) for head in HEADS for name in few.get(head, names)]


@pytest.mark.parametrize(("head", "name"), heads_with_losses())
def test_ignored_pixels_count_in_no_loss(head: str, name: str) -> None:
    """Half of the pixels ignored: their logits change neither the loss nor its gradient elsewhere."""
    loss = make_loss(config_of(*f"head.kind={head}".split(), f"loss.name={name}", classes=HEADS[head][1]))
    logits, reference, ignored = of_head(head, 4, 8)
    reference[..., 4:] = ignored
    other = logits.clone()
    other[..., 4:] += 3
    gradients = []
    for leaf in (logits.requires_grad_(), other.requires_grad_()):
        value = loss([leaf], reference, EVEN)
        value.backward()
        assert leaf.grad is not None
        gradients.append((value.item(), leaf.grad))
    assert gradients[0][0] == pytest.approx(gradients[1][0])
    assert not gradients[0][1][..., 4:].any()
    assert gradients[0][1][..., :4].any()
    torch.testing.assert_close(gradients[0][1], gradients[1][1])


@pytest.mark.parametrize("head", HEADS)
def test_the_right_output_has_the_lowest_loss(head: str) -> None:
    """Every loss falls at each of a few gradient steps."""
    loss = make_loss(config_of(*f"head.kind={head}".split(), classes=HEADS[head][1]))
    logits, reference, _ = of_head(head, 6, 6)
    logits.requires_grad_()
    values = []
    for _ in range(20):
        value = loss([logits], reference, EVEN)
        (gradient,) = torch.autograd.grad(value, logits)
        values.append(value.item())
        logits = (logits - 2 * gradient).detach().requires_grad_()
    assert values == sorted(values, reverse=True)


def test_targets_of_the_heads() -> None:
    """Cross-entropy of logits of 0 and of one output that is certain, by hand."""
    grades = torch.tensor([[[0, 1, 2]]])
    soft = make_loss(config_of("head.kind=ordinal"))
    logit = torch.logit(torch.tensor([[[[0.25, 0.5, 0.75]]]]))
    expected = -(math.log(0.75) + math.log(0.5) + math.log(0.75)) / 3
    assert soft([logit], grades, EVEN).item() == pytest.approx(expected)
    cumulative = make_loss(config_of("head.kind=ordinal", "head.encoding=cumulative"))
    right = torch.tensor([[[[-30.0, 30, 30]], [[-30.0, -30, 30]]]])
    assert cumulative([right], grades, EVEN).item() == pytest.approx(0, abs=1e-6)
    squared = make_loss(config_of("head.kind=regression", classes=VALUE))
    assert squared([torch.tensor([[[[1.0, 2]]]])], torch.tensor([[[4.0, 2]]]), EVEN).item() == pytest.approx(4.5)


def test_windows_that_are_all_ignored_have_no_loss() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    loss = make_loss(windows_of(classes=TWO))([logits], torch.full((3,), IGNORED), EVEN)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_weights_of_classes_and_pixels_add_up() -> None:
    """w = w_c + the border weight: ln 2 per pixel times 3 and 2 + 5."""
    config = config_of("loss.name=cross_entropy", "loss.class_weights=[2,3]", "loss.border_weight=5", classes=TWO)
    loss = make_loss(config)
    value = loss([torch.zeros(1, 2, 1, 2)], torch.tensor([[[1, 0]]]), torch.tensor([[[0.0, 5]]]))
    assert value.item() == pytest.approx(math.log(2) * (3 + 7) / 2)


def test_weights_of_windows_are_those_of_the_centre() -> None:
    loss = make_loss(windows_of("loss.border_weight=5", classes=TWO))
    value = loss([torch.zeros(2, 2)], torch.tensor([1, 0]), torch.tensor([0.0, 5]))
    assert value.item() == pytest.approx(math.log(2) * (1 + 6) / 2)


def test_weights_of_classes_that_overlap() -> None:
    """A pixel in a class has that class's weight, one outside has the background's."""
    config = config_of("head.kind=multi_label", "loss.name=cross_entropy", "loss.class_weights=[1,2,4]")
    reference = torch.tensor([[[[1, 0]], [[1, 0]]]])
    assert make_loss(config)([torch.zeros(1, 2, 1, 2)], reference, EVEN).item() == pytest.approx(
        math.log(2) * (2 + 1 + 4 + 1) / 4
    )


def test_balanced_classes_contribute_equally() -> None:
    """Shares 3/4 and 1/4: weights 2/3 and 2, whose mean over the pixels is 1."""
    config = config_of("loss.name=cross_entropy", "loss.class_weights=balanced", classes=TWO)
    loss = make_loss(config, (0.75, 0.25))
    one = [loss([torch.zeros(1, 2, 1, 1)], torch.tensor([[[label]]]), EVEN).item() / math.log(2) for label in (0, 1)]
    assert one == pytest.approx([2 / 3, 2])
    with pytest.raises(ValueError, match="balanced class weights need the classes' shares of the training pixels"):
        make_loss(config)


def test_reference_is_cropped_to_the_outputs_of_valid_convolutions() -> None:
    reference = torch.arange(36).view(1, 6, 6)
    assert crop_reference(reference, torch.zeros(1, 2, 2, 2)).tolist() == [[[14, 15], [20, 21]]]
    assert crop_reference(reference[:, None], torch.zeros(1, 1, 2, 2)).tolist() == [[[[14, 15], [20, 21]]]]


def test_coarser_levels_take_the_nearest_pixels_and_count_half() -> None:
    config = config_of("model.deep_supervision=true", "loss.name=cross_entropy", classes=TWO)
    loss = make_loss(config)
    alone = make_loss(config_of("loss.name=cross_entropy", classes=TWO))
    logits, reference = random_batch(2, 2, 8, 8)
    coarse, coarser = random_batch(2, 2, 4, 4, seed=1)[0], random_batch(2, 2, 2, 2, seed=2)[0]
    expected = [
        alone([logits], reference, EVEN),
        alone([coarse], reference[:, 1::2, 1::2], EVEN),
        alone([coarser], reference[:, 2::4, 2::4], EVEN),
    ]
    value = loss([logits, coarse, coarser], reference, EVEN)
    assert value.item() == pytest.approx(
        sum(share * each.item() for share, each in zip((4 / 7, 2 / 7, 1 / 7), expected, strict=True))
    )


def test_levels_of_unlike_axes() -> None:
    """Along an axis that a downsampling step keeps, the reference keeps its pixels."""
    config = config_of("model.strides=[[1,2],[2,2],[2,2]]", "loss.name=cross_entropy", classes=TWO)
    reference = torch.tensor([[[0, 1], [1, 0]]])
    coarse = torch.tensor([[[[-30.0], [30.0]], [[30.0], [-30.0]]]])  # 1 above, 0 below: the right column
    right = torch.stack([1 - reference, reference], dim=1) * 60.0 - 30
    assert make_loss(config)([right, coarse], reference, EVEN).item() == pytest.approx(0, abs=1e-6)


def test_signed_distances() -> None:
    """Half a pixel on either side of the border, below 0 inside; without foreground the largest distance."""
    line = torch.tensor([[[[0, 0, 1, 1, 1]]]])
    assert (signed_border_distances(line) * MAX_DISTANCE_PX).view(-1).tolist() == pytest.approx([1.5, 0.5, -0.5, -1.5, -2.5])
    volume = line[..., None].expand(1, 1, 1, 5, 3)
    assert (signed_border_distances(volume) * MAX_DISTANCE_PX)[0, 0, 0, :, 1].tolist() == pytest.approx(
        [1.5, 0.5, -0.5, -1.5, -2.5]
    )
    assert signed_border_distances(0 * line).unique().tolist() == [1]
    assert signed_border_distances(0 * line + 1).unique().tolist() == [-1]


def test_errors_farther_from_the_border_have_a_higher_loss() -> None:
    loss = make_loss(config_of("loss.name=boundary", classes=TWO))
    reference = torch.zeros(1, 9, 9, dtype=torch.int64)
    reference[:, 4, 4] = 1
    costs = []
    for place in (5, 8):
        logits = torch.zeros(1, 2, 9, 9)
        logits[:, 0] = 20
        logits[:, 1, 4, [4, place]] = 40
        costs.append(loss([logits], reference, EVEN).item())
    assert costs[0] < costs[1]


def test_foreground_dice() -> None:
    logits = torch.tensor([[0.0, 1], [1, 0], [0, 2], [3, 0]])
    assert foreground_dice(logits, torch.tensor([1, 0, 0, 1])).item() == 0.5  # TP 1, FP 1, FN 1
    assert foreground_dice(logits[1:2], torch.tensor([0])).item() == 1
