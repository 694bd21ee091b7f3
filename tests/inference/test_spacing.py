"""Spacing from a file to its mask: known, given by the user, or refused, and never guessed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from configs import schema
from imaging.errors import UnsuitableImage
from imaging.open import open_image
from imaging.writing.band_writer import open_writer
from inference.compatibility import check_suitable
from inference.plan import plan_image
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import Predictor
from inference.request import Writers
from inference.segment import Segmentation, segment
from models.architectures import build
from tests.phantom import draw_slide, write_pyramid_slide, write_volume

SHAPE = (96, 120)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    config = schema.load(Path("configs/histology_unet.yaml"), ["data.spacing_um=[0.25,0.25]", "model.features=[4,8]"])
    torch.manual_seed(0)
    return make_predictor(config, build(config).eval(), (0.5, 0.5), torch.device("cpu"))


def slide_of(folder: Path, mpp: object) -> Path:
    path = folder / "slide.svs"
    write_pyramid_slide(path, draw_slide(SHAPE, seed=0)[0], spacing_um=mpp)  # type: ignore[arg-type]  # as text into the file
    return path


def segment_file(path: Path, predictor: Predictor, folder: Path, spacing_um: tuple[float, ...] | None = None) -> Segmentation:
    classes = predictor.config.data.classes
    with (
        open_image(path, spacing_um=spacing_um) as source,
        open_writer(folder / "mask.tiff", source.geometry, format="tiff", classes=classes) as writer,
    ):
        return segment(plan_image(source, predictor), Writers([writer]))


@pytest.mark.parametrize("mpp", ["", "0", "-0.25", "nan", "inf", "wide"])
def test_s12_a_slide_that_does_not_say_is_refused_and_taken_when_it_is_given(
    tmp_path: Path, predictor: Predictor, mpp: str
) -> None:
    path = slide_of(tmp_path, mpp)
    with open_image(path) as source:
        assert source.spacing_um is None
    with pytest.raises(UnsuitableImage, match="give it in micrometres") as caught:
        segment_file(path, predictor, tmp_path)
    assert caught.value.code == "resolution_unknown"
    assert not (tmp_path / "mask.tiff").exists()
    assert segment_file(path, predictor, tmp_path, (0.5,)).warnings == ("spacing_given",)
    with open_image(tmp_path / "mask.tiff", labels=True) as mask:
        assert mask.shape == SHAPE
        assert mask.spacing_um == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("mpp", ["1e9", "250", "0.0001"])
def test_s12_a_spacing_that_is_implausible_is_refused(tmp_path: Path, predictor: Predictor, mpp: str) -> None:
    with open_image(slide_of(tmp_path, mpp)) as source, pytest.raises(UnsuitableImage, match="check the unit") as caught:
        check_suitable(source, predictor.config)
    assert caught.value.code == "spacing_mismatch"


def test_what_the_file_says_needs_no_remark(tmp_path: Path, predictor: Predictor) -> None:
    assert segment_file(slide_of(tmp_path, 0.25), predictor, tmp_path).warnings == ()


def test_a_spacing_given_for_a_volume_that_says_where_it_lies_is_refused(tmp_path: Path) -> None:
    write_volume(tmp_path / "v.nii", np.zeros((3, 4, 5), np.float32), (1000.0, 1000.0, 1000.0))
    with pytest.raises(UnsuitableImage, match="a volume whose file has its own; leave it out") as caught:
        open_image(tmp_path / "v.nii", spacing_um=(500.0,))
    assert caught.value.code == "spacing_invalid"


@pytest.mark.parametrize("spacing_um", [(1.0, 2.0, 3.0), (0.0,), (-1.0, 1.0), (float("nan"),)])
def test_a_spacing_that_is_none(tmp_path: Path, spacing_um: tuple[float, ...]) -> None:
    path = slide_of(tmp_path, "")
    with pytest.raises(UnsuitableImage, match="give 2 numbers above 0, or one for all") as caught:
        open_image(path, spacing_um=spacing_um)
    assert caught.value.code == "spacing_invalid"


def test_each_level_takes_its_share_of_a_given_spacing(tmp_path: Path) -> None:
    with open_image(slide_of(tmp_path, ""), spacing_um=(0.5, 0.25)) as source:
        assert [level.spacing_um for level in source.levels] == [(0.5, 0.25), (1.0, 0.5), (2.0, 1.0)]
