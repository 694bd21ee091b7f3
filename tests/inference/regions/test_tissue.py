"""Tissue of slides: tiles without tissue are skipped and become background, and nothing else changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_bundles import make_bundle
from typer.testing import CliRunner

from imaging.errors import UnsuitableImage
from imaging.open import open_image
from inference.plan import plan_image
from inference.predictors.loading import load_predictor
from inference.regions.tissue import Tissue, find_tissue
from inference.request import ImagePart
from inference.segment import Observers, bands
from models.heads import HEADS
from overtile import app
from tests.phantom import write_pyramid_slide, write_volume

CPU = torch.device("cpu")
EXACT = ("model.norm=batch", "inference.tile_size=[48,48]")


def slide(folder: Path, *, blob: bool = True) -> Path:
    """Write a slide of noisy glass, 400 x 600, with a purple disc of 60 pixels around (120, 450)."""
    random = np.random.default_rng(0)
    pixels = random.integers(238, 246, (3, 400, 600)).astype(np.uint8)
    if blob:
        rows, columns = np.ogrid[:400, :600]
        inside = (rows - 120) ** 2 + (columns - 450) ** 2 < 30**2
        for channel, value in zip(pixels, (150, 80, 160), strict=True):
            channel[inside] = value
    write_pyramid_slide(folder / "slide.svs", pixels, spacing_um=0.5)
    return folder / "slide.svs"


def test_the_disc_is_found_and_little_else(tmp_path: Path) -> None:
    with open_image(slide(tmp_path)) as source:
        tissue = find_tissue(source)
    disc = np.pi * 30**2 / (400 * 600)
    assert disc < tissue.share < 1.5 * disc
    assert not tissue.misses((slice(100, 140), slice(430, 470)), (400, 600))
    assert tissue.misses((slice(0, 400), slice(0, 400)), (400, 600))
    assert not tissue.misses((slice(230, 250), slice(890, 910)), (800, 1200))  # the same place on a finer grid


def test_grey_ink_counts_and_bare_glass_holds_nothing(tmp_path: Path) -> None:
    with open_image(slide(tmp_path, blob=False)) as source:
        assert find_tissue(source).share == 0
    pixels = np.full((3, 200, 200), 240, np.uint8)
    pixels[:, 50:60, 50:60] = 40  # black: no colour
    write_pyramid_slide(tmp_path / "ink.svs", pixels, spacing_um=0.5)
    with open_image(tmp_path / "ink.svs") as source:
        assert not find_tissue(source).misses((slice(50, 60), slice(50, 60)), (200, 200))


def test_other_images_have_no_tissue_to_be_found(tmp_path: Path) -> None:
    write_volume(tmp_path / "volume.nii.gz", np.zeros((8, 8, 8), np.float32), (1000, 1000, 1000))
    with (
        open_image(tmp_path / "volume.nii.gz") as source,
        pytest.raises(UnsuitableImage, match="has 3 dimensions and 1 channels") as caught,
    ):
        find_tissue(source)
    assert caught.value.code == "tissue_not_findable"


@pytest.mark.parametrize("overrides", [EXACT, ()], ids=["side by side", "blended"])
def test_tiles_with_tissue_are_as_ever_and_the_rest_is_background(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    predictor = load_predictor(make_bundle(tmp_path / "bundle", 0, "unet", *overrides), CPU)
    with open_image(slide(tmp_path)) as source:
        tissue = find_tissue(source)
        every, some = (joined(list(bands(plan_image(source, predictor, ImagePart(tissue=each))))) for each in (None, tissue))
    head = predictor.head
    bare = head.probabilities(some)[0] > 1 - 1e-6
    assert 0.8 < bare.mean() < 0.99
    far_inside = (slice(None), slice(105, 135), slice(435, 465))
    np.testing.assert_allclose(some[far_inside], every[far_inside], atol=1e-5)
    assert (head.mask(some)[bare] == 0).all()


def joined(found: list) -> NDArray[np.float32]:  # type: ignore[type-arg]
    return np.concatenate([band.logits for band in found], axis=1)


@pytest.mark.parametrize("name", [name for name, head in HEADS.items() if not head.gives_values])
def test_nothing_is_background_for_every_head(name: str) -> None:
    head = HEADS[name](2 if name == "sigmoid" else 4)
    logits = head.nothing.reshape(-1, 1, 1)
    assert head.mask(logits).tolist() == [[0]]
    assert head.probabilities(logits)[0, 0, 0] > 1 - 1e-5


def test_the_command_line_says_what_was_skipped(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle", 0, "unet", *EXACT)
    words = ["predict", str(slide(tmp_path)), "-b", str(made.folder), "-o", str(tmp_path / "out"), "--tissue"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "of 228 tiles skipped, tiles_skipped" in done.output
    planned = CliRunner().invoke(app, [*words, "--dry-run"])
    skipped = int(done.output.split(" of 228 tiles skipped")[0].split()[-1])
    assert f"in {228 - skipped} tiles of " in planned.output
    with open_image(tmp_path / "out" / "slide.tiff", labels=True) as mask:
        assert not mask.read((slice(0, 400), slice(0, 300))).any()


def test_a_bundle_of_values_has_no_background(tmp_path: Path) -> None:
    values = ("head.kind=regression", "data.classes=[{name: v, colour: '#000000'}]")
    made = make_bundle(tmp_path / "bundle", 0, "unet", *EXACT, *values)
    words = ["predict", str(slide(tmp_path)), "-b", str(made.folder), "-o", str(tmp_path / "out"), "--tissue"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "gives values and no probabilities of classes; leave --tissue out" in done.output


def test_a_tissue_picture_of_another_size_covers_the_same_extent() -> None:
    tissue = Tissue(np.array([[False, True], [False, False]]))
    assert [tissue.misses((rows, columns), (10, 10)) for rows in HALVES for columns in HALVES] == [True, False, True, True]


HALVES = (slice(0, 5), slice(5, 10))


def test_progress_counts_segmented_tiles(tmp_path: Path) -> None:
    """Check that progress counts only tiles that are segmented, so that the remaining time is right."""
    predictor = load_predictor(make_bundle(tmp_path / "bundle", 0, "unet", *EXACT), CPU)
    calls: list[tuple[int, int]] = []
    with open_image(slide(tmp_path)) as source:
        plan = plan_image(source, predictor, ImagePart(tissue=find_tissue(source)))
        for _ in bands(plan, Observers(plan, lambda done, total: calls.append((done, total)))):
            pass
        assert calls[-1] == (plan.tile_count,) * 2
        assert plan.tile_count < plan_image(source, predictor).tile_count / 4
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
