"""Tensors of a run -> pictures: what enters the network, its first filters, what its levels answer, masks through training."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.comparison.panels import enlarge
from evaluation.inspection.examples import draw_outlines
from evaluation.rendering import Picture, to_picture
from models.architectures import Network
from training.objective.encodings import IGNORED

MOST_CHANNELS = 3  # of an image that is no colour picture, side by side
MOST_FILTERS = 64
MOST_FEATURES = 8  # of a level
MOST_PX = 128  # a side of a feature
FILTER_PX = 33  # a side of a filter
GAP_PX = 3  # between small pictures
GREY = 127  # 0 of a filter

Floats = NDArray[Any]
Rgba = NDArray[np.uint8]  # (H, W, 4)


def entering(image: Floats, reference: NDArray[Any], colours: Sequence[str]) -> Picture:
    """A patch as the network gets it, with its reference's outlines; of a volume the slice with the most foreground.

    A window has one label alone, that of its centre: a square of 3 pixels there has the class's colour. Pixels that the
    loss leaves out are darkened. Channels of an image that is no colour picture lie side by side.

    Args:
        image: (C, *patch), normalised.
        reference: (*patch) labels, () for a window; other shapes, of heads without labels, aren't drawn.
        colours: #rrggbb, one a class.
    """
    labels = _labels(reference, image.shape[1:])
    if image.ndim == 4:
        place = telling_slice(labels)
        image, labels = image[:, place], labels[place]
    large = enlarge(labels, 1.0)
    pictures = [enlarge(picture, 1.0) for picture in channel_pictures(image)]
    for picture in pictures:
        picture[large == IGNORED] //= 2
    drawn = [_haloed(picture, np.where(large == IGNORED, 0, large), colours) for picture in pictures]
    return np.concatenate(drawn, axis=1)


def _haloed(picture: Picture, labels: NDArray[Any], colours: Sequence[str]) -> Picture:
    """With the labels' outlines in their colours, and white around them, since a stain may have a class's colour."""
    outside = (labels == 0).astype(np.uint8)
    return draw_outlines(draw_outlines(picture, outside, ("#000000", "#ffffff")), labels, colours)


def _labels(reference: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Labels (*shape) to be drawn, 0 where there is nothing to draw."""
    labels = np.zeros(shape, np.uint8)
    if reference.shape == shape and np.issubdtype(reference.dtype, np.integer):
        return reference.astype(np.uint8)
    if reference.ndim == 0 and np.issubdtype(reference.dtype, np.integer):
        labels[tuple(slice(max(0, size // 2 - 1), size // 2 + 2) for size in shape)] = reference
    return labels


def telling_slice(labels: NDArray[Any]) -> int:
    """The slice of (D, H, W) with the most foreground, the middle one where there is none."""
    counts = ((labels > 0) & (labels != IGNORED)).sum(axis=(1, 2))
    return int(counts.argmax()) if counts.any() else len(labels) // 2


def channel_pictures(image: Floats) -> list[Picture]:
    """(C, H, W) of any numbers as one RGB picture where C is 3, else each of the first channels in grey."""
    if len(image) == 3:
        return [to_picture(_stretched(image))]
    return [to_picture(_stretched(channel[None])) for channel in image[:MOST_CHANNELS]]


def weight_picture(weights: Floats) -> Picture:
    """How much each pixel of a patch counts, black 0 and white the most; of a volume the slice that counts most."""
    if weights.ndim == 3:
        weights = weights[int(weights.sum(axis=(1, 2)).argmax())]
    grey = np.rint(255 * weights / max(float(weights.max()), 1e-12)).astype(np.uint8)
    return enlarge(to_picture(grey[None]), 1.0)


def filter_picture(network: nn.Module) -> Rgba:
    """The filters of the first convolution, black below 0, white above, each by its own largest weight.

    In colour where the image has three channels, else of the first channel; of 3D filters the middle slice.
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
    """Name, shape (F, *s) and picture of what each level answers to an image (1, C, *S), from the first to the last.

    The network is as it was before: no statistics of a norm move, and each layer has the mode it had.
    """
    found: dict[str, tuple[tuple[int, ...], Floats]] = {}
    levels = list(_levels(network))
    hooks = [module.register_forward_hook(_keep(name, found)) for name, module in levels]
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad():  # what a layer keeps of a pass under inference_mode couldn't be trained with
            network.eval().outputs(image)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    for name, _ in levels:
        if name in found:
            shape, planes = found[name]
            yield name, shape, _features(planes)


def _levels(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The network's parts that convolve: members of its lists, and what stands alone; what only enlarges is left out."""
    for name, child in network.named_children():
        members = child.named_children() if isinstance(child, nn.ModuleList) else iter([("", child)])
        for number, module in members:
            if any(isinstance(inner, nn.Conv2d | nn.Conv3d) for inner in module.modules()):
                yield f"{name} {number}".strip(), module


def _keep(name: str, found: dict[str, tuple[tuple[int, ...], Floats]]) -> Any:
    """A hook that keeps the shape (F, *s) of what a layer gives, and (features, H, W) of its first ones."""

    def note(_: nn.Module, __: object, outcome: object) -> None:
        if isinstance(outcome, Tensor):
            planes = outcome[0, :MOST_FEATURES]
            planes = planes[:, planes.shape[1] // 2] if planes.ndim == 4 else planes  # of a volume the middle slice
            found[name] = tuple(outcome.shape[1:]), planes.float().cpu().numpy().copy()  # the next layer may overwrite it

    return note


def _features(planes: Floats) -> Rgba:
    """Features (F, H, W) side by side, each stretched over its own range; over that of all where each is one number."""
    step = -(-max(planes.shape[1:]) // MOST_PX)
    times = max(1, MOST_PX // max(planes.shape[1:]))
    greys = _stretched(planes) if planes[0].size == 1 else np.concatenate([_stretched(plane[None]) for plane in planes])
    pictures = [to_picture(grey[None, ::step, ::step]) for grey in greys]
    pictures = [picture.repeat(times, axis=0).repeat(times, axis=1) for picture in pictures]
    return _grid(pictures, columns=len(pictures))


def _stretched(image: Floats) -> NDArray[np.uint8]:
    """(C, H, W) with the percentiles 0.5 and 99.5 of all its values at 0 and 255; grey where it is constant."""
    values = np.nan_to_num(image.astype(np.float32), posinf=0.0, neginf=0.0)
    low, high = np.percentile(values, (0.5, 99.5))
    if high <= low:
        return np.full(image.shape, GREY, np.uint8)
    return np.asarray(np.clip(np.rint((values - low) * (255 / (high - low))), 0, 255), np.uint8)


def _grid(pictures: Sequence[Picture], columns: int) -> Rgba:
    """Equal pictures in rows, nothing between them."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = np.zeros((rows * (height + GAP_PX) - GAP_PX, columns * (width + GAP_PX) - GAP_PX, 4), np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * (height + GAP_PX), place % columns * (width + GAP_PX)
        sheet[top : top + height, left : left + width] = np.dstack([picture, np.full((height, width), 255, np.uint8)])
    return sheet
