"""U-Nets: the published architecture, the effect of each key, and the receptive field."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.network_sections import Activation, Norm, UNetSection
from models.architectures import count_parameters
from models.unet import ResidualBlock, UNet, centre_crop
from tests.models.unet_sections import sections, small

ORIGINAL = UNetSection(name="unet", features=(64, 128, 256, 512, 1024), padding="valid", norm="none")


def test_original_has_the_published_number_of_parameters() -> None:
    network = UNet(dimensions=2, in_channels=1, classes=2, section=ORIGINAL)
    assert count_parameters(network) == 31_030_658
    assert sum(isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d) for module in network.modules()) == 23


def test_original_turns_572_into_388() -> None:
    with torch.device("meta"):
        network = UNet(dimensions=2, in_channels=1, classes=2, section=ORIGINAL)
        assert network(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("norm", ["none", "batch", "instance", "group"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("blocks", ["plain", "residual"])
def test_same_padding_keeps_the_size(dimensions: int, norm: Norm, activation: Activation, blocks: str) -> None:
    network = UNet(dimensions, 3, 4, small(norm=norm, activation=activation, blocks=blocks))
    size = (8, 12, 16)[:dimensions]
    assert network(torch.randn(2, 3, *size)).shape == (2, 4, *size)


@settings(deadline=None, max_examples=30)
@given(section=sections(2, padding="valid", norm="none"), at_least=st.integers(1, 60))
def test_valid_convolutions_lose_the_context(section: UNetSection, at_least: int) -> None:
    axes = [section.axis(number) for number in range(2)]
    sizes = [axis.legal_size(at_least) for axis in axes]
    assert all(
        at_least <= size < max(at_least, 2 * axis.context_px + 1) + axis.stride for size, axis in zip(sizes, axes, strict=True)
    )
    with torch.device("meta"):
        logits = UNet(2, 1, 2, section)(torch.empty(1, 1, *sizes))
    assert list(logits.shape[2:]) == [size - 2 * axis.context_px for size, axis in zip(sizes, axes, strict=True)]


@settings(deadline=None, max_examples=30)
@given(section=sections(2, padding="same", norm="none"), axis=st.integers(0, 1))
def test_a_block_of_outputs_looks_exactly_as_far_as_the_context(section: UNetSection, axis: int) -> None:
    assert reach(section, axis) == section.axis(axis).context_px


@pytest.mark.parametrize(
    ("keys", "context_px"),
    [
        ({}, 22),  # 6 * 4 - 2
        ({"levels": 4}, 46),
        ({"down": "strided"}, 19),  # by hand, from the block 0 .. 3: -2, up -1, -3, up -2, -3, down -7, -8, down -17, -19
        ({"up": "linear"}, 26),
        ({"blocks": "residual"}, 23),
        ({"kernels": ((1, 3), (3, 3), (3, 3)), "strides": ((1, 2), (2, 2))}, 8),
    ],
    ids=str,
)
def test_contexts_typed_out(keys: dict[str, Any], context_px: int) -> None:
    section = small(norm="none", **keys)
    assert reach(section, 0) == section.axis(0).context_px == context_px


def reach(section: UNetSection, axis: int) -> int:
    """Return how far an aligned block of outputs depends on the image, by making each pixel of a line brighter in turn.

    All weights and values are positive, so that a brighter pixel always changes the outputs that depend on it.
    """
    network = UNet(2, in_channels=1, classes=1, section=section).double()
    for parameter in network.parameters():
        parameter.data.fill_(0.1)
    of_axis, other = section.axis(axis), section.axis(1 - axis)
    stride, around = of_axis.stride, -(-of_axis.context_px // of_axis.stride) + 1
    size = (2 * around + 1) * stride
    line = torch.rand(1, 1, size, other.stride, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    brighter = line + 1e6 * torch.eye(size, dtype=torch.float64).view(size, 1, size, 1)
    with torch.no_grad():
        before, after = (network(image.transpose(2, 2 + axis).contiguous()) for image in (line, brighter))
    changed = (after != before).transpose(2, 2 + axis)[:, 0].any(dim=2)  # (pixel made brighter, output)
    first, end = around * stride, (around + 1) * stride
    seen = changed[:, first:end].any(dim=1).nonzero()
    return max(first - int(seen.min()), int(seen.max()) - (end - 1))


def test_linear_interpolation_cuts_what_it_made_up() -> None:
    """Check that valid outputs equal those of the same weights with same padding, away from the border."""
    keys = {"levels": 2, "norm": "none", "up": "linear"}
    valid, same = (UNet(2, 1, 2, small(padding=padding, **keys)) for padding in ("valid", "same"))
    same.load_state_dict(valid.state_dict())
    lost = small(padding="valid", **keys).axis(0).context_px
    assert lost == 9  # 4 * 1 + 2 * 2 as ever, and 1
    image = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(valid(image[:, :, 4:44, 4:44]), same(image)[:, :, 4 + lost : 44 - lost, 4 + lost : 44 - lost])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_deep_supervision_is_said_in_training_alone(dimensions: int) -> None:
    section = small(4, deep_supervision=True)
    network = UNet(dimensions, 1, 5, section).eval()
    images = torch.randn(2, 1, *(16,) * dimensions)
    logits = network.outputs(images).logits
    assert [tuple(level.shape) for level in logits] == [(2, 5, *(side,) * dimensions) for side in (16, 8, 4)]
    called: list[object] = []
    for head in network.coarser_heads:
        head.register_forward_hook(lambda *_: called.append(None))
    torch.testing.assert_close(network(images), logits[0])
    assert not called
    plain = UNet(dimensions, 1, 5, small(4)).outputs(images)
    assert len(plain.logits) == 1
    assert plain.bottom.shape == (2, 10, *(2,) * dimensions)


def test_coarse_outputs_reach_every_weight_but_those_above_them() -> None:
    network = UNet(2, 1, 2, small(3, deep_supervision=True))
    network.outputs(torch.randn(2, 1, 8, 8)).logits[1].sum().backward()
    without = {name.split(".")[0] for name, weights in network.named_parameters() if weights.grad is None}
    assert without == {"up", "decoder", "head"}


def test_residual_block_passes_on_what_it_is_given_at_first() -> None:
    """Check that a new block is its shortcut, since its last norm begins at 0."""
    features = torch.rand(1, 4, 4, 6)
    same = ResidualBlock(4, 4, (3, 3), (1, 1), small())
    torch.testing.assert_close(same(features), features)
    strided = ResidualBlock(4, 4, (3, 3), (1, 2), small())
    torch.testing.assert_close(strided(features), features.view(1, 4, 4, 3, 2).mean(dim=-1))
    assert [type(layer).__name__ for layer in ResidualBlock(4, 6, (3, 3), (2, 2), small()).past] == [
        "AvgPool2d",
        "Conv2d",
        "BatchNorm2d",
    ]


@pytest.mark.parametrize("norm", ["none", "batch", "instance", "group"])
@pytest.mark.parametrize("blocks", ["plain", "residual"])
def test_no_bias_where_a_norm_follows(norm: Norm, blocks: str) -> None:
    network = UNet(2, 1, 2, small(norm=norm, blocks=blocks))
    layers = [*network.encoder.modules(), *network.decoder.modules()]
    assert {layer.bias is not None for layer in layers if isinstance(layer, torch.nn.Conv2d)} == {norm == "none"}


def test_dropout_is_at_the_bottom_and_keeps_the_mean() -> None:
    network = UNet(2, 1, 2, small(dropout=0.75, norm="none"))
    images = torch.randn(1, 1, 64, 64)
    kept = network.eval().outputs(images).bottom
    dropped = network.train().outputs(images).bottom
    left = dropped != 0
    assert left.sum() / (kept != 0).sum() == pytest.approx(0.25, abs=0.05)
    torch.testing.assert_close(dropped[left], kept[left] / 0.25)


def test_centre_crop() -> None:
    features = torch.arange(5).view(1, 1, 1, 5)
    assert centre_crop(features, torch.Size((1, 3))).flatten().tolist() == [1, 2, 3]


@pytest.mark.parametrize(("init", "deviation"), [("he", (2 / (64 * 9)) ** 0.5), ("xavier", (2 / (64 * 9 + 128 * 9)) ** 0.5)])
def test_initialisation(init: str, deviation: float) -> None:
    network = UNet(2, in_channels=1, classes=2, section=small(features=(64, 128), norm="none", init=init))
    convolution = network.encoder[1][0]  # type: ignore[index]
    assert convolution.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert not convolution.bias.any()
