"""Outputs in several formats: the image is segmented once, and each file is the same as if it were the only one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_bundles import make_bundle

from datasets.inputs import find_inputs
from imaging.errors import UnsuitableImage
from imaging.source import MaskFormat
from inference import resume
from inference.plan import AnyPredictor
from inference.predict import Outcome, predict
from inference.predictors.ensemble import load_ensemble
from inference.request import OutputRequest
from inference.segment import Segmentation

FORMATS: tuple[MaskFormat, ...] = ("png", "tiff", "geojson", "ome-zarr")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8)).save(tmp_path / "picture.jpg")
    return tmp_path / "picture.jpg"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> AnyPredictor:
    words = ("model.norm=batch", "inference.tile_size=[48,48]", "inference.runtime=torch")
    return load_ensemble([make_bundle(tmp_path_factory.mktemp("outputs") / "bundle", 0, "unet", *words)], torch.device("cpu"))


def run(
    image: Path,
    predictor: AnyPredictor,
    out: Path,
    request: OutputRequest,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Outcome:
    return next(predict(find_inputs([image]).images, predictor, out, request, lambda _, done, total: on_progress(done, total)))


def bytes_of(files: tuple[Path, ...]) -> dict[str, bytes]:
    """Return the bytes of files, and of the files in folders, by name."""
    every = [each for path in files for each in ([path] if path.is_file() else sorted(path.rglob("*"))) if each.is_file()]
    return {each.relative_to(files[0].parent).as_posix(): each.read_bytes() for each in every}


def test_each_format_is_as_if_it_were_alone(tmp_path: Path, picture: Path, predictor: AnyPredictor) -> None:
    tiles: set[int] = set()
    together = run(picture, predictor, tmp_path / "all", OutputRequest(mask_formats=FORMATS), lambda _, total: tiles.add(total))
    alone = [
        run(picture, predictor, tmp_path / each, OutputRequest(mask_formats=(each,)), lambda _, total: tiles.add(total))
        for each in FORMATS
    ]
    assert [file.name for file in together.files] == [*(outcome.files[0].name for outcome in alone), "picture_summary.json"]
    assert bytes_of(together.files) == {name: own for outcome in alone for name, own in bytes_of(outcome.files).items()}
    assert len(tiles) == 1, "several formats take more tiles than one"


def test_masks_in_several_formats_share_files_of_other_outputs(tmp_path: Path, picture: Path, predictor: AnyPredictor) -> None:
    request = OutputRequest(mask_formats=("png", "geojson", "ome-zarr"), probabilities="uint8", uncertainty=True)
    outcome = run(picture, predictor, tmp_path / "out", request)
    assert sorted(file.name.removeprefix("picture") for file in outcome.files) == sorted(
        [
            ".png",
            ".geojson",
            ".ome.zarr",
            "_probabilities.tiff",
            "_probabilities.ome.zarr",
            "_uncertainty.tiff",
            "_summary.json",
        ]
    )
    assert outcome.files[0].suffix == ".png"


def test_interrupted_work_resumes_in_every_format(
    tmp_path: Path, picture: Path, predictor: AnyPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "LEAST_INTERVAL_S", 0.0)
    monkeypatch.setattr(resume, "SYNC_SHARE", 1e9)

    def stop(done: int, total: int) -> None:
        if done >= total / 2:
            raise KeyboardInterrupt

    whole = run(picture, predictor, tmp_path / "whole", OutputRequest(mask_formats=FORMATS))
    with pytest.raises(KeyboardInterrupt):
        run(picture, predictor, tmp_path / "broken", OutputRequest(mask_formats=FORMATS), stop)
    again = run(picture, predictor, tmp_path / "broken", OutputRequest(mask_formats=FORMATS))
    assert isinstance(again.result, Segmentation)
    assert again.result.resumed_row > 0
    assert bytes_of(again.files) == bytes_of(whole.files)


def test_an_unsuitable_format_is_refused_at_once(tmp_path: Path, picture: Path, predictor: AnyPredictor) -> None:
    outcome = run(picture, predictor, tmp_path / "out", OutputRequest(mask_formats=("png", "nifti")))
    assert isinstance(outcome.result, UnsuitableImage)
    assert outcome.result.code == "format_not_suitable"
    assert list((tmp_path / "out").iterdir()) == []
