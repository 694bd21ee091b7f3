"""Random curves over the intensity range: a network that learns on one MRI sequence then works on others.

Hesse, Kuling, Veta and Martel (2020), arXiv:1909.02642. One curve serves a whole volume; background stays background.
"""

import numpy as np

from transforms.warp import Floats

BINS = 256
SMOOTHED_OVER = 50  # bins


def draw_curve(random: np.random.Generator, *, inversion: bool) -> Floats:
    """(BINS,) in 0 .. 1: uniform values, smoothed, plus a ramp of random slope, rescaled.

    The curve is smooth but need not be monotone; a negative slope inverts the contrast, which only `inversion` allows.
    """
    values = random.uniform(0, 1, BINS + SMOOTHED_OVER - 1)
    smooth = np.convolve(values, np.full(SMOOTHED_OVER, 1 / SMOOTHED_OVER), "valid")  # (BINS,)
    curve = smooth + random.uniform(-1 if inversion else 0, 1) * np.linspace(0, 1, BINS)
    return np.asarray((curve - curve.min()) / (curve.max() - curve.min()), np.float32)


def remap(channel: Floats, curve: Floats, background: float) -> Floats:
    """Intensities in 0 .. 1 looked up in a curve (BINS,), linearly between its bins; up to `background` they stay."""
    place = np.clip(channel, 0, 1) * np.float32(len(curve) - 1)
    below = np.minimum(place.astype(np.int32), len(curve) - 2)
    looked_up = curve.take(below) + (place - below) * np.diff(curve).take(below)
    return np.where(channel <= background, channel, looked_up.astype(np.float32))


def random_remap(image: Floats, random: np.random.Generator, *, share: float, background: float, inversion: bool) -> Floats:
    """Each channel of an image (C, *S) by its own curve; `share` of it, the rest as it was."""
    curved = np.stack([remap(channel, draw_curve(random, inversion=inversion), background) for channel in image])
    return image + np.float32(share) * (curved - image)
