"""Arrays -> pictures: an image, masks over it, and where two masks disagree; for the report and for the README."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]  # (H, W, 3)

FILL = 0.5  # how much of a mask's colour lies over the image
PALE, PALER = 0.45, 0.75  # how far the image is moved towards white under masks, and under what they got wrong
ONLY_FIRST, ONLY_SECOND, NEITHER = "#0072b2", "#e69f00", "#1a1a1a"  # told apart with any colour vision (Okabe and Ito 2008)
TEXT = "#1c2024"


def to_picture(image: NDArray[Any]) -> Picture:
    """(C, H, W) of any type as RGB (H, W, 3): three channels of 8 bits as they are, else the first channel as grey.

    Grey of more than 8 bits is stretched from its 0.5th to its 99.5th percentile.
    """
    if image.shape[0] == 3 and image.dtype == np.uint8:
        return np.ascontiguousarray(np.moveaxis(image, 0, -1))  # (H, W, 3)
    grey = image[0].astype(np.float32)
    if image.dtype != np.uint8:
        low, high = np.percentile(grey, (0.5, 99.5))
        grey = (grey - low) * (255 / max(float(high - low), 1e-6))
    return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def overlay(picture: Picture, mask: NDArray[Any], colours: Sequence[str]) -> Picture:
    """The picture in pale grey with the mask (H, W) filled and outlined in its classes' colours; label 0 stays clear."""
    result = _paled(picture, PALE)
    inner = _inner(mask)
    for label, colour in enumerate(colours):
        if label == 0:
            continue
        here = mask == label
        result[here] = (1 - FILL) * result[here] + FILL * _rgb(colour)
        result[here & ~inner] = _rgb(colour)
    return np.rint(result).astype(np.uint8)


def disagreement(picture: Picture, reference: NDArray[Any], first: NDArray[Any], second: NDArray[Any]) -> Picture:
    """The picture in pale grey, coloured where a mask (H, W) is wrong: only the first right, only the second, neither."""
    result = _paled(picture, PALER)
    first_right, second_right = first == reference, second == reference
    for here, colour in (
        (first_right & ~second_right, ONLY_FIRST),
        (second_right & ~first_right, ONLY_SECOND),
        (~first_right & ~second_right, NEITHER),
    ):
        result[here] = 0.1 * result[here] + 0.9 * _rgb(colour)
    return np.rint(result).astype(np.uint8)


def to_png(picture: Picture) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def panel(
    image: NDArray[Any],
    reference: NDArray[Any] | None,
    masks: Sequence[NDArray[Any]],
    names: Sequence[str],
    colours: Sequence[str],
    aspect: float = 1.0,
) -> bytes:
    """A PNG with image | reference | each mask side by side, each under its title.

    Args:
        image: (C, H, W), of a volume one slice.
        reference: (H, W) labels; None leaves its place out.
        masks: (H, W) labels, one a method.
        names: the methods' titles, one a mask.
        colours: #rrggbb, one a class; the first is background and stays clear.
        aspect: height of a pixel divided by its width.

    Raises:
        ValueError: not as many names as masks, or a mask that isn't of the image's size.
    """
    over, titles = list(masks), ["image", *names]
    if reference is not None:
        over, titles = [reference, *masks], ["image", "reference", *names]
    if any(mask.shape != image.shape[1:] for mask in over):
        raise ValueError(f"masks {[mask.shape for mask in over]} don't lie on the image {image.shape[1:]}")
    picture = to_picture(image)
    tiles = [picture, *(overlay(picture, mask, colours) for mask in over)]
    height = 3.0 * aspect * picture.shape[0] / picture.shape[1]
    layout = ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.08, wspace=0.01)
    figure = Figure(figsize=(3.1 * len(tiles), height + 0.5), layout=layout)
    for axes, tile, title in zip(figure.subplots(1, len(tiles)), tiles, titles, strict=True):
        axes.imshow(tile, aspect=aspect, interpolation="nearest")
        axes.set_title(title, fontsize=13, color=TEXT, pad=6, parse_math=False)
        axes.set_axis_off()
    return figure_to_png(figure, dpi=120)


def figure_to_png(figure: Figure, dpi: int, *, transparent: bool = False) -> bytes:
    """The figure as a PNG file, drawn without a screen."""
    file = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(file, format="png", dpi=dpi, transparent=transparent)
    return file.getvalue()


def _paled(picture: Picture, share: float) -> NDArray[np.float64]:
    grey = picture @ np.array([0.299, 0.587, 0.114])
    return np.repeat((grey + (255 - grey) * share)[..., None], 3, axis=-1)


def _inner(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels whose four neighbours have their label; the picture's border counts as a continuation."""
    padded = np.pad(mask, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    inner = np.ones(mask.shape, np.bool_)
    for neighbour in neighbours:
        inner &= neighbour == mask
    return inner


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)], np.float64)
