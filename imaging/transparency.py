"""Pixel arithmetic that several readers share."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def over_white(colour: NDArray[Any], alpha: NDArray[Any], *, premultiplied: bool = False) -> NDArray[Any]:
    """Transparent pixels laid on white, as viewers show them.

    Args:
        colour: (C, H, W), uint8 or uint16.
        alpha: (H, W), the same type; its largest value is opaque.
        premultiplied: the colours were already multiplied by alpha.

    Returns:
        (C, H, W), the colours' own type.
    """
    white = int(np.iinfo(colour.dtype).max)
    if bool((alpha == white).all()):
        return colour
    behind = white - alpha.astype(np.uint64)
    if premultiplied:
        return np.minimum(colour + behind, white).astype(colour.dtype)
    return ((colour * alpha.astype(np.uint64) + white * behind + white // 2) // white).astype(colour.dtype)
