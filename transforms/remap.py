"""Random intensity curves, by which a network trained on one MRI sequence works on others.

Source: Hesse, Kuling, Veta and Martel (2020), arXiv:1909.02642. One curve is for a whole volume; background is unchanged.
"""

import numpy as np

from transforms.warp import Floats

BINS = 256
SMOOTHING_BINS = 50


def draw_curve(random: np.random.Generator, *, inversion: bool) -> Floats:
    """Return a random curve (BINS,) in 0 .. 1: smoothed uniform values plus a ramp of random slope, rescaled.

    The curve is smooth but need not be monotone. A negative slope, which inverts the contrast, needs `inversion`.
    """
    values = random.uniform(0, 1, BINS + SMOOTHING_BINS - 1)
    smooth = np.convolve(values, np.full(SMOOTHING_BINS, 1 / SMOOTHING_BINS), "valid")  # (BINS,)
    curve = smooth + random.uniform(-1 if inversion else 0, 1) * np.linspace(0, 1, BINS)
    return np.asarray((curve - curve.min()) / (curve.max() - curve.min()), np.float32)


def remap(channel: Floats, curve: Floats, background: float) -> Floats:
    """Map intensities in 0 .. 1 by a curve (BINS,) with linear interpolation. Those up to `background` are unchanged."""
    place = np.clip(channel, 0, 1) * np.float32(len(curve) - 1)
    below = np.minimum(place.astype(np.int32), len(curve) - 2)
    mapped = curve.take(below) + (place - below) * np.diff(curve).take(below)
    return np.where(channel <= background, channel, mapped.astype(np.float32))


def random_remap(image: Floats, random: np.random.Generator, *, share: float, background: float, inversion: bool) -> Floats:
    """Map each channel of an image (C, *S) by its own random curve, and blend `share` of it with the original."""
    curved = np.stack([remap(channel, draw_curve(random, inversion=inversion), background) for channel in image])
    return image + np.float32(share) * (curved - image)
