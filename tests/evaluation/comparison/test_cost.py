"""Multiply-adds against figures counted by hand."""

import pytest
from evaluation_samples import UNET, WINDOW, make_config

from configs.schema import Config
from evaluation.comparison.cost import multiply_adds_patch_by_patch, multiply_adds_per_pixel
from inference.predictors.counting import multiply_adds_of_tile, shape_only_predictor
from models.sliding_window import SlidingWindow

# The published N4: 48@4x4, 48@5x5, 48@4x4, 48@4x4, 200@3x3, 2; one channel in; maps 92, 42, 18, 6, 1.
N4_WEIGHTS = (16 * 48, 25 * 48 * 48, 16 * 48 * 48, 16 * 48 * 48, 9 * 48 * 200, 200 * 2)
N4_PATCH_BY_PATCH = sum(
    weights * side**2 for weights, side in zip(N4_WEIGHTS, (92, 42, 18, 6, 1, 1), strict=True)
)  # 121.5 million
N4_DENSE = sum(N4_WEIGHTS)  # each weight once a pixel, 0.219 million


def n4(**sections: object) -> Config:
    return make_config("n4", {"name": "sliding_window"}, data={"channels": ["grey"]}, **sections)


def test_n4_patch_by_patch() -> None:
    assert multiply_adds_patch_by_patch(n4()) == N4_PATCH_BY_PATCH == 121_464_592


def test_n4_dense_without_margins() -> None:
    config = n4(inference={"tile_size": [20_094, 20_094]})
    assert N4_DENSE == 218_896
    assert multiply_adds_per_pixel(config, [(20_000, 20_000)]) == pytest.approx(N4_DENSE, rel=0.01)


def test_n4_dense_pays_for_its_margin() -> None:
    # Input 222, output 128: each convolution takes (kernel - 1) * dilation, each pool its dilation.
    config = n4(inference={"tile_size": [222, 222]})
    by_hand = sum(weights * side**2 for weights, side in zip(N4_WEIGHTS, (219, 210, 196, 168, 128, 128), strict=True))
    assert multiply_adds_per_pixel(config, [(512, 512)]) == by_hand / 128**2


def test_the_published_unet() -> None:
    section = {"name": "unet", "features": [64, 128, 256, 512, 1024], "padding": "valid", "norm": "none"}
    config = make_config("original", section, data={"channels": ["grey"]}, sampling={"patch_size": [188, 188]})
    encoder = [(1, 64, 570), (64, 64, 568), (64, 128, 282), (128, 128, 280), (128, 256, 138), (256, 256, 136)]
    encoder += [(256, 512, 66), (512, 512, 64), (512, 1024, 30), (1024, 1024, 28)]
    decoder = [(1024, 512, 54), (512, 512, 52), (512, 256, 102), (256, 256, 100), (256, 128, 198), (128, 128, 196)]
    decoder += [(128, 64, 390), (64, 64, 388)]
    by_hand = sum(9 * before * after * side**2 for before, after, side in encoder + decoder)
    by_hand += sum(2 * half * half * (2 * side) ** 2 for half, side in ((512, 28), (256, 52), (128, 100), (64, 196)))
    by_hand += 64 * 2 * 388**2
    assert multiply_adds_of_tile(shape_only_predictor(config), (572, 572)) == by_hand


def test_a_unet_is_never_run_patch_by_patch() -> None:
    assert multiply_adds_patch_by_patch(make_config("u", UNET)) is None


def test_small_tiles_cost_more_a_pixel_and_images_are_weighed_by_their_size() -> None:
    small, large = (
        make_config("u", UNET, inference={"tile_size": [side, side]}, sampling={"patch_size": [32, 32]}) for side in (32, 128)
    )
    assert multiply_adds_per_pixel(small, [(128, 128)]) > multiply_adds_per_pixel(large, [(128, 128)])
    one, other = multiply_adds_per_pixel(small, [(128, 128)]), multiply_adds_per_pixel(small, [(32, 32)])
    both = multiply_adds_per_pixel(small, [(128, 128), (32, 32)])
    assert both == pytest.approx((one * 128**2 + other * 32**2) / (128**2 + 32**2))


def test_volumes_are_counted_too() -> None:
    config = make_config("w", WINDOW, dimensions=3)
    # Window 9: 4@2^3 -> 8, pool -> 4; 4@3^3 -> 2, pool -> 1; hidden 4@1; 2 classes.
    assert multiply_adds_patch_by_patch(config) == 8 * 4 * 8**3 + 27 * 4 * 4 * 2**3 + 4 * 4 + 4 * 2


def test_counting_needs_no_weights() -> None:
    network = shape_only_predictor(n4()).network
    assert isinstance(network, SlidingWindow)
    assert all(parameter.is_meta for parameter in network.parameters())
