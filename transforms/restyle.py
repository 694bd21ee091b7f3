"""Restyling: the slow waves of an image take some of their strength from another one, of the user's own unlabelled images.

What makes scanners and sites look different lies mostly in the amplitudes of low frequencies, anatomy in the phases
(Yang and Soatto 2020, arXiv:2004.05498). As in Hesse et al. (2020, arXiv:1909.02642) the style is mixed with the image's
own, and one style serves a whole volume; theirs needs a downloaded network, this one needs none.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from transforms.warp import Floats

REACH = 0.1  # share of the frequencies along each axis that make the style


class StyleBank:
    """Styles of patches of one size.

    Args:
        styles: for each style patches (n, C, *S) in 0 .. 1, about; a style is the mean over its patches.
    """

    def __init__(self, styles: Sequence[Floats]) -> None:
        self.styles: list[Floats] = [np.mean([style_of(patch) for patch in patches], axis=0) for patches in styles]

    def draw(self, random: np.random.Generator) -> Floats:
        """One of the styles."""
        return self.styles[int(random.integers(len(self.styles)))]


def style_of(image: Floats) -> Floats:
    """Amplitudes of the low frequencies of an image (C, *S), each channel's own."""
    return np.asarray(np.abs(_spectrum(image)[_low(image.shape)]), np.float32)


def restyle(image: Floats, style: Floats, alpha: float) -> Floats:
    """The image (C, *S) with low frequencies of mixed amplitude, `alpha` of the style and the rest its own; phases stay."""
    spectrum, low = _spectrum(image), _low(image.shape)
    own = np.abs(spectrum[low])
    mixed = own + np.float32(alpha) * (style - own)
    spectrum[low] *= np.where(own > 0, mixed / np.maximum(own, np.finfo(np.float32).tiny), 1)
    return np.asarray(fft.irfftn(spectrum, image.shape[1:], axes=range(1, image.ndim)), np.float32)


def _spectrum(image: Floats) -> NDArray[np.complex64]:
    return np.asarray(fft.rfftn(image, axes=range(1, image.ndim)), np.complex64)


def _low(shape: Sequence[int]) -> tuple[NDArray[np.intp], ...]:
    """Indices of the low frequencies of a spectrum: both ends of each axis, and one end of the last."""
    reaches = [max(1, round(REACH * size / 2)) for size in shape[1:]]
    both_ends = [np.unique(np.arange(-reach, reach + 1) % size) for reach, size in zip(reaches, shape[1:], strict=True)]
    both_ends[-1] = np.arange(reaches[-1] + 1)
    return np.ix_(np.arange(shape[0]), *both_ends)
