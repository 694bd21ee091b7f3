"""Pictures as PNG: an image, masks over it, where masks disagree, and the colour schemes of the pages.

What needs matplotlib is in `plots`, so that the service draws pictures without it.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]  # (H, W, 3)

FILL = 0.5  # opacity of a mask over the image
PALE, PALER = 0.45, 0.75  # share of white in the image under masks, and under disagreements
ONLY_FIRST, ONLY_SECOND, NEITHER = "#0072b2", "#e69f00", "#1a1a1a"  # distinct with any colour vision (Okabe and Ito 2008)
TEXT = "#1c2024"
CLASS_COLOURS = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2")  # Okabe and Ito


@dataclass(frozen=True)
class ColourScheme:
    """Colours of plots on a light or dark page: text, fine lines, and one for each of two methods."""

    text: str
    line: str
    first: str
    second: str


LIGHT = ColourScheme(text="#1c2024", line="#c9ced4", first=ONLY_FIRST, second="#c77700")
DARK = ColourScheme(text="#e6e9ec", line="#454d56", first="#56b4e9", second=ONLY_SECOND)


def to_picture(image: NDArray[Any]) -> Picture:
    """Convert an image (C, H, W) of any type to RGB (H, W, 3).

    Three channels of 8 bits stay as they are; of any other image the first channel is shown in grey. Grey that is not of 8
    bits is stretched from its 0.5th to its 99.5th percentile.
    """
    if image.shape[0] == 3 and image.dtype == np.uint8:
        return np.ascontiguousarray(np.moveaxis(image, 0, -1))  # (H, W, 3)
    grey = image[0].astype(np.float32)
    if image.dtype != np.uint8:
        low, high = np.percentile(grey, (0.5, 99.5))
        grey = (grey - low) * (255 / max(float(high - low), 1e-6))
    return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def overlay(picture: Picture, mask: NDArray[Any], colours: Sequence[str]) -> Picture:
    """Return the picture in pale grey with the mask (H, W) filled and outlined in its classes' colours, except label 0."""
    result = _pale_grey(picture, PALE)
    padded = np.pad(mask, 1, mode="edge")  # beyond the border the mask continues
    is_inner = np.ones(mask.shape, np.bool_)
    for neighbour in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        is_inner &= neighbour == mask
    for label, colour in enumerate(colours):
        if label == 0:
            continue
        here = mask == label
        result[here] = (1 - FILL) * result[here] + FILL * _rgb(colour)
        result[here & ~is_inner] = _rgb(colour)
    return np.rint(result).astype(np.uint8)


def overlay_disagreement(picture: Picture, reference: NDArray[Any], first: NDArray[Any], second: NDArray[Any]) -> Picture:
    """Return the picture in pale grey, coloured where a mask (H, W) is wrong: one colour for each of the two, and for both."""
    result = _pale_grey(picture, PALER)
    first_right, second_right = first == reference, second == reference
    for here, colour in (
        (first_right & ~second_right, ONLY_FIRST),
        (second_right & ~first_right, ONLY_SECOND),
        (~first_right & ~second_right, NEITHER),
    ):
        result[here] = 0.1 * result[here] + 0.9 * _rgb(colour)
    return np.rint(result).astype(np.uint8)


def overlay_wrong(picture: Picture, wrong: NDArray[np.uint8], methods: int) -> Picture:
    """Return the picture in pale grey, coloured where `wrong` (H, W) of so many methods are: the darker, the more of them."""
    result = _pale_grey(picture, PALER)
    for count in range(1, methods + 1):
        here = wrong == count
        share = count / methods
        colour = (1 - share) * _rgb(ONLY_SECOND) + share * _rgb(NEITHER)
        result[here] = 0.1 * result[here] + 0.9 * colour
    return np.rint(result).astype(np.uint8)


def to_png(picture: Picture) -> bytes:
    """Encode the picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def _pale_grey(picture: Picture, share: float) -> NDArray[np.float64]:
    grey = picture @ np.array([0.299, 0.587, 0.114])
    return np.repeat((grey + (255 - grey) * share)[..., None], 3, axis=-1)


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)], np.float64)
