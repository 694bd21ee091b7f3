"""Weights of another training -> a network that begins with them."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from configs.schema import Config, ConfigError
from models import bundle
from models.architectures import ENCODER


def warm_start(network: nn.Module, config: Config) -> str | None:
    """Puts the weights of `warm_start.weights` into the network, as many as have a place there.

    Returns:
        A line that says how many; None where nothing is to be begun with.

    Raises:
        ConfigError: the file can't be read, holds nothing for this network, or holds a tensor of another shape.
        BundleError: the folder isn't a bundle, or not the one that was written.
    """
    section = config.warm_start
    if section.weights is None:
        return None
    wanted = {
        name: tensor for name, tensor in network.state_dict().items() if section.part == "all" or name.startswith(ENCODER)
    }
    found = {name: tensor for name, tensor in _read(section.weights).items() if name in wanted}
    if not found:
        raise ConfigError(
            f"warm_start.weights: {section.weights} holds no tensor that this network's {section.part} has; "
            "give weights of the same model.name, or set warm_start.part to all or warm_start.weights to null"
        )
    _check_shapes(found, wanted, section.weights)
    network.load_state_dict(found, strict=False)
    return f"begins with {len(found)} of {len(wanted)} tensors of {section.weights} ({section.part})"


def _read(path: Path) -> dict[str, Tensor]:
    if path.is_dir():
        return bundle.load(path).network.state_dict()
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"warm_start.weights: {path} can't be read; give a bundle's folder, or a safetensors file such as "
            "overtile pretrain writes"
        ) from error


def _check_shapes(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Two networks of different channels share all but their first convolution; which is no reason to begin with the rest."""
    first = next(iter(wanted))
    for name in [name for name in wanted if name in found]:
        came, expected = tuple(found[name].shape), tuple(wanted[name].shape)
        if name == first and len(came) == len(expected) and came[1:2] != expected[1:2]:
            raise ConfigError(
                f"warm_start.weights: {path} was trained on images of {came[1]} channels, and data.channels has {expected[1]}; "
                "give weights of as many channels, or set warm_start.weights to null"
            )
        if came != expected:
            raise ConfigError(
                f"warm_start.weights: {name} of {path} is {came}, and this network's is {expected}; give weights of the same "
                "model section and data.dimensions, with as many classes where warm_start.part is all"
            )
