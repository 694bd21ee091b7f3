"""Warm start: initialise a network with the weights of another training."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from configs.schema import Config, ConfigError
from models import bundle
from models.architectures import ENCODER


def warm_start(network: nn.Module, config: Config) -> str | None:
    """Load into the network the tensors of `warm_start.weights` that it has too.

    Returns:
        A message that says how many; None where the config has no `warm_start.weights`.

    Raises:
        ConfigError: the file can't be read, holds no tensor of this network, or holds one of another shape.
        BundleError: the folder isn't a bundle, or its files were changed.
    """
    section = config.warm_start
    if section.weights is None:
        return None
    targets = {
        name: tensor for name, tensor in network.state_dict().items() if section.part == "all" or name.startswith(ENCODER)
    }
    tensors = {name: tensor for name, tensor in _read_tensors(section.weights).items() if name in targets}
    if not tensors:
        raise ConfigError(
            f"warm_start.weights: {section.weights} holds no tensor that this network's {section.part} has; "
            "give weights of the same model.name, or set warm_start.part to all or warm_start.weights to null"
        )
    first = next(iter(targets))
    for name in targets:
        if name in tensors:
            shapes = tuple(tensors[name].shape), tuple(targets[name].shape)
            _check_shape(name, *shapes, section.weights, is_first=name == first)
    network.load_state_dict(tensors, strict=False)
    return f"starts with {len(tensors)} of {len(targets)} tensors of {section.weights} ({section.part})"


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.is_dir():
        return bundle.load(path).network.state_dict()
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"warm_start.weights: {path} can't be read; give a bundle's folder, or a safetensors file such as "
            "overtile pretrain writes"
        ) from error


def _check_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...], path: Path, *, is_first: bool) -> None:
    """Refuse a tensor of another shape; if it is the first convolution, its second axis is the number of image channels."""
    if is_first and len(shape) == len(expected) and shape[1:2] != expected[1:2]:
        raise ConfigError(
            f"warm_start.weights: {path} was trained on images with {shape[1]} channels, but data.channels has {expected[1]}; "
            "give weights with as many channels, or set warm_start.weights to null"
        )
    if shape != expected:
        raise ConfigError(
            f"warm_start.weights: {name} of {path} has shape {shape}, but in this network {expected}; give weights of the same "
            "model section and data.dimensions, with as many classes if warm_start.part is all"
        )
