"""Cover picture of a package: a bundle's sample and its mask side by side, as a small PNG."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from configs.schema import Config
from models.head import Floats
from models.heads import make_head

SIDE_PX = 256


def cover(config: Config, patches: Floats, logits: Floats) -> bytes:
    """Return a PNG, twice as wide as high; a volume is shown by its middle slice.

    Args:
        config: config of the run.
        patches: image (C, *S).
        logits: output (R, *S'), which lies in the middle of the patches.
    """
    margins_px = [(side - inner) // 2 for side, inner in zip(patches.shape[1:], logits.shape[1:], strict=True)]
    region = tuple(slice(first, first + side) for first, side in zip(margins_px, logits.shape[1:], strict=True))
    image, output = _middle_slice(patches[(slice(None), *region)]), _middle_slice(logits)
    head = make_head(config)
    if head.gives_values:
        mask = _as_rgb(head.values(output)[None])  # (H, W, 3)
    else:
        colours = [tuple(bytes.fromhex(section.colour[1:])) for section in config.data.classes]
        mask = np.array(colours, np.uint8)[head.mask(output)]  # (H, W, 3)
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate([_square(_as_rgb(image)), _square(mask)], axis=1)).save(buffer, "png")
    return buffer.getvalue()


def _middle_slice(array: Floats) -> Floats:
    """Return (C, H, W) from (C, H, W) or (C, D, H, W)."""
    return array if array.ndim == 3 else array[:, array.shape[1] // 2]


def _as_rgb(image: Floats) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) of an image (C, H, W): of its three channels, or of the first one in grey."""
    channels = image if len(image) == 3 else np.repeat(image[:1], 3, axis=0)
    low, high = channels.min(), channels.max()
    scaled = np.asarray(255 * (channels - low) / max(high - low, np.finfo(np.float32).eps), np.uint8)
    return np.moveaxis(scaled, 0, -1)


def _square(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the largest square in the middle of a picture, resized to the cover's height."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = Image.fromarray(picture[top : top + side, left : left + side])
    return np.asarray(middle.resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST))
