"""Separation of haematoxylin, eosin and DAB in RGB images (3, H, W) in 0 .. 1, and random changes of their amounts."""

import numpy as np

from transforms.warp import Floats

# Optical densities (red, green, blue) of haematoxylin, eosin and DAB: Ruifrok and Johnston (2001), section "Methods"
DENSITIES = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
STAINS_FROM_DENSITY = np.linalg.inv(DENSITIES).T.astype(np.float32)  # (3 stains, 3 colours)
DENSITY_FROM_STAINS = DENSITIES.T.astype(np.float32)  # (3 colours, 3 stains)
DARKEST = 1 / 255  # smallest transmitted light, one step of 8 bits


def to_stains(image: Floats) -> Floats:
    """Return the amount of each stain, (3, H, W): optical densities by the Beer-Lambert law, unmixed."""
    density = -np.log(np.maximum(image, np.float32(DARKEST)))
    return np.asarray(np.tensordot(STAINS_FROM_DENSITY, density, axes=1), np.float32)


def from_stains(stains: Floats) -> Floats:
    """Return the RGB image (3, H, W) of amounts of stain (3, H, W)."""
    return np.asarray(np.exp(-np.tensordot(DENSITY_FROM_STAINS, stains, axes=1)), np.float32)


def restain(image: Floats, factors: Floats, shifts: Floats) -> Floats:
    """Multiply each stain's amount by a factor and add a shift (Tellez et al. 2018, arXiv:1808.05896); clip to 0 .. 1."""
    stains = to_stains(image)
    stains *= factors[:, None, None]
    stains += shifts[:, None, None]
    return np.asarray(from_stains(stains).clip(0, 1), np.float32)


def random_stain(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Restain with factors from 1 - strength to 1 + strength and shifts from -strength to strength."""
    factors = random.uniform(1 - strength, 1 + strength, 3)
    shifts = random.uniform(-strength, strength, 3)
    return restain(image, factors.astype(np.float32), shifts.astype(np.float32))
