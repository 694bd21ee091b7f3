"""MRI artefacts: bias fields and ghosting of images (C, *S) with values of about 0 to 1."""

import numpy as np
from monai import transforms as monai_transforms

from transforms.warp import Floats

DEGREE = 3  # degree of the bias field's Legendre polynomials
GHOSTS = (2, 8)  # smallest and largest number of ghosts


def bias_field(image: Floats, strength: float, seed: int) -> Floats:
    """Multiply by exp(polynomial), with random coefficients from -strength to strength (MONAI)."""
    field = monai_transforms.RandBiasField(DEGREE, (-strength, strength), prob=1)
    field.set_random_state(seed)
    return np.asarray(field(image), np.float32)


def random_bias_field(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Apply a bias field with coefficients up to the strength."""
    return bias_field(image, strength, int(random.integers(2**31)))


def ghost(image: Floats, axis: int, ghosts: int, share: float) -> Floats:
    """Add shifted copies of the image along an axis, as breathing or a pulse causes along the phase encoding.

    Every `ghosts`-th line of the spectrum loses a share of its amplitude, except for line 0, the mean.
    """
    lines = np.fft.rfft(image, axis=axis)
    gain = np.ones(lines.shape[axis], np.float32)
    gain[ghosts::ghosts] = 1 - share
    lines *= gain.reshape(-1, *[1] * (image.ndim - 1 - axis))
    return np.fft.irfft(lines, image.shape[axis], axis=axis).astype(np.float32)


def random_ghosting(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Add ghosts along a random spatial axis, of a share up to the strength."""
    axis = int(random.integers(1, image.ndim))
    return ghost(image, axis, int(random.integers(GHOSTS[0], GHOSTS[1] + 1)), random.uniform(0, strength))
