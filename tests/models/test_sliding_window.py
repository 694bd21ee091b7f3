"""Sliding windows: the published N4, and dense evaluation equals patch by patch."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from configs import schema
from configs.network_sections import ConvolutionSection, SlidingWindowSection
from models import sliding_window
from models.architectures import build, count_parameters
from models.sliding_window import SlidingWindow, pool_at


def patch_by_patch(network: SlidingWindow, images: Tensor) -> Tensor:
    """Return the logits (B, K, *S') with a separate pass for each window."""
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


@pytest.mark.parametrize(
    ("title", "maps"),
    [
        ("Mitoses, 13 layers", [101, 100, 50, 48, 24, 22, 11, 10, 5, 4, 2, 1]),
        ("Mitoses, 11 layers", [101, 98, 49, 46, 23, 20, 10, 8, 4, 1]),
    ],
)
def test_the_networks_for_mitoses_have_the_published_maps(title: str, maps: list[int]) -> None:
    """Check the network of docs/networks.md: 101 x 101 pixels of 3 channels, 16 features per layer, 100 hidden units."""
    section = Path("docs/networks.md").read_text().split(f"### {title}")[1]
    config = schema.load(Path("configs/histology_sliding_window.yaml"), section.split("```")[1].split("\n")[1:-1])
    network = build(config)
    assert isinstance(network, SlidingWindow)
    convolutions = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [16] * len(network.convolutions) + [100, 2]
    sizes = []
    for layer in convolutions:
        layer.register_forward_hook(lambda _, inputs, output: sizes.extend([inputs[0].shape[-1], output.shape[-1]]))
    assert network(torch.zeros(1, 3, 101, 101)).shape == (1, 2)
    assert [size for size, _ in itertools.groupby(sizes)] == maps
    assert f"{count_parameters(network):,} weights" in section


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
    """Check all parities of the window, image sizes, pools and norms, with pools that drop an odd last row."""
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


@pytest.mark.parametrize(("dimensions", "window"), [(2, 20), (2, 21), (3, 9), (3, 10)])
@pytest.mark.parametrize("batch_bytes", [1, 200_000, 2**26])
def test_foveated_dense_equals_patch_by_patch(
    dimensions: int, window: int, batch_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sliding_window, "BATCH_BYTES", batch_bytes)
    network = make(window, [2, 3], dimensions=dimensions, foveation_px=3.0)
    images = torch.randn(2, 2, *(window + more for more in (3, 1, 2)[:dimensions]))
    with torch.inference_mode():
        torch.testing.assert_close(network.dense(images), patch_by_patch(network, images), atol=1e-5, rtol=1e-5)


def test_foveated_windows_go_through_in_batches_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check batches of 34 windows, whose features of 4 * 19 * 19 * 4 bytes each fit into 200,000 bytes."""
    monkeypatch.setattr(sliding_window, "BATCH_BYTES", 200_000)
    network = make(20, [2, 3], foveation_px=3.0)
    batches: list[int] = []
    network.hidden.register_forward_hook(lambda _, inputs, output: batches.append(len(inputs[0])))
    network.dense(torch.zeros(1, 2, 29, 27))
    assert batches == [34, 34, 12]


def test_dense_works_on_an_image_of_one_window() -> None:
    network = make(20, [3, 3])
    images = torch.randn(1, 2, 20, 20)
    with torch.inference_mode():
        torch.testing.assert_close(network.dense(images)[..., 0, 0], network(images), atol=1e-5, rtol=0)


def test_pool_at() -> None:
    features = torch.tensor([[[[1.0, 5.0, 2.0, 0.0, 3.0], [0.0, 0.0, 7.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0, 9.0]]]])
    assert pool_at(features, (0, 1), pool=2, sizes=[1, 2])[0, 0].tolist() == [[7.0, 3.0]]
    assert pool_at(features, (1, 0), pool=1, sizes=[1, 3])[0, 0].tolist() == [[0.0, 0.0, 7.0]]
