"""The U-Net: the published one to the last weight, and the shapes of all others."""

import pytest
import torch

from configs.networks import Activation, Norm, UNetSection
from models.networks import count_parameters
from models.unet import UNet, centre_crop

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
def test_same_padding_keeps_the_size(dimensions: int, norm: Norm, activation: Activation) -> None:
    section = UNetSection(name="unet", features=(4, 8, 12), norm=norm, activation=activation)
    network = UNet(dimensions, in_channels=3, classes=4, section=section)
    size = (8, 12, 16)[:dimensions]
    assert network(torch.randn(2, 3, *size)).shape == (2, 4, *size)


@pytest.mark.parametrize(("dimensions", "levels"), [(2, 2), (2, 3), (2, 4), (3, 2), (3, 3)])
def test_valid_convolutions_lose_the_context(dimensions: int, levels: int) -> None:
    section = UNetSection(name="unet", features=(2,) * levels, padding="valid", norm="none")
    network = UNet(dimensions, in_channels=1, classes=2, section=section)
    for at_least in (1, section.legal_size(1) + 1):
        size = section.legal_size(at_least)
        wanted = size - 2 * section.context_px
        assert network(torch.randn(1, 1, *(size,) * dimensions)).shape == (1, 2, *(wanted,) * dimensions)


@pytest.mark.parametrize(("levels", "context_px"), [(3, 22), (4, 46)])
def test_a_block_of_outputs_looks_exactly_as_far_as_the_context(levels: int, context_px: int) -> None:
    """The gradient of a block of one stride reaches `context_px` to each side and no further."""
    section = UNetSection(name="unet", features=(1,) * levels, norm="none")
    network = UNet(2, in_channels=1, classes=1, section=section).double()
    for parameter in network.parameters():
        parameter.data.fill_(0.1)  # nothing cancels
    torch.manual_seed(0)
    first, stride = 8 * section.stride, section.stride
    before, after = 0, 0
    for _ in range(8):  # a max-pool passes the gradient on to one pixel only, so one draw may miss the outermost
        image = torch.rand(1, 1, 17 * stride, 17 * stride, dtype=torch.float64, requires_grad=True)
        network(image)[0, 0, first : first + stride, first : first + stride].sum().backward()
        assert image.grad is not None
        for axis in (0, 1):
            reached = image.grad[0, 0].sum(dim=axis).nonzero()
            before = max(before, first - int(reached.min()))
            after = max(after, int(reached.max()) - (first + stride - 1))
    assert before == after == section.context_px == context_px


def test_centre_crop() -> None:
    features = torch.arange(5).view(1, 1, 1, 5)
    assert centre_crop(features, torch.Size((1, 3))).flatten().tolist() == [1, 2, 3]


def test_he_initialisation() -> None:
    network = UNet(2, in_channels=1, classes=2, section=UNetSection(name="unet", features=(64, 128), norm="none"))
    weight = network.encoder[1][0].weight  # type: ignore[index]
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
