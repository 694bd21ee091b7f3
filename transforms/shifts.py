"""Graded shifts of images, as other scanners, laboratories and settings cause them.

Each shift has strengths in rising order and a function that applies one of them. The functions are deterministic, and take and
return images (C, *S), float32, with values of about 0 to 1.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from transforms import intensity
from transforms.stain import restain
from transforms.warp import Floats

NOISE_SEED = 0


@dataclass(frozen=True)
class Shift:
    """Graded shift.

    Args:
        name: key in tables and options.
        title: name on pages, with the unit of the strengths.
        strengths: in the order from the weakest to the strongest shift.
        apply: returns the image (C, *S) shifted by a strength.
        of_stains: suits RGB images only.
        of_pictures: suits 2D images of 1 or 3 channels only.
    """

    name: str
    title: str
    strengths: tuple[float, ...]
    apply: Callable[[Floats, float], Floats]
    of_stains: bool = False
    of_pictures: bool = False

    def suits(self, channels: int, dimensions: int) -> bool:
        """Return whether images with so many channels and dimensions can be shifted."""
        if self.of_stains:
            return (channels, dimensions) == (3, 2)
        return not self.of_pictures or (channels in (1, 3) and dimensions == 2)


def change_stain(image: Floats, strength: float) -> Floats:
    """Multiply haematoxylin by 1 + strength and eosin by 1 / (1 + strength), as darker nuclei on paler tissue."""
    factors = np.array([1 + strength, 1 / (1 + strength), 1], np.float32)
    return restain(image, factors, np.zeros(3, np.float32))


def add_seeded_noise(image: Floats, deviation: float) -> Floats:
    """Add Gaussian noise, the same for images of the same shape."""
    return intensity.add_noise(image, deviation, NOISE_SEED)


def invert_contrast(image: Floats, share: float) -> Floats:
    """Blend the image with its negative about the middle of the range: 0.5 has no contrast, 1 is the negative."""
    return np.asarray((1 - share) * image + share * (1 - image), np.float32)


def compress_jpeg(image: Floats, quality: float) -> Floats:
    """Encode a picture (1 or 3, H, W) as JPEG of a quality from 1 to 95, and decode it (Pillow; colour at half resolution)."""
    rows = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(rows[0] if len(rows) == 1 else np.ascontiguousarray(np.moveaxis(rows, 0, -1)))  # (H, W[, 3])
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=round(quality))
    decoded = np.asarray(Image.open(file), np.float32) / 255
    channels_first = decoded[None] if decoded.ndim == 2 else np.moveaxis(decoded, -1, 0)  # (C, H, W)
    return np.ascontiguousarray(channels_first, np.float32)


SHIFTS = (
    Shift("stain", "stain: relative change of haematoxylin", (0.1, 0.25, 0.5, 1.0), change_stain, of_stains=True),
    Shift("brightness", "brightness: shift, share of the range", (0.05, 0.1, 0.2, 0.3), intensity.brighten),
    Shift("blur", "blur: standard deviation, px", (0.5, 1.0, 2.0, 4.0), intensity.blur),
    Shift("noise", "noise: standard deviation, share of the range", (0.02, 0.05, 0.1, 0.2), add_seeded_noise),
    Shift("inversion", "contrast inversion: share of the negative", (0.125, 0.25, 0.75, 1.0), invert_contrast),
    Shift("resolution", "resolution: share that is left", (0.75, 0.5, 0.33, 0.25), intensity.low_resolution),
    Shift("jpeg", "JPEG: quality", (80, 50, 25, 10), compress_jpeg, of_pictures=True),
)
