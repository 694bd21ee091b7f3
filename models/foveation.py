"""Foveation: a blur of the window that increases from its centre, as in the eye (Ciresan et al. 2012, section 2.2).

It has no trainable weights. The window and a few blurred copies of it are blended by the distance from the centre. The
variance of a blend of two Gaussians is the blend of their variances, so each pixel has exactly the deviation of its distance.
"""

import itertools
from typing import cast

import torch
from torch import Tensor, nn

COPIES = 4  # blurred copies; their deviations rise in even steps


class Foveation(nn.Module):
    """Blur whose deviation is proportional to the distance from the centre pixel, `window // 2` on each axis.

    The blur's weights beyond the window are dropped, and the others are rescaled to a sum of 1.

    Args:
        dimensions: 2 or 3.
        window: size of the window in pixels, the same on each axis.
        corner_px: standard deviation at the farthest corner in pixels.
    """

    def __init__(self, dimensions: int, window: int, corner_px: float) -> None:
        super().__init__()
        deviations = [corner_px * copy / COPIES for copy in range(1, COPIES + 1)]
        blurs = torch.stack([blur_matrix(window, deviation) for deviation in deviations])  # (copies, window, window)
        self.register_buffer("blurs", blurs, persistent=False)  # computed from the config, so bundles leave it out
        shares = _shares(dimensions, window, [0.0, *deviations])
        # flat, since conversion to channels_last would change the layout of a buffer with four or five dimensions
        self.register_buffer("shares", shares.flatten(1), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """Return the foveated windows (B, C, *window) of windows (B, C, *window)."""
        shares = cast(Tensor, self.shares).view(-1, *windows.shape[2:])  # (copies + 1, *window)
        foveated = windows * shares[0]
        for blur, share in zip(cast(Tensor, self.blurs), shares[1:], strict=True):
            blurred = windows
            for axis in range(2, windows.ndim):
                blurred = (blurred.movedim(axis, -1) @ blur.T).movedim(-1, axis)
            foveated = foveated + blurred * share
        return foveated


def blur_matrix(size: int, deviation_px: float) -> Tensor:
    """Return the matrix (size, size) of a Gaussian blur along one axis. Its rows sum to 1."""
    places = torch.arange(size, dtype=torch.float64)
    weights = torch.exp(-(((places[:, None] - places) / deviation_px) ** 2) / 2)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def _shares(dimensions: int, window: int, deviations: list[float]) -> Tensor:
    """Return the share of each copy in each pixel, (copies + 1, *window).

    A pixel blends the two copies whose variances are next to its own.
    """
    centre = window // 2
    line = ((torch.arange(window) - centre) / centre) ** 2
    square = sum(line.view([-1 if axis == other else 1 for other in range(dimensions)]) for axis in range(dimensions))
    distances = torch.sqrt(cast(Tensor, square) / dimensions)  # (*window), as shares of the farthest corner's
    variances = (distances * deviations[-1]) ** 2
    # cumulative shares: 1 if the pixel's variance is above the copy's, 0 if it is below the previous copy's
    cumulative = [torch.ones_like(variances)]
    for below, above in itertools.pairwise(deviation**2 for deviation in deviations):
        cumulative.append(((variances - below) / (above - below)).clamp(0, 1))
    return -torch.diff(torch.stack([*cumulative, torch.zeros_like(variances)]), dim=0)
