"""Restyling: an image gets some of the low-frequency amplitudes of another one of the user's own unlabelled images.

Scanners and sites differ mostly in the amplitudes of low frequencies, while anatomy is in the phases (Yang and Soatto 2020,
arXiv:2004.05498). As in Hesse et al. (2020, arXiv:1909.02642) the style is blended with the image's own, and one style is
for a whole volume; their method needs a downloaded network, this one doesn't.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from transforms.warp import Floats

STYLE_SHARE = 0.1  # share of the frequencies along each axis that make up the style


class StyleBank:
    """Styles of patches of one size.

    Args:
        styles: patches (n, C, *S) of each style, with values of about 0 to 1; the style is the mean over them.
    """

    def __init__(self, styles: Sequence[Floats]) -> None:
        self.styles: list[Floats] = [np.mean([style_of(patch) for patch in patches], axis=0) for patches in styles]

    def draw(self, random: np.random.Generator) -> Floats:
        """Return a random style."""
        return self.styles[int(random.integers(len(self.styles)))]


def style_of(image: Floats) -> Floats:
    """Return the amplitudes of the low frequencies of each channel of an image (C, *S)."""
    return np.asarray(np.abs(_spectrum(image)[_low(image.shape)]), np.float32)


def restyle(image: Floats, style: Floats, alpha: float) -> Floats:
    """Blend the low-frequency amplitudes of an image (C, *S) with `alpha` of the style. Phases are unchanged."""
    spectrum, low = _spectrum(image), _low(image.shape)
    own = np.abs(spectrum[low])
    mixed = own + np.float32(alpha) * (style - own)
    spectrum[low] *= np.where(own > 0, mixed / np.maximum(own, np.finfo(np.float32).tiny), 1)
    return np.asarray(fft.irfftn(spectrum, image.shape[1:], axes=range(1, image.ndim)), np.float32)


def random_style(image: Floats, random: np.random.Generator, *, styles: StyleBank, alpha: float) -> Floats:
    """Restyle an image (C, *S) by a random style."""
    return restyle(image, styles.draw(random), alpha)


def _spectrum(image: Floats) -> NDArray[np.complex64]:
    """Return the Fourier transform of each channel over S."""
    return np.asarray(fft.rfftn(image, axes=range(1, image.ndim)), np.complex64)


def _low(shape: Sequence[int]) -> tuple[NDArray[np.intp], ...]:
    """Return the indices of the low frequencies of a spectrum: both ends of each axis, and one end of the last."""
    reaches = [max(1, round(STYLE_SHARE * size / 2)) for size in shape[1:]]
    both_ends = [np.unique(np.arange(-reach, reach + 1) % size) for reach, size in zip(reaches, shape[1:], strict=True)]
    both_ends[-1] = np.arange(reaches[-1] + 1)
    return np.ix_(np.arange(shape[0]), *both_ends)
