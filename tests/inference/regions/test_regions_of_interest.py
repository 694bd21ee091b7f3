"""Regions of interest: inside, the mask equals that of the whole image; outside is background."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from small_bundles import Picture, make_bundle
from typer.testing import CliRunner

from imaging.errors import UnsuitableImage
from imaging.open import open_image
from inference.plan import plan_image
from inference.predictors.loading import load_predictor
from inference.regions.regions_of_interest import Regions, regions_of
from inference.request import ImagePart
from inference.segment import bands
from overtile import app

EXACT = ("model.norm=batch", "inference.tile_size=[48,48]")
BOXES = ((10, 5, 20, 30), (100, 40, 30, 30))


def inside_of(boxes: tuple[tuple[int, ...], ...], shape: tuple[int, int]) -> NDArray[np.bool_]:
    inside = np.zeros(shape, bool)
    for top, left, height, width in boxes:
        inside[top : top + height, left : left + width] = True
    return inside


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def mask_in(folder: Path) -> NDArray[Any]:
    with open_image(folder / "picture.png", labels=True) as mask:
        return mask.read(tuple(slice(0, size) for size in mask.shape))[0]


def test_inside_as_ever_and_outside_background(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle", 0, "unet", *EXACT)
    Image.fromarray(np.moveaxis(Picture().pixels, 0, -1)).save(tmp_path / "picture.png")
    words = ("predict", tmp_path / "picture.png", "-b", made.folder, "-o")
    assert run(*words, tmp_path / "whole").exit_code == 0
    regions = [word for box in BOXES for word in ("--region", ",".join(map(str, box)))]
    done = run(*words, tmp_path / "some", *regions)
    assert done.exit_code == 0, done.output
    assert " tiles skipped, tiles_skipped (tiles without tissue, or outside of the regions of interest, " in done.output
    whole, some = (mask_in(tmp_path / name) for name in ("whole", "some"))
    inside = inside_of(BOXES, whole.shape)
    assert whole[~inside].any()
    np.testing.assert_array_equal(some, np.where(inside, whole, 0))
    refused = run(*words, tmp_path / "no", "--region", "100,40,31,30")
    assert refused.exit_code == 3
    assert "region 100,40,31,30 doesn't lie in an image of 130 x 70; give the place of its first pixel" in refused.output
    assert run(*words, tmp_path / "no", "--region", "a,b").exit_code == 2


def test_only_tiles_that_touch_a_region_are_looked_at(tmp_path: Path) -> None:
    predictor = load_predictor(make_bundle(tmp_path / "bundle", 0, "unet", *EXACT), torch.device("cpu"))
    asked, by_network = [0], predictor.run

    def counted(patches: torch.Tensor) -> torch.Tensor:
        asked[0] += len(patches)
        return by_network(patches)

    regions = regions_of(((0, 0, 10, 10),), (130, 70))
    plan = plan_image(Picture(), replace(predictor, run=counted), ImagePart(regions=regions))
    assert sum(band.logits.shape[1] for band in bands(plan)) == 130
    assert asked == [1]


def test_the_same_extent_on_another_grid() -> None:
    regions = Regions(((slice(10, 20), slice(10, 20)),), (100, 100))
    assert not regions.misses((slice(19, 30), slice(0, 30)), (100, 100))
    assert regions.misses((slice(20, 30), slice(0, 30)), (100, 100))
    assert not regions.misses((slice(39, 60), slice(0, 60)), (200, 200))
    assert regions.misses((slice(40, 60), slice(0, 60)), (200, 200))


@pytest.mark.parametrize("numbers", [(0, 0, 10), (0, 0, 0, 10), (-1, 0, 5, 5), (0, 95, 5, 6), (0, 0, 0, 1, 1, 1)])
def test_a_region_that_isnt_one_is_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(UnsuitableImage, match="4 numbers, top,left,height,width") as caught:
        regions_of((numbers,), (100, 100))
    assert caught.value.code == "region_outside"
    with pytest.raises(UnsuitableImage, match="6 numbers, front,top,left,depth,height,width"):
        regions_of(((0, 0, 1, 1),), (8, 8, 8))
