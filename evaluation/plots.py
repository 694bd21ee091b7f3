"""Plots by matplotlib as PNG, and panels of an image with its masks side by side."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from evaluation.rendering import TEXT, ColourScheme, overlay, to_picture


def draw_panel(
    image: NDArray[Any],
    reference: NDArray[Any] | None,
    masks: Sequence[NDArray[Any]],
    names: Sequence[str],
    colours: Sequence[str],
    aspect: float = 1.0,
) -> bytes:
    """Draw the image, the reference and each mask side by side under their titles, as a PNG file.

    Args:
        image: pixels (C, H, W); of a volume, one slice.
        reference: labels (H, W); None leaves it out.
        masks: labels (H, W), one array for each method.
        names: title of each mask.
        colours: #rrggbb for each class; the first is background and is not drawn.
        aspect: height of a pixel divided by its width.

    Raises:
        ValueError: the numbers of names and masks differ, or a mask has another size than the image.
    """
    labels, titles = list(masks), ["image", *names]
    if reference is not None:
        labels, titles = [reference, *masks], ["image", "reference", *names]
    if any(mask.shape != image.shape[1:] for mask in labels):
        raise ValueError(f"masks {[mask.shape for mask in labels]} don't have the size of the image {image.shape[1:]}")
    picture = to_picture(image)
    panels = [picture, *(overlay(picture, mask, colours) for mask in labels)]
    height = 3.0 * aspect * picture.shape[0] / picture.shape[1]
    layout = ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.08, wspace=0.01)
    figure = Figure(figsize=(3.1 * len(panels), height + 0.5), layout=layout)
    for axes, content, title in zip(figure.subplots(1, len(panels)), panels, titles, strict=True):
        axes.imshow(content, aspect=aspect, interpolation="nearest")
        axes.set_title(title, fontsize=13, color=TEXT, pad=6, parse_math=False)
        axes.set_axis_off()
    return figure_to_png(figure, dpi=120)


def figure_to_png(figure: Figure, dpi: int, *, transparent: bool = False) -> bytes:
    """Render the figure as a PNG file, without a screen."""
    file = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(file, format="png", dpi=dpi, transparent=transparent)
    return file.getvalue()


def style_axes(axes: Axes, scheme: ColourScheme) -> None:
    """Draw the axes in the colours of the scheme, with no frame but the bottom line."""
    axes.set_axisbelow(True)
    axes.tick_params(colors=scheme.text, labelsize=10, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(scheme.line)
