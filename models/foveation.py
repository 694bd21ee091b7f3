"""Foveation: a window's detail falls off from its centre, as the eye's does (Ciresan et al. 2012, section 2.2).

Fixed, without weights. The window and a few blurred copies of it are blended by the distance from the centre. A blend of
two Gaussians has the blend of their variances, so the deviation at each pixel is exactly what its distance asks for.
"""

import itertools
from typing import cast

import torch
from torch import Tensor, nn

COPIES = 4  # blurred ones; their deviations rise in even steps


class Foveation(nn.Module):
    """A blur whose deviation rises in proportion to the distance from the centre pixel, `window // 2` on each axis.

    Beyond the window nothing is known: there the blur's weights are left out and the others make up for them.

    Args:
        dimensions: 2 or 3.
        window: the window's side, pixels.
        corner_px: the deviation at the farthest corner, pixels.
    """

    def __init__(self, dimensions: int, window: int, corner_px: float) -> None:
        super().__init__()
        deviations = [corner_px * copy / COPIES for copy in range(1, COPIES + 1)]
        blurs = torch.stack([blur_matrix(window, deviation) for deviation in deviations])  # (copies, window, window)
        self.register_buffer("blurs", blurs, persistent=False)  # made from the config, not kept in bundles
        shares = _shares(_distances(dimensions, window), [0.0, *deviations])
        # flat: a network that is put channels last takes its buffers of four and five dimensions along
        self.register_buffer("shares", shares.flatten(1), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """The foveated windows of (B, C, *window): (B, C, *window)."""
        shares = cast(Tensor, self.shares).view(-1, *windows.shape[2:])  # (copies + 1, *window)
        foveated = windows * shares[0]
        for blur, share in zip(cast(Tensor, self.blurs), shares[1:], strict=True):
            foveated = foveated + _blurred(windows, blur) * share
        return foveated


def blur_matrix(size: int, deviation_px: float) -> Tensor:
    """What a Gaussian blur along one axis of `size` pixels multiplies by, (size, size); its rows sum to 1."""
    places = torch.arange(size, dtype=torch.float64)
    weights = torch.exp(-(((places[:, None] - places) / deviation_px) ** 2) / 2)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def _blurred(windows: Tensor, blur: Tensor) -> Tensor:
    """(B, C, *window), along one axis after the other."""
    for axis in range(2, windows.ndim):
        windows = (windows.movedim(axis, -1) @ blur.T).movedim(-1, axis)
    return windows


def _distances(dimensions: int, window: int) -> Tensor:
    """From the centre pixel, as shares of the farthest corner's, (*window)."""
    centre = window // 2
    line = ((torch.arange(window) - centre) / centre) ** 2
    square = sum(line.view([-1 if axis == other else 1 for other in range(dimensions)]) for axis in range(dimensions))
    return torch.sqrt(cast(Tensor, square) / dimensions)


def _shares(distances: Tensor, deviations: list[float]) -> Tensor:
    """How much of each copy is in each pixel, (copies + 1, *window): of the two whose variances lie around its own."""
    wanted = (distances * deviations[-1]) ** 2
    passed = [torch.ones_like(wanted)]  # 1 where the pixel's variance is beyond that of the copy, 0 where it is below the last
    for below, above in itertools.pairwise(deviation**2 for deviation in deviations):
        passed.append(((wanted - below) / (above - below)).clamp(0, 1))
    return -torch.diff(torch.stack([*passed, torch.zeros_like(wanted)]), dim=0)
