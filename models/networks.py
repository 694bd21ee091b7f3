"""Which class is which method."""

from torch import nn

from configs.schema import Config, UNetSection
from models.sliding_window import SlidingWindow
from models.unet import UNet


def build(config: Config) -> UNet | SlidingWindow:
    """The config's network, its weights drawn from torch's generator."""
    channels, classes = len(config.data.channels), len(config.data.classes)
    if isinstance(config.model, UNetSection):
        return UNet(config.data.dimensions, channels, classes, config.model)
    return SlidingWindow(config.data.dimensions, channels, classes, config.model)


def count_parameters(network: nn.Module) -> int:
    """The number of trained weights."""
    return sum(parameter.numel() for parameter in network.parameters())
