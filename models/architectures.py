"""Construction of the networks that a config describes."""

from torch import nn

from configs.network_sections import UNetSection
from configs.schema import Config
from models.heads import make_head
from models.image_label_heads import MapClassifier
from models.sliding_window import SlidingWindow
from models.unet import UNet

Network = UNet | SlidingWindow

ENCODER = ("encoder.", "convolutions.", "norms.")  # prefixes of the weights that extract features


def build(config: Config) -> Network:
    """Return the config's network, with weights drawn from torch's global generator."""
    channels, outputs = len(config.data.channels), make_head(config).outputs
    labels = len(config.image_label.classes) if config.image_label.by == "joint" else 0
    if isinstance(config.model, UNetSection):
        return UNet(config.data.dimensions, channels, outputs, config.model, labels)
    return SlidingWindow(config.data.dimensions, channels, outputs, config.model, labels)


def build_classifier(config: Config) -> MapClassifier:
    """Return the classifier of the output map, with weights drawn from torch's global generator."""
    section = config.image_label
    return MapClassifier(config.data.dimensions, len(config.data.classes), len(section.classes), section.map_features)


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable weights."""
    return sum(parameter.numel() for parameter in network.parameters())
