"""Calibrated bundles: masks stay as they are, probabilities and uncertainty change, and uncertain images get a remark."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_source import ArraySource
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from small_bundles import CPU, Picture, logits_of, make_bundle
from typer.testing import CliRunner

from datasets.inputs import find_inputs
from imaging.open import open_image
from inference import confidence, resume
from inference.confidence import ForegroundConfidence
from inference.plan import AnyPredictor, plan_image
from inference.predict import predict
from inference.predictors.ensemble import Ensemble, load_ensemble
from inference.predictors.loading import load_predictor
from inference.request import OutputRequest, Writers
from inference.segment import Segmentation, segment, segment_array
from inference.tiling.stitch import Band
from models import bundle
from models.heads import HEADS
from overtile import app
from tests.calibrations import calibration
from tests.manifest_facts import FACTS

EVERYTHING = OutputRequest(probabilities="uint8", uncertainty=True)
EXACT = ("model.norm=batch",)


def bands_of(logits: NDArray[np.float32], rows: int) -> Iterator[Band]:
    for start in range(0, logits.shape[1], rows):
        yield Band(start, logits[:, start : start + rows])


def counts_of(logits: NDArray[np.float32], rows: int, head: Any) -> tuple[int, int]:
    meter = ForegroundConfidence(head, logits.shape[1:])
    for band in bands_of(logits, rows):
        meter.add(band)
    return meter.counts


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "multi_label", "cumulative"])
@given(seed=st.integers(0, 2**31), most_pixels=st.sampled_from([2**22, 400, 64]))
def test_the_confidence_does_not_depend_on_bands(name: str, seed: int, most_pixels: int) -> None:
    head = HEADS[name](2 if name == "sigmoid" else 3, 1.5, 0.5)
    logits = np.random.default_rng(seed).normal(0, 3, (head.outputs, 70, 13)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confidence, "MOST_PIXELS", most_pixels)
        assert len({counts_of(logits, rows, head) for rows in (1, 7, 64, 70)}) == 1


def test_typed_out_confidence() -> None:
    """Check two foreground pixels of .9 and .6, and a background pixel that doesn't count."""
    head = HEADS["sigmoid"](2, 2.0, 0.8)
    logits = 2 * np.log(np.array([[[9.0, 1.5, 0.01]]], np.float32))
    meter = ForegroundConfidence(head, (1, 3))
    meter.add(Band(0, logits))
    assert meter.mean == pytest.approx(0.75, abs=1e-5)
    assert meter.counts[1] == 2
    assert meter.is_low
    assert not ForegroundConfidence(head, (1, 3)).is_low  # an image without foreground


def test_volumes_are_sampled_along_all_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confidence, "MOST_PIXELS", 10 * 10 * 10 // 8)
    logits = np.ones((1, 10, 10, 10), np.float32)
    assert counts_of(logits, 3, HEADS["sigmoid"](2, 1.0, 0.5))[1] == 5**3


def outputs_of(picture: Path, predictor: AnyPredictor, out: Path) -> dict[str, NDArray[Any]]:
    """Segment a picture, and return its mask, its probabilities and its uncertainty by kind."""
    (outcome,) = predict(find_inputs([picture]).images, predictor, out, EVERYTHING, lambda *_: None)
    assert isinstance(outcome.result, Segmentation), outcome.result
    arrays: dict[str, NDArray[Any]] = {}
    for path in (each for each in outcome.files if each.suffix != ".json"):
        with ExitStack() as stack:
            image = stack.enter_context(open_image(path))
            kind = path.stem.removeprefix("picture").split(".")[0] or "mask"
            arrays[kind] = image.read(tuple(slice(0, side) for side in image.shape))
    return arrays


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.moveaxis(Picture().pixels, 0, -1)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.mark.parametrize("name", ["unet", "sliding_window"])
def test_a_calibrated_bundle_gives_the_same_mask_and_other_probabilities(name: str, tmp_path: Path, picture: Path) -> None:
    raw = load_predictor(make_bundle(tmp_path / "raw", 3, name), CPU)
    calibrated = load_predictor(make_bundle(tmp_path / "calibrated", 3, name, calibration=calibration(2.5)), CPU)
    assert logits_of(calibrated).tobytes() == logits_of(raw).tobytes()
    before, after = (outputs_of(picture, each, tmp_path / f"out{number}") for number, each in enumerate((raw, calibrated)))
    assert before["mask"].tobytes() == after["mask"].tobytes()
    expected = softmax(logits_of(raw) / 2.5, axis=0)
    np.testing.assert_allclose(after["_probabilities"] / 255, expected, atol=0.5 / 255 + 1e-5)
    assert after["_uncertainty"].mean() > before["_uncertainty"].mean()


