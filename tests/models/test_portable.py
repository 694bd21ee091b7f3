"""Portable modules: their outputs equal those of the bundle's networks, at all sizes."""

from typing import Any

import pytest
import torch

from configs.network_sections import ConvolutionSection, SlidingWindowSection
from models.portable import Dilated, MeanOf
from models.sliding_window import SlidingWindow


def section_of(window: int, kernels: tuple[int, ...], **more: Any) -> SlidingWindowSection:
    convolutions = tuple(ConvolutionSection(features=4 + kernel, kernel=kernel) for kernel in kernels)
    return SlidingWindowSection(name="sliding_window", window=window, convolutions=convolutions, hidden=6, **more)


@pytest.mark.parametrize(
    ("dimensions", "section"),
    [
        (2, section_of(9, (2,))),
        (2, section_of(22, (4, 3), norm="batch")),  # pools leave pixels over at the window's end
        (2, section_of(27, (4, 2), pool=3, activation="leaky_relu")),
        (2, section_of(8, (3,), pool=1)),
        (3, section_of(11, (3, 2))),
    ],
)
def test_dilated_gives_what_fragments_give(dimensions: int, section: SlidingWindowSection) -> None:
    torch.manual_seed(0)
    network = SlidingWindow(dimensions, 2, 3, section).eval()
    dilated = Dilated(network, torch.tensor([0.5, -1.0, 2.0])).eval()
    for more in (0, 5, 8):
        images = torch.randn(2, 2, *(section.window + more + axis for axis in range(dimensions)))
        with torch.inference_mode():
            expected = network.dense(images) + dilated.shift
            torch.testing.assert_close(dilated(images), expected, rtol=1e-4, atol=1e-5)


def test_the_mean_of_two() -> None:
    module = MeanOf([torch.nn.Identity(), torch.nn.ReLU()])
    torch.testing.assert_close(module(torch.tensor([-2.0, 4.0])), torch.tensor([-1.0, 4.0]))
