"""Pictures of check results: curves, bars, and crops with outlines or masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from configs.schema import Config
from evaluation import rendering
from evaluation.picture_regions import enlarge
from evaluation.plots import figure_to_png, style_axes
from evaluation.rendering import ColourScheme, Picture, overlay, to_png
from models.heads import make_head
from training.monitoring.tensor_pictures import channel_pictures, input_picture, most_foreground_slice
from training.sanity_checks.image_parts import CaseCrop
from training.sanity_checks.result import CheckPicture

Pixels = NDArray[Any]

WHITE = 255
SHEET_PX = 1600  # largest width of a sheet
GAP_PX = 6


def curves(caption: str, losses: Mapping[str, Sequence[float]], title: str = "Loss by step") -> CheckPicture:
    """Plot each list of losses as a line by step."""

    def draw(axes: Axes, scheme: ColourScheme) -> None:
        for (name, values), colour in zip(losses.items(), (scheme.first, scheme.second, scheme.text), strict=False):
            axes.plot(values, color=colour, linewidth=1.6, label=name)
        if len(losses) > 1:
            axes.legend(frameon=False, fontsize=9, labelcolor=scheme.text)
        axes.set_xlabel("step", color=scheme.text, fontsize=10)

    return _plot(caption, title, draw)


def bars(caption: str, values: Mapping[str, float], title: str) -> CheckPicture:
    """Plot each value as a horizontal bar with its number; the first is highlighted."""

    def draw(axes: Axes, scheme: ColourScheme) -> None:
        colours = [scheme.first, *[scheme.second] * (len(values) - 1)]
        container = axes.barh(list(values), list(values.values()), color=colours, height=0.6)
        axes.bar_label(container, fmt="%.4g", padding=4, color=scheme.text, fontsize=10)
        axes.invert_yaxis()
        axes.margins(x=0.12)

    return _plot(caption, title, draw, height=0.9 + 0.36 * len(values))


def _plot(caption: str, title: str, draw: Any, height: float = 2.8) -> CheckPicture:
    """Return a plot for light and dark pages; `draw` is called with the axes and the colours."""
    pngs = []
    for scheme in (rendering.LIGHT, rendering.DARK):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        axes = figure.subplots()
        style_axes(axes, scheme)
        draw(axes, scheme)
        axes.set_title(title, loc="left", fontsize=11, color=scheme.text)
        axes.grid(color=scheme.line, linewidth=0.6)
        pngs.append(figure_to_png(figure, dpi=110, transparent=True))
    return CheckPicture(caption, *pngs)


def outlines(caption: str, crops: Sequence[CaseCrop], config: Config) -> tuple[CheckPicture, ...]:
    """Show crops side by side with the outlines of their references; empty for references of values."""
    if make_head(config).gives_values or not crops:
        return ()
    colours = [section.colour for section in config.data.classes]
    pictures = [input_picture(crop.image.pixels, labels_of(crop.reference, config), colours) for crop in crops]
    return (CheckPicture(caption, to_png(sheet(pictures, len(pictures)))),)


def mask_sheet(
    caption: str, crops: Sequence[CaseCrop], logits: Sequence[Sequence[Pixels]], config: Config
) -> tuple[CheckPicture, ...]:
    """Show a row per crop: image, reference, and the mask of each column of logits; empty if the head gives values."""
    head = make_head(config)
    if head.gives_values or not crops:
        return ()
    colours = [section.colour for section in config.data.classes]
    rows = []
    for number, crop in enumerate(crops):
        labels = labels_of(crop.reference, config)
        place = most_foreground_slice(labels) if labels.ndim == 3 else None
        picture = channel_pictures(crop.image.pixels if place is None else crop.image.pixels[:, place])[0]
        masks = [labels, *(head.mask(column[number]) for column in logits)]
        planes = [mask if place is None else mask[place] for mask in masks]
        rows.append([enlarge(each, 1.0) for each in (picture, *(overlay(picture, plane, colours) for plane in planes))])
    return (CheckPicture(caption, to_png(sheet([tile for row in rows for tile in row], len(rows[0])))),)


def labels_of(reference: Pixels, config: Config) -> Pixels:
    """Return the labels (*S) of a crop's reference, 0 where ignored; of overlapping classes the last one of each pixel."""
    ignored = reference == (-1 if config.data.ignore_index is None else config.data.ignore_index)
    valid = np.where(ignored, 0, reference)
    if config.head.kind != "multi_label":
        return np.asarray(valid[0], np.uint8)
    numbers = np.arange(1, len(valid) + 1).reshape(-1, *(1,) * (valid.ndim - 1))
    return np.asarray((numbers * (valid > 0)).max(axis=0), np.uint8)


def sheet(pictures: Sequence[Picture], columns: int) -> Picture:
    """Arrange pictures of any sizes in rows on white, each scaled down to a cell of equal size."""
    cell = min(max(max(picture.shape[:2]) for picture in pictures), SHEET_PX // columns)
    rows = -(-len(pictures) // columns)
    page = np.full((rows * (cell + GAP_PX) - GAP_PX, columns * (cell + GAP_PX) - GAP_PX, 3), WHITE, np.uint8)
    for place, picture in enumerate(pictures):
        thumbnail = Image.fromarray(picture)
        thumbnail.thumbnail((cell, cell))
        top, left = place // columns * (cell + GAP_PX), place % columns * (cell + GAP_PX)
        page[top : top + thumbnail.height, left : left + thumbnail.width] = np.asarray(thumbnail)
    return page