def test_an_older_bundle_gives_the_same_bytes_as_before(tmp_path: Path, picture: Path) -> None:
    loaded = make_bundle(tmp_path / "raw", 3)
    outputs = outputs_of(picture, load_predictor(loaded, CPU), tmp_path / "out")
    assert loaded.manifest.calibration is None
    probabilities = softmax(logits_of(load_predictor(loaded, CPU)), axis=0)
    assert outputs["_probabilities"].tobytes() == np.rint(255 * probabilities).astype(np.uint8).tobytes()


def test_masks_of_ensembles_do_not_depend_on_their_members_temperatures(tmp_path: Path) -> None:
    """Check bundles of one method (mean logits) and of two (mean probabilities), and the temperature of their mean."""
    kinds: dict[str, list[Ensemble]] = {"one": [], "two": []}
    for temperature in (None, 4.0):
        first = make_bundle(tmp_path / f"first{temperature}", 1)
        other, window = (
            make_bundle(
                tmp_path / f"{name}{temperature}",
                2,
                name,
                calibration=calibration(temperature, 0.9) if temperature else None,
            )
            for name in ("unet", "sliding_window")
        )
        for kind, members in (("one", [first, other]), ("two", [first, window])):
            ensemble = load_ensemble(members, CPU)
            assert isinstance(ensemble, Ensemble)
            kinds[kind].append(ensemble)
    for raw, calibrated in kinds.values():
        assert (raw.head.temperature, calibrated.head.temperature) == (1, pytest.approx(2))
        assert calibrated.head.low_confidence is None
        assert segment_array(Picture(), raw).tobytes() == segment_array(Picture(), calibrated).tobytes()
        members = [logits_of(member) for member in raw.members]
        assert calibrated.disagreement(members).tobytes() == raw.disagreement(members).tobytes()


def test_an_ensembles_bundle_has_its_own_temperature(tmp_path: Path) -> None:
    members = [make_bundle(tmp_path / f"fold{seed}", seed, calibration=calibration(9.0)) for seed in (1, 2)]
    folder = tmp_path / "both"
    bundle.write_ensemble(folder, members, members[0].config, class_prior=(0.7, 0.3), calibration=calibration(3.0), **FACTS)
    predictor = load_predictor(bundle.load(folder), CPU)
    assert predictor.head.temperature == 3
    apart = load_ensemble([bundle.load(folder)], CPU, disagreement=True)
    assert isinstance(apart, Ensemble)
    assert apart.head.temperature == 3


@pytest.mark.parametrize("threshold", [None, 0.0, 1.0])
def test_an_image_below_the_threshold_gets_the_remark(threshold: float | None, tmp_path: Path) -> None:
    predictor = load_predictor(make_bundle(tmp_path / "bundle", 3, calibration=calibration(1.5, threshold)), CPU)
    result = segment(plan_image(Picture(), predictor), Writers())
    assert result.warnings == (("low_confidence",) if threshold == 1.0 else ())


def test_an_image_without_foreground_gets_no_remark(tmp_path: Path) -> None:
    predictor = load_predictor(make_bundle(tmp_path / "bundle", 3, calibration=calibration(1.5, 1.0)), CPU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(predictor.head), "mask", lambda self, logits: np.zeros(logits.shape[1:], np.uint8))
        assert segment(plan_image(ArraySource(Picture().pixels), predictor), Writers()).warnings == ()


def test_resumed_work_has_the_confidence_of_all_rows(tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check thresholds a little below and above the confidence of the whole image, after an interruption."""
    monkeypatch.setattr(resume, "LEAST_INTERVAL_S", 0.0)
    monkeypatch.setattr(resume, "SYNC_SHARE", 1e9)
    logits = logits_of(load_predictor(make_bundle(tmp_path / "bundle", 3, "unet", *EXACT), CPU))
    meter = ForegroundConfidence(HEADS["softmax"](2, 1.5, 0.5), logits.shape[1:])
    meter.add(Band(0, logits))
    for number, (threshold, remarks) in enumerate(((meter.mean - 1e-5, ()), (meter.mean + 1e-5, ("low_confidence",)))):
        fitted = calibration(1.5, threshold)
        predictor = load_predictor(make_bundle(tmp_path / f"b{number}", 3, "unet", *EXACT, calibration=fitted), CPU)

        def interrupt(_: object, done: int, total: int) -> None:
            if done >= 0.7 * total:
                raise KeyboardInterrupt

        images, out = find_inputs([picture]).images, tmp_path / f"out{number}"
        with pytest.raises(KeyboardInterrupt):
            list(predict(images, predictor, out, EVERYTHING, interrupt))
        (outcome,) = predict(images, predictor, out, EVERYTHING, lambda *_: None)
        assert isinstance(outcome.result, Segmentation)
        assert outcome.result.resumed_row > 0
        assert outcome.result.warnings == remarks


def test_the_command_prints_the_remark(tmp_path: Path, picture: Path) -> None:
    make_bundle(tmp_path / "bundle", 3, calibration=calibration(1.5, 1.0))
    arguments = ["predict", str(picture), "-b", str(tmp_path / "bundle"), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "low_confidence (the network is less certain of this image's foreground than" in done.output.replace("\n", " ")
