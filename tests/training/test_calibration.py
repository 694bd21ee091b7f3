"""Calibration of real trainings: the error falls on cases that it did not see, and nothing but probabilities changes."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label
from typer.testing import CliRunner

import overtile
from configs import schema
from datasets.cases import read_cases
from evaluation.calibration.temperature import reliability
from inference.predictors.loading import load_predictor
from models import bundle
from models.bundle import Bundle
from models.heads import HEADS
from tests.phantom import draw_slide
from training import calibration, publishing
from training.calibration import CaseSample, calibration_validations, low_confidence, sample_case

CPU = torch.device("cpu")
SHAPE = (96, 96)
SPLITS = ["train"] * 2 + ["val"] * 5 + ["test"] * 4
WORDS = (
    "model.features=[8,16]",
    "sampling.patch_size=[64,64]",
    "trainer.max_steps=150",
    "trainer.validate_every_steps=150",
    "trainer.batch_size=2",
    "optimizer.learning_rate=0.01",
    "augment.probability=0",
)


def draw_unreliable(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a slide, and its mask without a third of the blobs, which nobody can tell from the others."""
    image, mask = draw_slide(SHAPE, number, radius_px=6)
    blobs, count = label(mask)
    dropped = 1 + np.flatnonzero(np.random.default_rng(number).random(count) < 1 / 3)
    return image, np.where(np.isin(blobs, dropped), 0, mask).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write cases whose references are wrong in a way that can only be learnt by heart, with a band of ignored pixels."""
    folder = tmp_path_factory.mktemp("unreliable")
    rows = ["case,image,reference,split"]
    for number, split in enumerate(SPLITS):
        image, mask = draw_unreliable(number)
        mask[:10] = 255
        Image.fromarray(np.moveaxis(image, 0, -1).copy()).save(folder / f"image{number}.png")
        Image.fromarray(mask).save(folder / f"reference{number}.png")
        rows.append(f"c{number},image{number}.png,reference{number}.png,{split}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


def train(data: Path, folder: Path, name: str, *overrides: str) -> str:
    places = (f"data.path={data}", f"run.folder={folder}", f"run.name={name}", "data.ignore_label=255")
    done = CliRunner().invoke(overtile.app, ["train", "configs/histology_unet.yaml", *places, *WORDS, *overrides])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, str, str]:
    """Return the bundle of a run, what the run printed, and its page."""
    folder = tmp_path_factory.mktemp("trained")
    output = train(data, folder, "run")
    return bundle.load(folder / "run"), output, (folder / "run/report.html").read_text()


def samples_of(loaded: Bundle, data: Path, split: str) -> Iterator[CaseSample]:
    predictor = load_predictor(loaded, CPU)
    for case in read_cases(data, loaded.config.data):
        if case.split == split:
            yield sample_case(case, predictor, 100_000)


def test_the_error_falls_on_cases_that_calibration_did_not_see(data: Path, trained: tuple[Bundle, str, str]) -> None:
    loaded = trained[0]
    fitted = loaded.manifest.calibration
    assert fitted is not None
    samples = list(samples_of(loaded, data, "test"))
    logits = np.concatenate([sample.logits for sample in samples], axis=1)
    labels = np.concatenate([sample.labels for sample in samples], axis=1)
    before, after = (
        reliability(HEADS[loaded.config.head.name](2, temperature), logits, labels) for temperature in (1.0, fitted.temperature)
    )
    assert fitted.temperature > 1.1  # learnt by heart, so too certain
    assert after.ece < 0.7 * before.ece
    assert after.nll < before.nll
    assert fitted.after.ece < fitted.before.ece
    assert (fitted.cases, fitted.pixels) == (5, sum(fitted.before.pixels))


def test_the_run_says_what_it_fitted(trained: tuple[Bundle, str, str]) -> None:
    loaded, output, page = trained
    fitted = loaded.manifest.calibration
    assert fitted is not None
    assert f"run: probabilities calibrated by temperature {fitted.temperature:.3g}: calibration error" in output
    assert f"{fitted.before.ece:.3f} before, {fitted.after.ece:.3f} after, on {fitted.pixels:,} pixels of 5 valid" in output
    assert "<h2>Calibration</h2>" in page
    assert f"of 5 validation cases, on which the temperature {fitted.temperature:.3g} was fitted" in page
    assert fitted.low_confidence is not None
    assert f"mean probability below {fitted.low_confidence:.2f} get the remark low_confidence" in page


def test_ignored_pixels_are_left_out(data: Path, trained: tuple[Bundle, str, str]) -> None:
    for number, sample in enumerate(samples_of(trained[0], data, "val"), start=2):
        assert set(np.unique(sample.labels)) == {0, 1}
        mask = draw_unreliable(number)[1][10:]
        assert sample.labels.sum() == mask.sum()  # all of the foreground is in the sample
        assert sample.labels.shape[1] <= mask.size


def test_a_sample_is_the_same_whatever_the_tiles(data: Path, trained: tuple[Bundle, str, str]) -> None:
    loaded = trained[0]
    case = read_cases(data, loaded.config.data)[-1]
    samples = []
    for size in (32, 64, 96):
        inference = loaded.config.inference.model_copy(update={"tile_size": (size, size)})
        predictor = load_predictor(replace(loaded, config=loaded.config.model_copy(update={"inference": inference})), CPU)
        samples.append(sample_case(case, predictor, 1000))
    for other in samples[1:]:
        assert other.labels.tobytes() == samples[0].labels.tobytes()
        np.testing.assert_allclose(other.logits, samples[0].logits, atol=1e-3)


def test_calibration_can_be_switched_off_and_changes_no_weight_and_no_mask(
    data: Path, trained: tuple[Bundle, str, str], tmp_path: Path
) -> None:
    calibrated = trained[0]
    output = train(data, tmp_path, "run", "trainer.calibrate=false")
    plain = bundle.load(tmp_path / "run")
    assert plain.manifest.calibration is None
    assert "probabilities calibrated" not in output
    assert "<h2>Calibration</h2>" not in (tmp_path / "run/report.html").read_text()
    for name in ("weights.safetensors", "sample.safetensors"):
        assert plain.manifest.files[name] == calibrated.manifest.files[name]
    masks = []
    for number, loaded in enumerate((plain, calibrated)):
        words = ["predict", str(data / "image8.png"), "-b", str(loaded.folder), "-o", str(tmp_path / f"out{number}")]
        done = CliRunner().invoke(overtile.app, [*words, "--uncertainty"])
        assert done.exit_code == 0, done.output
        masks.append((tmp_path / f"out{number}/image8.png").read_bytes())
        shutil.copy(next((tmp_path / f"out{number}").glob("*uncertainty*")), tmp_path / f"uncertainty{number}")
    assert masks[0] == masks[1]
    assert (tmp_path / "uncertainty0").read_bytes() != (tmp_path / "uncertainty1").read_bytes()


@pytest.mark.parametrize("calibrates", [True, False])
def test_a_run_that_ends_while_it_calibrates_goes_on_and_fits_the_same_or_not_at_all(
    data: Path, trained: tuple[Bundle, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calibrates: bool
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("while it calibrates")

    monkeypatch.setattr(publishing, "calibrate", fail)
    with pytest.raises(MemoryError, match="while it calibrates"):
        train(data, tmp_path, "run")
    monkeypatch.undo()
    assert not (tmp_path / "run/bundle").exists()
    assert "resumes from" in train(data, tmp_path, "run", f"trainer.calibrate={str(calibrates).lower()}")
    manifest = bundle.load(tmp_path / "run").manifest
    assert manifest.calibration == (trained[0].manifest.calibration if calibrates else None)
    assert manifest.files["weights.safetensors"] == trained[0].manifest.files["weights.safetensors"]


def confidences(values: NDArray[np.float64]) -> list[NDArray[np.float32]]:
    """Return the foreground of a case for each mean confidence: one pixel with these log-odds."""
    return [np.log([[value / (1 - value)]]).astype(np.float32) for value in values]


def test_the_threshold_is_the_end_of_a_prediction_interval() -> None:
    """Check five cases of .8 to .9: mean .85, deviation .0395, and t 2.132 with 4 degrees of freedom."""
    head, nothing = HEADS["sigmoid"](2), np.zeros((1, 0), np.float32)
    cases = confidences(np.linspace(0.8, 0.9, 5))
    assert low_confidence(head, [*cases, nothing]) == pytest.approx(0.85 - 2.1318 * 1.2**0.5 * 0.0395285, abs=1e-4)
    assert low_confidence(head, [*cases[:3], nothing]) is None
    unsure, sure = np.zeros((4, 1), np.float32), np.array([[0], [99], [0], [0]], np.float32)  # .25 and 1
    assert low_confidence(HEADS["softmax"](4), [unsure, sure, unsure, sure]) == 0


@pytest.mark.parametrize("cases", [4, 8, 30])
def test_one_image_in_twenty_is_below_the_threshold(cases: int) -> None:
    random, below = np.random.default_rng(cases), 0
    for _ in range(2000):
        *seen, unseen = random.normal(0.85, 0.02, cases + 1)
        threshold = low_confidence(HEADS["sigmoid"](2), confidences(np.array(seen)))
        below += threshold is not None and bool(unseen < threshold)
    assert 70 < below < 130  # 100 expected, deviation 10


@pytest.mark.parametrize(
    ("average", "cases", "validations"),
    [("none", 5, 1), ("none", 32, 1), ("none", 64, 0.5), ("flips", 8, 4), ("flips_and_turns", 8, 4), ("flips", 1, 4)],
)
def test_calibration_takes_at_most_32_passes_or_four_cases(average: str, cases: int, validations: float) -> None:
    """Check against flips in 2D (4 passes) and turns as well (8)."""
    words = ("data.path=x", f"inference.average={average}")
    config = schema.load(Path("configs/histology_unet.yaml"), words)
    assert calibration_validations(config, cases) == validations
    off = schema.load(Path("configs/histology_unet.yaml"), (*words, "trainer.calibrate=false"))
    assert calibration_validations(off, cases) == 0


def test_too_few_pixels_fit_nothing(data: Path, trained: tuple[Bundle, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = trained[0]
    cases = [case for case in read_cases(data, loaded.config.data) if case.split == "val"]
    monkeypatch.setattr(calibration, "LEAST_PIXELS", 10**9)
    assert calibration.calibrate(loaded.config, load_predictor(loaded, CPU), cases) is None


def test_the_manifest_is_plain_json(trained: tuple[Bundle, str, str]) -> None:
    written = json.loads((trained[0].folder / "manifest.json").read_text())
    assert written["format_version"] == 4
    assert set(written["calibration"]) == {"temperature", "low_confidence", "cases", "pixels", "before", "after"}
    assert len(written["calibration"]["before"]["pixels"]) == 15
