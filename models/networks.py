"""Which class is which method."""

from torch import nn

from configs.networks import UNetSection
from configs.schema import Config
from models.heads import make_head
from models.sliding_window import SlidingWindow
from models.unet import UNet

Network = UNet | SlidingWindow

ENCODER = ("encoder.", "convolutions.", "norms.")  # names of weights that find features begin so


def build(config: Config) -> Network:
    """The config's network, its weights drawn from torch's generator."""
    channels, outputs = len(config.data.channels), make_head(config).outputs
    if isinstance(config.model, UNetSection):
        return UNet(config.data.dimensions, channels, outputs, config.model)
    return SlidingWindow(config.data.dimensions, channels, outputs, config.model)


def count_parameters(network: nn.Module) -> int:
    """The number of trained weights."""
    return sum(parameter.numel() for parameter in network.parameters())
