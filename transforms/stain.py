"""Haematoxylin, eosin and DAB taken apart, so that a slide can look as if it was stained elsewhere; RGB (3, H, W) in 0 .. 1."""

import numpy as np

from transforms.warp import Floats

# Optical densities (red, green, blue) of haematoxylin, eosin and DAB: Ruifrok and Johnston (2001), section "Methods"
DENSITIES = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
STAINS_FROM_DENSITY = np.linalg.inv(DENSITIES).T.astype(np.float32)  # (3 stains, 3 colours)
DENSITY_FROM_STAINS = DENSITIES.T.astype(np.float32)  # (3 colours, 3 stains)
DARKEST = 1 / 255  # light that a pixel lets through at least: what 8 bits can tell from none


def to_stains(image: Floats) -> Floats:
    """How much of each stain there is, (3, H, W): densities by Beer and Lambert's law, unmixed."""
    density = -np.log(np.maximum(image, np.float32(DARKEST)))
    return np.asarray(np.tensordot(STAINS_FROM_DENSITY, density, axes=1), np.float32)


def from_stains(stains: Floats) -> Floats:
    """The RGB image (3, H, W) of these amounts of stain."""
    return np.asarray(np.exp(-np.tensordot(DENSITY_FROM_STAINS, stains, axes=1)), np.float32)


def restain(image: Floats, factors: Floats, shifts: Floats) -> Floats:
    """Each stain's amount times a factor plus a shift, back in 0 .. 1 (Tellez et al. 2018, arXiv:1808.05896)."""
    stains = to_stains(image)
    stains *= factors[:, None, None]
    stains += shifts[:, None, None]
    return np.asarray(from_stains(stains).clip(0, 1), np.float32)


def random_stain(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Factors of 1 less to 1 more, and shifts up to, the strength."""
    factors, shifts = random.uniform(1 - strength, 1 + strength, 3), random.uniform(-strength, strength, 3)
    return restain(image, factors.astype(np.float32), shifts.astype(np.float32))
