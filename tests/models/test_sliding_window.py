"""The sliding window: the published N4, and that dense evaluation equals patch by patch."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from configs.networks import ConvolutionSection, SlidingWindowSection
from models.networks import count_parameters
from models.sliding_window import SlidingWindow, pool_at


def patch_by_patch(network: SlidingWindow, images: Tensor) -> Tensor:
    """Logits (B, K, *S') by cutting every window out and looking at it alone."""
    size = [side - network.window + 1 for side in images.shape[2:]]
    logits = []
    for start in itertools.product(*(range(side) for side in size)):
        window = images[(slice(None), slice(None), *(slice(first, first + network.window) for first in start))]
        logits.append(network(window))
    return torch.stack(logits, dim=-1).view(*logits[0].shape, *size)


def make(
    window: int, kernels: list[int], *, dimensions: int = 2, pool: int = 2, channels: int = 2, **others: Any
) -> SlidingWindow:
    convolutions = tuple(ConvolutionSection(features=4 + number, kernel=kernel) for number, kernel in enumerate(kernels))
    section = SlidingWindowSection(
        name="sliding_window", window=window, convolutions=convolutions, pool=pool, hidden=6, **others
    )
    return SlidingWindow(dimensions, channels, 3, section).eval()


def test_n4_has_the_published_number_of_weights() -> None:
    network = SlidingWindow(dimensions=2, in_channels=1, classes=2, section=SlidingWindowSection(name="sliding_window"))
    assert network.window == 95
    assert count_parameters(network) == 219_290


def test_n4_dense_equals_patch_by_patch() -> None:
    torch.manual_seed(0)
    network = SlidingWindow(2, 1, 2, SlidingWindowSection(name="sliding_window")).eval()
    images = torch.randn(1, 1, 99, 98)
    with torch.inference_mode():
        torch.testing.assert_close(network.dense(images), patch_by_patch(network, images), atol=1e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    window=st.integers(16, 29),
    kernels=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    pool=st.integers(1, 3),
    extra=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    norm=st.sampled_from(["none", "batch"]),
)
def test_dense_equals_patch_by_patch(window: int, kernels: list[int], pool: int, extra: tuple[int, int], norm: str) -> None:
    """For every window parity, image size, pool and norm, windows whose pools drop an odd last row among them."""
    try:
        network = make(window, kernels, pool=pool, norm=norm)
    except ValueError:
        return  # the convolutions use the window up
    images = torch.randn(2, 2, *(window + more for more in extra))
    with torch.inference_mode():
        torch.testing.assert_close(network.dense(images), patch_by_patch(network, images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [9, 10, 11, 12])
def test_dense_equals_patch_by_patch_in_3d(window: int) -> None:
    network = make(window, [2, 3], dimensions=3, channels=1)
    images = torch.randn(1, 1, window + 2, window, window + 1)
    with torch.inference_mode():
        torch.testing.assert_close(network.dense(images), patch_by_patch(network, images), atol=1e-5, rtol=1e-5)


def test_dense_works_on_an_image_of_one_window() -> None:
    network = make(20, [3, 3])
    images = torch.randn(1, 2, 20, 20)
    with torch.inference_mode():
        torch.testing.assert_close(network.dense(images)[..., 0, 0], network(images), atol=1e-5, rtol=0)


def test_pool_at() -> None:
    features = torch.tensor([[[[1.0, 5.0, 2.0, 0.0, 3.0], [0.0, 0.0, 7.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0, 9.0]]]])
    assert pool_at(features, (0, 1), pool=2, sizes=[1, 2])[0, 0].tolist() == [[7.0, 3.0]]
    assert pool_at(features, (1, 0), pool=1, sizes=[1, 3])[0, 0].tolist() == [[0.0, 0.0, 7.0]]
