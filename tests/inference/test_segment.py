"""Segmentation: stitched tiles equal the whole image, and unsuitable images are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from array_source import ArraySource
from numpy.typing import NDArray

from configs import schema
from configs.schema import Config
from imaging.errors import UnsuitableImage
from imaging.writing.band_writer import open_writer
from inference.compatibility import at_trained_spacing, check_suitable
from inference.plan import plan_image
from inference.predictors.methods import UNetPredictor, make_predictor
from inference.predictors.predictor import Predictor
from inference.request import Writers
from inference.segment import Observers, Progress, bands, segment, segment_array
from inference.tiling.grid import Grid, losing_axis
from models.architectures import build

CPU = torch.device("cpu")


def make(name: str, *overrides: str, prior: tuple[float, ...] = ()) -> Predictor:
    """Return a predictor with random weights and random statistics of its batch norms."""
    config = schema.load(Path(f"configs/{name}.yaml"), overrides)
    torch.manual_seed(1)
    network = build(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    classes = len(config.data.classes)
    return make_predictor(config, network.eval(), prior or (1 / classes,) * classes, CPU)


def logits_of(source: ArraySource, predictor: Predictor, on_progress: Progress | None = None) -> NDArray[np.float32]:
    plan = plan_image(source, predictor)
    return np.concatenate([band.logits for band in bands(plan, Observers(plan, on_progress))], axis=1)


def picture(*shape: int, seed: int = 0) -> ArraySource:
    return ArraySource(np.random.default_rng(seed).integers(0, 255, (3, *shape)).astype(np.uint8))


def volume(*shape: int) -> ArraySource:
    return ArraySource(np.random.default_rng(0).normal(100, 20, (1, *shape)).astype(np.float32))


VALID = ("model.padding=valid", "model.norm=none", "model.features=[4,4,4,4,4]", "sampling.patch_size=[188,188]")
EXACT = {
    "valid": ("histology_unet", (*VALID, "inference.tile_size=[220,268]"), (*VALID, "inference.tile_size=[700,700]")),
    "same": ("histology_unet", ("inference.tile_size=[128,160]",), ("inference.tile_size=[512,512]",)),
    "sliding window": ("histology_sliding_window", ("inference.tile_size=[64,90]",), ("inference.tile_size=[900,900]",)),
    "sliding window, even": (
        "histology_sliding_window",
        ("model.window=36", "inference.tile_size=[64,90]"),
        ("model.window=36", "inference.tile_size=[900,900]"),
    ),
}


@pytest.mark.parametrize(("name", "small", "large"), EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("shape", [(200, 250), (131, 77), (5, 300), (1, 1)], ids=str)
def test_stitched_equals_the_whole_image(
    name: str, small: tuple[str, ...], large: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    source = picture(*shape)
    stitched, whole = make(name, *small), make(name, *large)
    assert len(whole.grid(shape)) == 1
    assert shape[0] < 131 or len(stitched.grid(shape)) > 1
    np.testing.assert_allclose(logits_of(source, stitched), logits_of(source, whole), atol=1e-5)


def test_valid_network_differs_for_a_step_that_is_no_multiple_of_its_stride(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the tile size of the U-Net paper with steps of its output size, 388, which isn't a multiple of 16."""
    source = picture(450, 40)
    whole = logits_of(source, make("histology_unet", *VALID, "inference.tile_size=[700,700]"))
    predictor = make("histology_unet", *VALID)
    for step, equal in ((384, True), (388, False)):
        grid = Grid(tuple(_tiles_with_step(size, step, predictor) for size in source.shape))
        monkeypatch.setattr(type(predictor), "grid", lambda *_, grid=grid: grid)
        assert np.allclose(logits_of(source, predictor), whole, atol=1e-5) is equal


def _tiles_with_step(size: int, step: int, predictor: Predictor) -> Any:
    """Return tiles of 572 pixels every `step` pixels, with the margins of the original U-Net."""
    from inference.tiling.grid import Axis, Span

    assert isinstance(predictor, UNetPredictor)
    assert predictor.margin == (92, 92)
    spans = []
    for start in range(0, size, step):
        stop = min(start + step, size)
        spans.append(Span(slice(start - 92, start + 480), slice(start, stop), slice(0, stop - start)))
    return Axis(size, 572, tuple(spans))


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_blended_tiles_come_close_to_each_other(norm: str) -> None:
    source = picture(150, 170)
    tiles = make("histology_unet", f"model.norm={norm}", "inference.tile_size=[64,64]")
    assert len(tiles.grid(source.shape)) > 4
    mask = segment_array(source, tiles)
    assert mask.shape == (150, 170)
    assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.parametrize("name", ["mri_unet", "mri_sliding_window"])
@pytest.mark.parametrize("shape", [(36, 50, 35), (9, 70, 33), (1, 1, 1)], ids=str)
def test_volumes_of_any_size(name: str, shape: tuple[int, ...]) -> None:
    mask = segment_array(volume(*shape), make(name, "inference.tile_size=[32,48,32]"))
    assert mask.shape == shape
    assert mask.dtype == np.uint8


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_batch_changes_nothing(batch_size: int) -> None:
    source, calls = picture(200, 180), []
    predictor = make("histology_unet", "inference.tile_size=[128,128]", f"inference.batch_size={batch_size}")
    logits = logits_of(source, predictor, lambda done, total: calls.append((done, total)))
    one = make("histology_unet", "inference.tile_size=[128,128]")
    np.testing.assert_allclose(logits, logits_of(source, one), atol=1e-5)
    assert calls[-1][0] == calls[-1][1] == len(predictor.grid(source.shape))


