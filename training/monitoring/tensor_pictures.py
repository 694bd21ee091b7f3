"""Pictures of tensors: inputs of the network, weights of pixels, filters of the first convolution, features of each level."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.inspection.examples import draw_outlines
from evaluation.picture_regions import enlarge
from evaluation.rendering import Picture, to_picture
from models.architectures import Network
from training.objective.encodings import IGNORED

MOST_CHANNELS = 3  # side by side, of an image that isn't RGB
MOST_FILTERS = 64
MOST_FEATURES = 8  # of a level
FEATURE_PX = 128  # the largest side of a feature
FILTER_PX = 33  # the smallest side of a filter
GAP_PX = 3  # between pictures in a grid
GREY = 127  # the grey of a weight of 0

Floats = NDArray[Any]
Rgba = NDArray[np.uint8]  # (H, W, 4)


def input_picture(image: Floats, reference: NDArray[Any], colours: Sequence[str]) -> Picture:
    """Draw an input patch with the outlines of its reference; of a volume the slice with the most foreground.

    A window has a single label, that of its centre: a square of 3 pixels there has the class's colour. Pixels that the
    loss ignores are darkened. Channels of an image that isn't RGB lie side by side.

    Args:
        image: (C, *patch), normalised.
        reference: labels (*patch), () for a window; references without labels are not drawn.
        colours: #rrggbb for each class.
    """
    labels = np.zeros(image.shape[1:], np.uint8)  # (*patch), 0 where nothing is drawn
    if np.issubdtype(reference.dtype, np.integer) and reference.shape == labels.shape:
        labels = reference.astype(np.uint8)
    elif np.issubdtype(reference.dtype, np.integer) and reference.ndim == 0:
        labels[tuple(slice(max(0, size // 2 - 1), size // 2 + 2) for size in image.shape[1:])] = reference
    if image.ndim == 4:
        place = most_foreground_slice(labels)
        image, labels = image[:, place], labels[place]
    large = enlarge(labels, 1.0)
    pictures = [enlarge(picture, 1.0) for picture in channel_pictures(image)]
    for picture in pictures:
        picture[large == IGNORED] //= 2
    classes = np.where(large == IGNORED, 0, large)
    background = (classes == 0).astype(np.uint8)
    # white around the outlines, since a stain may have a class's colour
    haloes = [draw_outlines(picture, background, ("#000000", "#ffffff")) for picture in pictures]
    return np.concatenate([draw_outlines(picture, classes, colours) for picture in haloes], axis=1)


def most_foreground_slice(labels: NDArray[Any]) -> int:
    """Return the index of the slice of (D, H, W) with the most foreground; of the middle one if there is none."""
    counts = ((labels > 0) & (labels != IGNORED)).sum(axis=(1, 2))
    return int(counts.argmax()) if counts.any() else len(labels) // 2


def channel_pictures(image: Floats) -> list[Picture]:
    """Return an image (C, H, W) as one RGB picture if C is 3, else its first channels as grey pictures."""
    if len(image) == 3:
        return [to_picture(_to_grey(image))]
    return [to_picture(_to_grey(channel[None])) for channel in image[:MOST_CHANNELS]]


def weight_picture(weights: Floats) -> Picture:
    """Draw the weights of a patch's pixels from black, 0, to white, the highest; of a volume the slice with the highest sum."""
    if weights.ndim == 3:
        weights = weights[int(weights.sum(axis=(1, 2)).argmax())]
    grey = np.rint(255 * weights / max(float(weights.max()), 1e-12)).astype(np.uint8)
    return enlarge(to_picture(grey[None]), 1.0)


