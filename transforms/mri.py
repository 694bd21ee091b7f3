"""What a magnet does to an image: a bias field that varies slowly, and ghosts of what moved; (C, *S) in 0 .. 1, about."""

import numpy as np
from monai import transforms as monai_transforms

from transforms.warp import Floats

DEGREE = 3  # of the bias field's Legendre polynomials
GHOSTS = (2, 8)  # how many copies, at least and at most


def bias_field(image: Floats, strength: float, seed: int) -> Floats:
    """Multiplied by exp(a polynomial), whose coefficients are drawn up to the strength either way (MONAI)."""
    field = monai_transforms.RandBiasField(DEGREE, (-strength, strength), prob=1)
    field.set_random_state(seed)
    return np.asarray(field(image), np.float32)


def random_bias_field(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """A bias field with coefficients up to the strength."""
    return bias_field(image, strength, int(random.integers(2**31)))


def ghost(image: Floats, axis: int, ghosts: int, share: float) -> Floats:
    """Copies of the image shifted along an axis, as breathing or a pulse makes them along the phase encoding.

    Every so many lines of the spectrum lose a share of their amplitude; line 0, the mean, is kept.
    """
    lines = np.fft.rfft(image, axis=axis)
    keep = np.ones(lines.shape[axis], np.float32)
    keep[ghosts::ghosts] = 1 - share
    lines *= keep.reshape(-1, *[1] * (image.ndim - 1 - axis))
    return np.fft.irfft(lines, image.shape[axis], axis=axis).astype(np.float32)


def random_ghosting(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Ghosts along any axis of the space, up to the strength."""
    axis = int(random.integers(1, image.ndim))
    return ghost(image, axis, int(random.integers(GHOSTS[0], GHOSTS[1] + 1)), random.uniform(0, strength))
