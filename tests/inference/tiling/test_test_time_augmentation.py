"""Averaging over mirror images and turns: symmetries can be undone, and the mean is equivariant."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from array_source import ArraySource
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from configs import schema
from evaluation.comparison.cost import multiply_adds_patch_by_patch, multiply_adds_per_pixel
from inference.plan import plan_image
from inference.predictors.loading import load_predictor
from inference.predictors.methods import make_predictor
from inference.predictors.pass_memory import count_inference
from inference.predictors.predictor import Predictor
from inference.segment import bands
from inference.tiling.test_time_augmentation import LostPixels, Symmetry, mean_over, symmetries
from models import bundle
from models.architectures import build
from tests.manifest_facts import FACTS

CPU = torch.device("cpu")
VALID = ("model.padding=valid", "model.norm=none", "model.features=[4,4,4]", "sampling.patch_size=[60,60]")
NETWORKS: dict[str, tuple[str, ...]] = {
    "sliding_window odd": ("model.window=25",),
    "sliding_window even": ("model.window=26",),
    "sliding_window even, foveated": (
        "model.window=12",
        "model.convolutions=[{features: 4, kernel: 3}]",
        "model.foveation_px=2",
    ),
    "unet valid": VALID,
    "unet same": ("model.features=[4,4,4]", "sampling.patch_size=[64,64]"),
    "unet same, strided": ("model.features=[4,4,4]", "model.down=strided", "sampling.patch_size=[64,64]"),
    "unet blended": ("model.features=[4,4]", "model.norm=instance", "sampling.patch_size=[64,64]"),
}


def make(method: str, *overrides: str, name: str = "histology", average: bool = True) -> Predictor:
    config = schema.load(Path(f"configs/{name}_{method}.yaml"), overrides)
    torch.manual_seed(3)
    prior = [0.7, *[0.3 / (len(config.data.classes) - 1)] * (len(config.data.classes) - 1)]
    return make_predictor(config, build(config).eval(), prior, CPU, average=average)


def logits_of(pixels: NDArray[Any], predictor: Predictor) -> NDArray[np.float32]:
    return np.concatenate(
        [band.logits for band in bands(plan_image(ArraySource(np.ascontiguousarray(pixels)), predictor))], axis=1
    )


def random_pixels(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(100, 30, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("average", "dimensions", "count"),
    [("none", 2, 1), ("none", 3, 1), ("flips", 2, 4), ("flips", 3, 8), ("flips_and_turns", 2, 8), ("flips_and_turns", 3, 16)],
)
def test_every_symmetry_once_and_undone(average: Any, dimensions: int, count: int) -> None:
    selected = symmetries(average, dimensions)
    assert len(selected) == count
    assert selected[0] == Symmetry()
    cube = torch.arange(3**dimensions).view(1, 1, *(3,) * dimensions)
    assert len({tuple(symmetry.apply(cube).flatten().tolist()) for symmetry in selected}) == count
    tile = torch.randn(2, 3, *(4, 5, 6)[:dimensions])
    for symmetry in selected:
        assert torch.equal(symmetry.undo(symmetry.apply(tile)), tile)


def test_moves_typed_out() -> None:
    tile = torch.tensor([[[[1, 2, 3], [4, 5, 6]]]])
    assert Symmetry(flipped_axes=(-1,)).apply(tile)[0, 0].tolist() == [[3, 2, 1], [6, 5, 4]]
    assert Symmetry(is_turned=True).apply(tile)[0, 0].tolist() == [[3, 6], [2, 5], [1, 4]]
    assert Symmetry(is_turned=True, flipped_axes=(-2,)).apply(tile)[0, 0].tolist() == [[1, 4], [2, 5], [3, 6]]


def test_the_mean_typed_out() -> None:
    """Check the mean of the identity, and of a function that picks the first column: the mean of the first and last one."""
    tile = torch.tensor([[[[1.0, 2.0, 4.0]]]])
    flips = symmetries("flips", 2)
    assert mean_over(flips, lambda moved: moved, tile).tolist() == tile.tolist()
    first = torch.tensor([1.0, 0.0, 0.0])
    assert mean_over(flips, lambda moved: moved * first, tile)[0, 0].tolist() == [[0.5, 0.0, 2.0]]


@settings(max_examples=30, deadline=None)
@given(
    kernel=st.integers(1, 6),
    unused=st.integers(0, 5),
    steps=st.integers(1, 4),
    average=st.sampled_from(["flips", "flips_and_turns"]),
)
def test_networks_with_unequal_margins_are_read_with_equal_ones(kernel: int, unused: int, steps: int, average: Any) -> None:
    """Check windows of odd and even size whose smallest legal input has unused outputs."""
    stride, before, after = 4, kernel // 2, kernel - 1 - kernel // 2
    lost = LostPixels.of((before, after), stride, lambda at_least: at_least + unused)
    assert lost == LostPixels(before, after, stride, unused)
    side = steps * stride + 2 * lost.margin
    tile = torch.randn(1, 1, side, side, dtype=torch.float64)
    seen_sides = []

    def one_pass(moved: torch.Tensor) -> torch.Tensor:
        seen = moved[..., lost.input_part(side), lost.input_part(side)]
        seen_sides.append(seen.shape[-1])
        sums = seen.unfold(2, kernel, 1).unfold(3, kernel, 1)[..., -1, -1]  # of each window, the last pixel
        return sums[..., lost.output_part(side), lost.output_part(side)]

    mean = mean_over(symmetries(average, 2), one_pass, tile)
    assert set(seen_sides) == {steps * stride + before + after + unused}
    inner = slice(lost.margin, side - lost.margin)
    near, far = after, -after  # the last pixel lies `after` from the window's centre; mirrored, on the other side
    shifted = [torch.roll(tile, (rows, columns), (2, 3)) for rows in (near, far) for columns in (near, far)]
    torch.testing.assert_close(mean, torch.stack(shifted).mean(0)[..., inner, inner])


@pytest.mark.parametrize("tile_size", ["[300,300]", "[60,76]"])
@pytest.mark.parametrize("average", ["flips", "flips_and_turns"])
@pytest.mark.parametrize("name", NETWORKS)
def test_segmentation_is_equivariant(name: str, average: str, tile_size: str) -> None:
    """Check images whose sides are multiples of the U-Nets' strides, since only they mirror onto whole blocks of outputs."""
    overrides = (*NETWORKS[name], f"inference.average={average}", f"inference.tile_size={tile_size}")
    shape = (12, 20) if "foveated" in name else (48, 64)
    predictor, pixels = make(name.split()[0], *overrides), random_pixels(3, *shape)
    logits = logits_of(pixels, predictor)
    for moved, moved_logits in ((pixels[:, ::-1], logits[:, ::-1]), (pixels[:, :, ::-1], logits[:, :, ::-1])):
        np.testing.assert_allclose(logits_of(moved, predictor), moved_logits, atol=1e-5)
    if average == "flips_and_turns" and tile_size == "[300,300]":
        turned = logits_of(np.rot90(pixels, axes=(1, 2)), predictor)
        np.testing.assert_allclose(turned, np.rot90(logits, axes=(1, 2)), atol=1e-5)