def filter_picture(network: nn.Module) -> Rgba:
    """Draw the filters of the first convolution, black below 0, white above, each scaled by its largest weight.

    In RGB if the image has three channels, else the weights of the first channel; of 3D filters the middle slice.
    """
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))
    weights = first.weight.detach().float().cpu().numpy()[:MOST_FILTERS]  # (F, C, *kernel)
    if weights.ndim == 5:
        weights = weights[:, :, weights.shape[2] // 2]
    weights = weights if weights.shape[1] == 3 else weights[:, :1]
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    scaled = np.rint(GREY + GREY * weights / np.maximum(largest, 1e-12)).astype(np.uint8)
    times = -(-FILTER_PX // max(scaled.shape[2:]))
    filters = [to_picture(each).repeat(times, axis=0).repeat(times, axis=1) for each in scaled]
    return _grid(filters, columns=min(16, len(filters)))


def activations(network: Network, image: Tensor) -> Iterator[tuple[str, tuple[int, ...], Rgba]]:
    """Yield name, shape (F, *s) and picture of each level's features for an image (1, C, *S), from the first to the last.

    The network is left unchanged: the pass runs in evaluation mode, and each module then gets its mode back.
    """
    features: dict[str, tuple[tuple[int, ...], Floats]] = {}
    levels = list(_levels(network))
    hooks = [module.register_forward_hook(_feature_hook(name, features)) for name, module in levels]
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad():  # tensors that a layer caches under inference_mode could not be trained with
            network.eval().outputs(image)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    for name, _ in levels:
        if name in features:
            shape, planes = features[name]
            yield name, shape, _feature_picture(planes)


def _levels(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of the network's parts that convolve: the members of its lists, and its other children."""
    for name, child in network.named_children():
        members = child.named_children() if isinstance(child, nn.ModuleList) else iter([("", child)])
        for number, module in members:
            if any(isinstance(inner, nn.Conv2d | nn.Conv3d) for inner in module.modules()):
                yield f"{name} {number}".strip(), module


def _feature_hook(name: str, features: dict[str, tuple[tuple[int, ...], Floats]]) -> Any:
    """Return a forward hook that stores the shape (F, *s) of a layer's output and its first features (features, H, W)."""

    def store(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor):
            planes = output[0, :MOST_FEATURES]
            planes = planes[:, planes.shape[1] // 2] if planes.ndim == 4 else planes  # of a volume the middle slice
            features[name] = tuple(output.shape[1:]), planes.float().cpu().numpy().copy()  # the next layer may overwrite it

    return store


def _feature_picture(planes: Floats) -> Rgba:
    """Draw features (F, H, W) side by side, each scaled to its own range; to their common range if each is one number."""
    step = -(-max(planes.shape[1:]) // FEATURE_PX)
    times = max(1, FEATURE_PX // max(planes.shape[1:]))
    greys = _to_grey(planes) if planes[0].size == 1 else np.concatenate([_to_grey(plane[None]) for plane in planes])
    pictures = [to_picture(grey[None, ::step, ::step]) for grey in greys]
    pictures = [picture.repeat(times, axis=0).repeat(times, axis=1) for picture in pictures]
    return _grid(pictures, columns=len(pictures))


def _to_grey(image: Floats) -> NDArray[np.uint8]:
    """Scale (C, H, W) so that the percentiles 0.5 and 99.5 of its values become 0 and 255; a constant one becomes grey."""
    values = np.nan_to_num(image.astype(np.float32), posinf=0.0, neginf=0.0)
    low, high = np.percentile(values, (0.5, 99.5))
    if high <= low:
        return np.full(image.shape, GREY, np.uint8)
    return np.asarray(np.clip(np.rint((values - low) * (255 / (high - low))), 0, 255), np.uint8)


def _grid(pictures: Sequence[Picture], columns: int) -> Rgba:
    """Arrange pictures of equal size in rows, transparent between them."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = np.zeros((rows * (height + GAP_PX) - GAP_PX, columns * (width + GAP_PX) - GAP_PX, 4), np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * (height + GAP_PX), place % columns * (width + GAP_PX)
        sheet[top : top + height, left : left + width] = np.dstack([picture, np.full((height, width), 255, np.uint8)])
    return sheet
