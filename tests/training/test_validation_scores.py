"""Scores of validation cases in a run's bundle: those of `overtile evaluate`, within a limited time, and after a kill."""

import csv
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from forked import Moment, Setting, overtile, words
from PIL import Image
from skimage.measure import label as number_pieces

from evaluation.metrics.registry import METRICS
from models import bundle
from models.bundle_metrics import BundleMetrics
from tests.phantom import write_slide_dataset
from training.clock import Clock
from training.validation_scores import LEAST_S, scoring_limit_s

SCORING = "training.validation_scores:CaseScorer"


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = ("train", "train", "val", "val", "val")
    return write_slide_dataset(tmp_path_factory.mktemp("slides"), cases=5, shape=(48, 52), splits=splits).parent


@pytest.fixture(scope="module")
def trained(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was killed while it scored the second case, and then resumed."""
    folder = tmp_path_factory.mktemp("trained")
    command = words(slides, folder, "unet", "optimizer.learning_rate=0.02")
    assert overtile(command, folder / "log", [Moment(SCORING, 2)]) == -signal.SIGKILL
    assert not (folder / "run/bundle").exists()
    assert overtile(command, folder / "log") == 0, (folder / "log").read_text()
    return folder


def metrics_of(folder: Path) -> BundleMetrics:
    metrics = bundle.load(folder / "run").metrics
    assert metrics is not None
    return metrics


def test_a_run_that_was_killed_while_it_scored_publishes_the_same_scores(slides: Path, trained: Path, tmp_path: Path) -> None:
    assert overtile(words(slides, tmp_path, "unet", "optimizer.learning_rate=0.02"), tmp_path / "log") == 0
    assert metrics_of(trained) == metrics_of(tmp_path)
    files = [bundle.load(folder / "run").manifest.files["metrics.json"] for folder in (trained, tmp_path)]
    assert files[0] == files[1]


def assert_evaluate_gives_the_same(slides: Path, run: Path, folder: Path) -> None:
    """Check that `overtile evaluate` gives the bundle's scores, but for those of probabilities, for what predict writes."""
    images = [slides / "images" / f"case00{number}.png" for number in (2, 3, 4)]
    log = folder / "log"
    assert overtile(["predict", *images, "-b", run, "-o", folder / "masks"], log) == 0, log.read_text()
    command = ["evaluate", folder / "masks", "--data", slides, "-o", folder / "r.html", "--split", "val"]
    assert overtile([*command, "--config", run / "config.yaml"], log) == 0, log.read_text()
    with (folder / "r.csv").open(encoding="utf-8") as file:
        evaluated = {(row["case"], row["metric"], row["class"]): row["value"] for row in csv.DictReader(file)}
    metrics = bundle.load(run).metrics
    assert metrics is not None
    scores = {(score.case, score.metric, score.class_name): score.value for score in metrics.scores}
    assert set(evaluated) == {key for key in scores if METRICS[key[1]].kind != "calibration"}
    for key, value in evaluated.items():
        assert scores[key] == (pytest.approx(float(value), abs=1e-9) if value else None)
    assert {key[1] for key in set(scores) - set(evaluated)} == {"ece", "brier", "nll"}


def test_the_scores_are_those_of_the_masks_that_predict_writes(slides: Path, trained: Path, tmp_path: Path) -> None:
    assert_evaluate_gives_the_same(slides, trained / "run", tmp_path)


def test_the_scores_of_objects_are_those_of_the_objects_that_predict_writes(slides: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(slides, tmp_path / "data"))
    for path in (data / "references").iterdir():
        numbers = number_pieces(np.asarray(Image.open(path)), connectivity=1)
        Image.fromarray(numbers.astype(np.uint8)).save(path)
    overrides = ("data.instances=true", "inference.objects=watershed", "optimizer.learning_rate=0.02", "trainer.max_steps=40")
    assert overtile(words(data, tmp_path, "unet", *overrides), tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert_evaluate_gives_the_same(data, tmp_path / "run", tmp_path)
    pq = next(metric for metric in metrics_of(tmp_path).metrics if metric.name == "pq")
    assert pq.mean is not None
    assert pq.mean > 0
    assert all("connected_parts" not in score.remark for score in metrics_of(tmp_path).scores)


def test_means_are_over_the_cases_and_have_conventions(trained: Path) -> None:
    metrics = metrics_of(trained)
    dice = next(metric for metric in metrics.metrics if metric.name == "dice")
    values = [score.value for score in metrics.scores if score.metric == "dice" and score.value is not None]
    assert dice.mean == pytest.approx(sum(values) / len(values))
    assert dice.cases == len(values)
    assert dice.convention == METRICS["dice"].convention
    assert metrics.left_out == ()
    assert {score.case for score in metrics.scores} == {"case002", "case003", "case004"}


def test_cases_for_which_the_time_does_not_suffice_are_named(slides: Path, tmp_path: Path) -> None:
    never = [Setting(f"training.validation_scores:{name}", 0.0) for name in ("SHARE", "LEAST_S")]
    assert overtile(words(slides, tmp_path), tmp_path / "log", never) == 0
    metrics = metrics_of(tmp_path)
    assert metrics.left_out == ("case002", "case003", "case004")
    assert metrics.metrics == ()
    assert metrics.notes == ("3 of 3 validation cases are not scored, since that would have taken longer than 0 s.",)


def test_a_case_that_cannot_be_scored_does_not_cost_the_bundle(slides: Path, tmp_path: Path) -> None:
    traps = [Moment(SCORING, 1, act=12, fails=True), Setting("training.validation_scores:SCORING_ERRORS", (OSError,))]
    assert overtile(words(slides, tmp_path), tmp_path / "log", traps) == 0, (tmp_path / "log").read_text()
    metrics = metrics_of(tmp_path)
    assert len(metrics.left_out) == 1
    assert metrics.notes[0].startswith(f"Not scored: case {metrics.left_out[0]}: ")


def test_scoring_takes_a_share_of_the_training_within_its_time_limit() -> None:
    clock = Clock(10, None)
    assert scoring_limit_s(clock) == LEAST_S
    clock.load_state_dict({"seconds": 1000.0})
    assert scoring_limit_s(clock) == pytest.approx(100, abs=1)
    limited = Clock(10, 17)
    limited.load_state_dict({"seconds": 1000.0})
    assert scoring_limit_s(limited) == pytest.approx(20, abs=1)
    limited.load_state_dict({"seconds": 1030.0})
    assert scoring_limit_s(limited) == 0