@pytest.mark.parametrize("name", ["sliding_window odd", "sliding_window even", "unet valid", "unet same"])
def test_the_mean_is_that_of_transformed_images(name: str) -> None:
    """Check that the result of tiles is the mean over transformed whole images, each segmented without averaging."""
    overrides = (*NETWORKS[name], "inference.average=flips_and_turns", "inference.tile_size=[60,76]")
    method, pixels = name.split()[0], random_pixels(3, 48, 64)
    plain = make(method, *overrides, average=False)
    expected = np.zeros((2, 48, 64))
    for symmetry in symmetries("flips_and_turns", 2):
        moved = symmetry.apply(torch.from_numpy(pixels)[None])[0].numpy()
        expected += symmetry.undo(torch.from_numpy(logits_of(moved, plain))[None])[0].numpy() / 8
    np.testing.assert_allclose(logits_of(pixels, make(method, *overrides)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "window", "foveation_px"), [("sliding_window", 9, 0), ("sliding_window", 6, 2), ("unet", 0, 0)]
)
def test_volumes(method: str, window: int, foveation_px: int) -> None:
    overrides = ("augment.flips=true", "inference.average=flips_and_turns", "inference.tile_size=[16,24,16]")
    if method == "unet":
        overrides = (*overrides, "model.features=[4,4]", "model.norm=batch", "sampling.patch_size=[16,16,16]")
    else:
        overrides = (*overrides, f"model.window={window}", "model.convolutions=[{features: 4, kernel: 3}]")
        overrides = (*overrides, f"model.foveation_px={foveation_px}")
    predictor, pixels = make(method, *overrides, name="mri"), random_pixels(1, 6, 12, 8)
    logits = logits_of(pixels, predictor)
    for axis in (1, 2, 3):
        np.testing.assert_allclose(logits_of(np.flip(pixels, axis), predictor), np.flip(logits, axis), atol=1e-5)
    turned = logits_of(np.rot90(pixels, axes=(2, 3)), predictor)
    np.testing.assert_allclose(turned, np.rot90(logits, axes=(2, 3)), atol=1e-5)


def test_bundles_average_as_their_config_says_and_training_does_not(tmp_path: Path) -> None:
    trained = make("sliding_window", "inference.average=flips", average=False)
    assert trained.symmetries == (Symmetry(),)
    bundle.write(tmp_path / "bundle", trained.network, trained.config, class_prior=(0.7, 0.3), **FACTS)
    served = load_predictor(bundle.load(tmp_path / "bundle"), CPU)
    assert served.symmetries == symmetries("flips", 2)
    pixels = random_pixels(3, 20, 30)
    assert not np.allclose(logits_of(pixels, served), logits_of(pixels, trained), atol=1e-3)


def test_cost_and_memory_count_every_pass_and_one_at_a_time() -> None:
    names = ("none", "flips", "flips_and_turns")
    configs = [make("unet", *NETWORKS["unet same"], f"inference.average={name}", average=False).config for name in names]
    costs = [multiply_adds_per_pixel(config, [(512, 512)]) for config in configs]
    assert costs == [costs[0], 4 * costs[0], 8 * costs[0]]
    none, flips, turns = (count_inference(config, (512, 512)).peak_bytes for config in configs)
    assert none < flips == pytest.approx(turns, rel=0.01)
    assert flips < none + 12 * 512**2 * 4  # the tile moved, the sum, the logits moved back


def test_windows_one_by_one_are_counted_one_by_one() -> None:
    foveated = ("model.window=12", "model.convolutions=[{features: 4, kernel: 3}]", "model.foveation_px=2")
    config = make("sliding_window", *foveated, "inference.average=flips", average=False).config
    predictor = make_predictor(config, build(config), (0.5, 0.5), CPU)
    assert len(predictor.grid((100, 100))) == 4  # of 50 x 50 outputs: no tile has more than 64 a side
    blur = 4 * 2 * 12**3 * 3  # copies, axes, a matrix of 12 x 12 for every line of every channel
    network = 9 * 3 * 4 * 10**2 + 25 * 4 * 100 + 100 * 2
    assert multiply_adds_patch_by_patch(config) == 4 * (blur + network)
    assert multiply_adds_per_pixel(config, [(100, 100)]) == 4 * (blur + network)
