"""Tiles of all kinds of U-Nets: stitched together they equal a pass over the whole image."""

import numpy as np
import torch
from array_source import ArraySource
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from configs import schema
from configs.network_sections import UNetSection
from imaging.source import ImageSource
from inference.plan import plan_image
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import Predictor
from inference.segment import bands
from models.architectures import build
from tests.models.unet_sections import sections, small

CPU = torch.device("cpu")


def noise(shape: tuple[int, ...], seed: int = 0) -> ArraySource:
    """Return a random image of one channel."""
    return ArraySource(np.random.default_rng(seed).integers(0, 255, (1, *shape), np.uint8))


def predictor_of(section: UNetSection, dimensions: int, tile_size: tuple[int, ...]) -> Predictor:
    """Return a predictor with random weights, which are the same for all tile sizes."""
    config = schema.parse(
        {
            "run": {"name": "r"},
            "data": {
                "path": "d",
                "dimensions": dimensions,
                "channels": ["grey"],
                "classes": [{"name": name, "colour": "#000000"} for name in ("a", "b")],
            },
            "normalise": {"method": "range"},
            "model": section.model_dump(),
            "sampling": {"patch_size": [section.axis(number).legal_size(1) for number in range(dimensions)]},
            "inference": {"tile_size": tile_size},
        },
        origin="test",
    )
    torch.manual_seed(0)
    network = build(config)
    for name, value in network.state_dict().items():
        if "running" in name or value.ndim == 1:  # statistics and weights of batch norms, and biases
            value.uniform_(0.5, 1.5)
    return make_predictor(config, network.eval(), (0.5, 0.5), CPU)


def logits_of(source: ImageSource, predictor: Predictor) -> NDArray[np.float32]:
    return np.concatenate([band.logits for band in bands(plan_image(source, predictor))], axis=1)


def check_exact(section: UNetSection, shape: tuple[int, ...], tile_size: tuple[int, ...]) -> int:
    """Check that tiles of that size give the same logits as a single tile, and return their number."""
    source = noise(shape)
    tiles, whole = (predictor_of(section, len(shape), size) for size in (tile_size, (10_000,) * len(shape)))
    assert len(whole.grid(shape)) == 1
    expected = logits_of(source, whole)
    np.testing.assert_allclose(logits_of(source, tiles), expected, atol=1e-5 * float(np.abs(expected).max()))
    return len(tiles.grid(shape))


@settings(deadline=None, max_examples=40)
@given(
    section=st.sampled_from(["none", "batch"]).flatmap(lambda norm: sections(2, norm=norm)),
    shape=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    tile_size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
def test_tiles_of_pictures_are_exact(section: UNetSection, shape: tuple[int, ...], tile_size: tuple[int, ...]) -> None:
    check_exact(section, shape, tile_size)


@settings(deadline=None, max_examples=15)
@given(
    section=sections(3, most_stride=2, most_kernel=3, levels=2, norm="batch"),
    shape=st.permutations([st.integers(1, 6), st.integers(1, 12), st.integers(30, 90)]).flatmap(
        lambda sides: st.tuples(*sides)
    ),
)
def test_tiles_of_volumes_are_exact(section: UNetSection, shape: tuple[int, ...]) -> None:
    check_exact(section, shape, (1, 1, 1))


def test_each_axis_has_a_margin_of_its_own() -> None:
    """Check thick slices, where a smaller receptive field along one axis needs smaller overlaps."""
    section = small(norm="none", kernels=((1, 3, 3), (1, 3, 3), (3, 3, 3)), strides=((1, 2, 2), (1, 2, 2)))
    assert [section.axis(number).context_px for number in range(3)] == [2, 22, 22]
    assert [section.axis(number).stride for number in range(3)] == [1, 4, 4]
    assert predictor_of(section, 3, (12, 64, 64)).margin == (24, 24)
    assert predictor_of(section, 3, (12, 64, 64)).grid((40, 64, 64)).tile_size == (12, 64, 64)  # 5 steps of 8
    assert check_exact(section, (40, 100, 8), (12, 64, 64)) == 5 * 4
