"""Which class is which method."""

from torch import nn

from configs.network_sections import UNetSection
from configs.schema import Config
from models.heads import make_head
from models.image_label_heads import MapClassifier
from models.sliding_window import SlidingWindow
from models.unet import UNet

Network = UNet | SlidingWindow

ENCODER = ("encoder.", "convolutions.", "norms.")  # names of weights that find features begin so


def build(config: Config) -> Network:
    """The config's network, its weights drawn from torch's generator."""
    channels, outputs = len(config.data.channels), make_head(config).outputs
    labels = len(config.image_label.classes) if config.image_label.by == "joint" else 0
    if isinstance(config.model, UNetSection):
        return UNet(config.data.dimensions, channels, outputs, config.model, labels)
    return SlidingWindow(config.data.dimensions, channels, outputs, config.model, labels)


def build_classifier(config: Config) -> MapClassifier:
    """What reads an image's label off the map of the config's network, its weights drawn from torch's generator."""
    section = config.image_label
    return MapClassifier(config.data.dimensions, len(config.data.classes), len(section.classes), section.map_features)


def count_parameters(network: nn.Module) -> int:
    """The number of trained weights."""
    return sum(parameter.numel() for parameter in network.parameters())