def test_the_prior_is_put_back() -> None:
    """Check p' = p*pi/.5 / (p*pi/.5 + (1-p)*(1-pi)/.5), for two classes with equal frequency in training."""
    source, prevalence = picture(20, 20), 0.1
    even = logits_of(source, make("histology_sliding_window")).astype(np.float64)
    corrected = logits_of(source, make("histology_sliding_window", prior=(1 - prevalence, prevalence))).astype(np.float64)
    p, p_corrected = (np.exp(value[1]) / np.exp(value).sum(axis=0) for value in (even, corrected))
    expected = p * prevalence / 0.5 / (p * prevalence / 0.5 + (1 - p) * (1 - prevalence) / 0.5)
    np.testing.assert_allclose(p_corrected, expected, rtol=1e-4)


@pytest.fixture
def config() -> Config:
    return schema.load(Path("configs/histology_unet.yaml"), ["data.spacing_um=[0.5,0.5]"])


def test_wrong_dimensions(config: Config) -> None:
    with pytest.raises(UnsuitableImage, match="image has 3 dimensions, the model takes 2; send a slide or picture") as caught:
        check_suitable(volume(4, 4, 4), config)
    assert caught.value.code == "dimension_not_supported"


def test_wrong_channels(config: Config) -> None:
    with pytest.raises(UnsuitableImage, match=r"image has 1 channels, the model takes 3 \(red, green, blue\); send") as caught:
        check_suitable(ArraySource(np.zeros((1, 8, 8), np.uint8)), config)
    assert caught.value.code == "channels_mismatch"


def test_wrong_spacing(config: Config) -> None:
    source = ArraySource(np.zeros((3, 8, 8), np.uint8), spacing_um=(0.03, 0.5))
    with pytest.raises(UnsuitableImage, match=r"0\.03 x 0\.5 um, .* 0\.5 x 0\.5 um: more than 16 times apart") as caught:
        check_suitable(source, config)
    assert caught.value.code == "spacing_mismatch"


def test_unknown_spacing(config: Config) -> None:
    with pytest.raises(UnsuitableImage, match=r"doesn't say how far apart .* 0\.5 x 0\.5 um; give it in micrometres") as caught:
        check_suitable(ArraySource(np.zeros((3, 8, 8), np.uint8)), config)
    assert caught.value.code == "resolution_unknown"


def test_spacing_that_is_near_is_taken_as_it_is(config: Config) -> None:
    near = ArraySource(np.zeros((3, 8, 8), np.uint8), (0.46, 0.54))
    assert at_trained_spacing(near, config.data) is near


@pytest.mark.parametrize("spacing_um", [(0.25, 0.25), (1.0, 1.0), (0.3, 0.8)], ids=str)
def test_another_spacing_is_segmented_as_trained_and_comes_back_on_the_image_s_own_grid(spacing_um: tuple[float, ...]) -> None:
    source = ArraySource(picture(130, 90).pixels.astype(np.float32), spacing_um)
    predictor = make("histology_unet", "data.spacing_um=[0.5,0.5]", "inference.tile_size=[64,64]")
    logits = logits_of(source, predictor)
    shape = [round(size * have / 0.5) for size, have in zip((130, 90), spacing_um, strict=True)]
    seen = ArraySource(resample_by_torch(source.pixels, shape))
    expected = resample_by_torch(logits_of(seen, make("histology_unet")), [130, 90])
    assert logits.shape == (2, 130, 90)
    np.testing.assert_allclose(logits, expected, atol=1e-3)
    assert plan_image(source, predictor).tile_count == len(predictor.grid(tuple(shape)))


def resample_by_torch(pixels: NDArray[Any], shape: list[int]) -> NDArray[np.float32]:
    """Return the image resampled by torch, whose grid and weights are the same."""
    batch = torch.from_numpy(pixels[None].astype(np.float32))
    return torch.nn.functional.interpolate(batch, shape, mode="bilinear", antialias=True)[0].numpy()


def test_tiles_of_a_losing_network_reach_over_the_border() -> None:
    axis = losing_axis(100, 70, (17, 17), 1, lambda at_least: at_least)
    assert axis.spans[0].input.start == -17
    assert axis.spans[-1].input.stop >= 117


@pytest.mark.parametrize("value", [0, 255])
def test_s14_a_blank_slide_is_segmented_and_remarked_upon(tmp_path: Path, value: int) -> None:
    predictor = make("histology_unet", "inference.tile_size=[64,64]")
    classes = predictor.config.data.classes
    for pixels, warnings in ((np.full((3, 90, 70), value, np.uint8), ("constant_image",)), (picture(90, 70).pixels, ())):
        source = ArraySource(pixels)
        with open_writer(tmp_path / "mask.png", source.geometry, format="png", classes=classes) as writer:
            assert segment(plan_image(source, predictor), Writers([writer])).warnings == warnings
