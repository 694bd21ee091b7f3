"""A bundle's network as bioimage.io describes tensors: which sizes it takes, what is done before and after, what comes out."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from configs.network_sections import UNetSection
from configs.schema import Config
from transforms import normalise

Floats = NDArray[np.float32]
Fields = dict[str, Any]

AXES = {2: ("y", "x"), 3: ("z", "y", "x")}
INPUT, OUTPUT = "image", "prediction"


@dataclass(frozen=True)
class Sizes:
    """An axis of the input, in pixels: `smallest` and any number of `step` more.

    Args:
        smallest: input side.
        step: input side.
        lost: that the output is smaller than the input.
        halo: of the output at each side, where it isn't what it would be in a larger image.
    """

    smallest: int
    step: int
    lost: int
    halo: int


def sizes_of(config: Config) -> list[Sizes]:
    """One an axis, in S order. Where a norm sees the whole input there is no halo: no output is exactly a larger image's."""
    section = config.model
    if not isinstance(section, UNetSection):
        return [Sizes(section.window, 1, section.window - 1, 0)] * config.data.dimensions
    return [_of_unet(section, number) for number in range(config.data.dimensions)]


def _of_unet(section: UNetSection, number: int) -> Sizes:
    axis = section.axis(number)
    if axis.valid:
        return Sizes(axis.legal_size(1), axis.stride, 2 * axis.context_px, 0)
    if section.norm in ("instance", "group"):
        return Sizes(axis.legal_size(2 * axis.stride), axis.stride, 0, 0)
    halo = math.ceil(axis.context_px / axis.stride) * axis.stride
    return Sizes(axis.legal_size(2 * halo + 1), axis.stride, 0, halo)


def input_fields(config: Config, test_file: Fields) -> Fields:
    """The description of the input tensor."""
    axes = [
        {**axis, "size": {"min": sizes.smallest, "step": sizes.step}}
        for axis, sizes in zip(_spatial(config), sizes_of(config), strict=True)
    ]
    return {
        "id": INPUT,
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": list(config.data.channels)}, *axes],
        "test_tensor": test_file,
        "data": {"type": "float32"},
        "preprocessing": preprocessing(config),
    }


def output_fields(config: Config, test_file: Fields) -> Fields:
    """The description of the output tensor."""
    axes = [
        {
            **axis,
            "size": {"tensor_id": INPUT, "axis_id": axis["id"], "offset": -sizes.lost},
            **({"halo": sizes.halo} if sizes.halo else {}),
        }
        for axis, sizes in zip(_spatial(config), sizes_of(config), strict=True)
    ]
    steps = postprocessing(config)
    return {
        "id": OUTPUT,
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": output_names(config)}, *axes],
        "test_tensor": test_file,
        "data": {"type": "float32", **({"range": [0.0, 1.0]} if steps else {})},
        "postprocessing": steps,
    }


def _spatial(config: Config) -> list[Fields]:
    names = AXES[config.data.dimensions]
    if config.data.spacing_um is None:
        return [{"type": "space", "id": name} for name in names]
    known = zip(names, config.data.spacing_um, strict=True)
    return [{"type": "space", "id": name, "unit": "micrometer", "scale": scale} for name, scale in known]


def output_names(config: Config) -> list[str]:
    """What each of the R outputs says."""
    names = [section.name for section in config.data.classes]
    match config.head.name:
        case "softmax" | "one_hot" | "regression" | "unit_regression":
            return names
        case "cumulative":
            return [f"at least {name}" for name in names[1:]]
        case "soft_label":
            return [f"from {names[0]} (0) to {names[-1]} (1)"]
    return names[1:]


def preprocessing(config: Config) -> list[Fields]:
    """What makes the network's input of an image's own values, as `transforms.normalise` does."""
    section = config.normalise
    if section.method == "zscore":
        axes = list(AXES[config.data.dimensions])
        return [{"id": "zero_mean_unit_variance", "kwargs": {"axes": axes, "eps": 1e-6}}]
    if section.method == "ct":
        return [
            {"id": "clip", "kwargs": {"min": section.lower, "max": section.upper}},
            {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": section.mean, "std": section.deviation}},
        ]
    gain = 2 / (section.upper - section.lower)
    return [{"id": "scale_linear", "kwargs": {"gain": gain, "offset": -1 - gain * section.lower}}]


def own_values(config: Config, patches: Floats) -> Floats:
    """An image (1, C, *S) that `normalised` brings to the patches; by `zscore`, to the patches less their own mean."""
    section = config.normalise
    if section.method == "ct" and section.mean is not None and section.deviation is not None:
        return np.asarray(patches * section.deviation + section.mean, np.float32)
    if section.method == "range":
        return np.asarray((patches + 1) * (section.upper - section.lower) / 2 + section.lower, np.float32)
    return patches


def normalised(config: Config, images: Floats) -> Floats:
    """(1, C, *S) as the network takes it."""
    return normalise.fit(config.normalise, images.shape[1], [images[0]])(images[0])[None]


def postprocessing(config: Config) -> list[Fields]:
    """What makes probabilities of logits; nothing where the logits are values."""
    match config.head.name:
        case "regression":
            return []
        case "softmax" | "one_hot":
            return [{"id": "softmax", "kwargs": {"axis": "channel"}}]
    return [{"id": "sigmoid"}]


def postprocessed(config: Config, logits: Floats) -> Floats:
    """(1, R, *S') of logits."""
    functions = {"softmax": lambda values: softmax(values, axis=1), "sigmoid": expit}
    for step in postprocessing(config):
        logits = np.asarray(functions[step["id"]](logits), np.float32)
    return logits
