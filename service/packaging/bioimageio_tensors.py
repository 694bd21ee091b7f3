"""Tensor descriptions for bioimage.io: sizes that a network takes, its pre- and postprocessing, and the output's channels."""

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
    """Sizes in pixels that one axis of the input may have: `smallest`, and any number of `step` more.

    Args:
        smallest: smallest size of the input.
        step: difference between two sizes that follow each other.
        lost: difference between the input's and the output's size.
        halo: pixels at each end of the output whose values would be others in a larger image.
    """

    smallest: int
    step: int
    lost: int
    halo: int


def sizes_of(config: Config) -> list[Sizes]:
    """Return the sizes of each axis, in S order.

    Instance and group norms depend on the whole input; no halo makes the output equal to that of a larger image, so it is 0.
    """
    section = config.model
    if not isinstance(section, UNetSection):
        return [Sizes(section.window, 1, section.window - 1, 0)] * config.data.dimensions
    sizes = []
    for number in range(config.data.dimensions):
        axis = section.axis(number)
        if axis.valid:
            sizes.append(Sizes(axis.legal_size(1), axis.stride, 2 * axis.context_px, 0))
        elif section.norm in ("instance", "group"):
            sizes.append(Sizes(axis.legal_size(2 * axis.stride), axis.stride, 0, 0))
        else:
            halo = math.ceil(axis.context_px / axis.stride) * axis.stride
            sizes.append(Sizes(axis.legal_size(2 * halo + 1), axis.stride, 0, halo))
    return sizes


def input_fields(config: Config, test_file: Fields) -> Fields:
    """Return the description of the input tensor; `test_file` names an example of it."""
    axes = [
        {**axis, "size": {"min": sizes.smallest, "step": sizes.step}}
        for axis, sizes in zip(_spatial_axes(config), sizes_of(config), strict=True)
    ]
    return {
        "id": INPUT,
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": list(config.data.channels)}, *axes],
        "test_tensor": test_file,
        "data": {"type": "float32"},
        "preprocessing": preprocessing(config),
    }


def output_fields(config: Config, test_file: Fields, temperature: float = 1.0) -> Fields:
    """Return the description of the output tensor; `test_file` names an example of it."""
    axes = [
        {
            **axis,
            "size": {"tensor_id": INPUT, "axis_id": axis["id"], "offset": -sizes.lost},
            **({"halo": sizes.halo} if sizes.halo else {}),
        }
        for axis, sizes in zip(_spatial_axes(config), sizes_of(config), strict=True)
    ]
    steps = postprocessing(config, temperature)
    return {
        "id": OUTPUT,
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": output_names(config)}, *axes],
        "test_tensor": test_file,
        "data": {"type": "float32", **({"range": [0.0, 1.0]} if steps else {})},
        "postprocessing": steps,
    }


def _spatial_axes(config: Config) -> list[Fields]:
    """Return the descriptions of the spatial axes, with the spacing where the config gives one."""
    names = AXES[config.data.dimensions]
    if config.data.spacing_um is None:
        return [{"type": "space", "id": name} for name in names]
    return [
        {"type": "space", "id": name, "unit": "micrometer", "scale": spacing}
        for name, spacing in zip(names, config.data.spacing_um, strict=True)
    ]


def output_names(config: Config) -> list[str]:
    """Return a name for each of the R output channels."""
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
    """Return the steps that normalise an image's own values, as `transforms.normalise` does."""
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


def original_values(config: Config, patches: Floats) -> Floats:
    """Return an image (1, C, *S) that `normalise_image` turns into the patches.

    With `zscore`, which can't be undone, this is the patches themselves; normalised, they lose their mean and deviation.
    """
    section = config.normalise
    if section.method == "ct" and section.mean is not None and section.deviation is not None:
        return np.asarray(patches * section.deviation + section.mean, np.float32)
    if section.method == "range":
        return np.asarray((patches + 1) * (section.upper - section.lower) / 2 + section.lower, np.float32)
    return patches


def normalise_image(config: Config, images: Floats) -> Floats:
    """Return an image (1, C, *S) as the network takes it, in the same shape."""
    return normalise.fit(config.normalise, images.shape[1], [images[0]])(images[0])[None]


def postprocessing(config: Config, temperature: float = 1.0) -> list[Fields]:
    """Return the steps that turn logits into probabilities with that temperature; empty where the logits are values."""
    divided = [] if temperature == 1 else [{"id": "scale_linear", "kwargs": {"gain": 1 / temperature, "offset": 0.0}}]
    match config.head.name:
        case "regression":
            return []
        case "softmax" | "one_hot":
            return [*divided, {"id": "softmax", "kwargs": {"axis": "channel"}}]
    return [*divided, {"id": "sigmoid"}]


def postprocess(config: Config, logits: Floats, temperature: float = 1.0) -> Floats:
    """Return probabilities, or values, (1, R, *S') for logits of that shape."""
    functions = {"softmax": lambda values: softmax(values, axis=1), "sigmoid": expit}
    for step in postprocessing(config, temperature):
        if step["id"] == "scale_linear":
            logits = logits * np.float32(step["kwargs"]["gain"])
        else:
            logits = np.asarray(functions[step["id"]](logits), np.float32)
    return logits
