"""Folds through the command line: each is an ordinary run, a killed one resumes, and they become one bundle."""

import csv
import json
import signal
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from forked import STEP, Moment, overtile, words
from rich.console import Console

from configs import schema
from datasets.cases import read_cases
from datasets.fingerprint import sha256_of_path
from inference.predictors.loading import load_predictor
from models import bundle
from tests.phantom import write_slide_dataset
from training.sweeps.folds import train_folds

SPLITS = ("train", "train", "val", "test", "train", "train")  # the fourth is never touched


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide_dataset(tmp_path_factory.mktemp("slides"), cases=6, shape=(48, 52), splits=SPLITS).parent


def fold_words(slides: Path, folder: Path, *overrides: str) -> list[str]:
    return words(slides, folder, "unet", "optimizer.learning_rate=0.02", "trainer.folds=2", *overrides)


@pytest.fixture(scope="module")
def trained(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was killed in its second fold, and then resumed."""
    folder = tmp_path_factory.mktemp("trained")
    command = fold_words(slides, folder)
    assert overtile(command, folder / "log", [Moment(STEP, 10)]) == -signal.SIGKILL
    assert (folder / "run" / "fold0" / "bundle").exists()
    assert not (folder / "run" / "fold1" / "bundle").exists()
    assert overtile(command, folder / "log") == 0, (folder / "log").read_text()
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_killed_run_resumes_and_skips_finished_folds(slides: Path, trained: Path, tmp_path: Path) -> None:
    log = (trained / "log").read_text()
    assert "fold0: already finished" in log
    assert "fold1: resumes from" in log
    assert overtile(fold_words(slides, tmp_path), tmp_path / "log") == 0
    for number in (0, 1):
        weights = [
            sha256_of_path(folder / "run" / "bundle" / f"weights-{number}.safetensors") for folder in (trained, tmp_path)
        ]
        assert weights[0] == weights[1] == sha256_of_path(trained / "run" / f"fold{number}" / "bundle" / "weights.safetensors")
    assert overtile(fold_words(slides, trained), trained / "log") == 0
    assert "already trained; choose another run.name" in (trained / "log").read_text()


def test_every_case_but_the_tests_validates_once(slides: Path, trained: Path) -> None:
    written = rows(trained / "run" / "splits.csv")
    assert [row["case"] for row in written] == ["case000", "case001", "case002", "case004", "case005"]
    assert {row["split"] for row in written} == {"train or val"}
    assert sorted([row["fold"] for row in written].count(fold) for fold in ("0", "1")) == [2, 3]
    for number in (0, 1):
        inside = {row["case"] for row in rows(trained / "run" / f"fold{number}" / "splits.csv") if row["split"] == "val"}
        assert inside == {row["case"] for row in written if row["fold"] == str(number)}
    ensemble = bundle.load(trained / "run" / "bundle").manifest
    cases = {case.name: sha256_of_path(case.images[0]) for case in read_cases(slides)}
    assert set(ensemble.training_images) == {digest for name, digest in cases.items() if name != "case003"}


def test_the_ensemble_has_the_geometric_mean_of_its_networks_temperatures(trained: Path) -> None:
    """Check that each was fitted on the cases of its fold, and that the bins of both are added."""
    run = trained / "run"
    ensemble, first, second = (bundle.load(folder).manifest.calibration for folder in (run, run / "fold0", run / "fold1"))
    assert ensemble is not None
    assert first is not None
    assert second is not None
    assert {first.cases, second.cases} == {2, 3}
    assert ensemble.temperature == pytest.approx((first.temperature * second.temperature) ** 0.5)
    assert ensemble.pixels == first.pixels + second.pixels == sum(ensemble.after.pixels)
    assert load_predictor(bundle.load(run)).head.temperature == ensemble.temperature


def test_the_ensemble_has_the_scores_of_all_cases_each_by_the_network_of_its_fold(trained: Path) -> None:
    run = trained / "run"
    ensemble, *members = (bundle.load(folder).metrics for folder in (run, run / "fold0", run / "fold1"))
    assert ensemble is not None
    assert {score.case for score in ensemble.scores} == {"case000", "case001", "case002", "case004", "case005"}
    assert ensemble.scores == tuple(score for member in members if member for score in member.scores)
    assert ensemble.notes == ("Each case is scored by the network of its fold, not by the ensemble.",)


def test_the_ensembles_score_is_the_mean_over_cases_that_a_network_had_not_seen(trained: Path) -> None:
    ensemble = bundle.load(trained / "run" / "bundle")
    assert len(ensemble.networks) == 2
    assert ensemble.sample is not None
    assert len(ensemble.sample.logits) == 2
    assert ensemble.manifest.name == "run"
    assert ensemble.manifest.training_steps == 14
    score_rows = rows(trained / "run" / "out_of_fold.csv")
    scores = np.array([float(row["score"]) for row in score_rows])
    assert ensemble.manifest.validation == {"dice": pytest.approx(scores.mean())}
    log = (trained / "log").read_text()
    assert f"out of fold: dice {scores.mean():.3f}, 95% interval" in log
    for number in (0, 1):
        member = json.loads((trained / "run" / f"fold{number}" / "bundle" / "manifest.json").read_text())
        own = scores[[row["fold"] == str(number) for row in score_rows]]
        assert member["validation"]["dice"] == pytest.approx(own.mean())
        assert f"fold {number}: dice {own.mean():.3f}" in log
        assert ensemble.class_priors[number] == tuple(member["class_prior"])
    assert load_predictor(ensemble).margin == ensemble.manifest.margin_px


def test_parallel_folds_give_the_same_networks(slides: Path, trained: Path, tmp_path: Path) -> None:
    """One process per fold, as on several GPUs; here on the CPU."""
    config = schema.load(Path("configs/histology_unet.yaml"), fold_words(slides, tmp_path)[2:])
    output = StringIO()
    folder = train_folds(config, Console(file=output, soft_wrap=True), on_devices=("", ""))
    ensemble = bundle.load(folder)
    assert ensemble.manifest.files == bundle.load(trained / "run" / "bundle").manifest.files | {
        "config.yaml": ensemble.manifest.files["config.yaml"]
    }
    assert f"fold1: training; see {tmp_path}/run/fold1/output.txt" in output.getvalue()
    assert "fold1: best validation Dice" in output.getvalue()


@pytest.mark.slow
def test_a_failing_parallel_fold_ends_the_command_with_its_code(slides: Path, tmp_path: Path) -> None:
    config = schema.load(Path("configs/histology_unet.yaml"), fold_words(slides, tmp_path)[2:])
    fold = tmp_path / "run" / "fold1"
    fold.mkdir(parents=True)
    (fold / "data.json").write_text('{"another": ["0"]}')
    output = StringIO()
    with pytest.raises(SystemExit) as ended:
        train_folds(config, Console(file=output, soft_wrap=True), on_devices=("", ""))
    assert ended.value.code == 3
    assert "changed since the run began" in output.getvalue()


def test_more_folds_than_groups_are_refused(slides: Path, tmp_path: Path) -> None:
    assert overtile(fold_words(slides, tmp_path, "trainer.folds=6"), tmp_path / "log") == 3
    log = (tmp_path / "log").read_text()
    assert "6 folds need as many groups, but the 5 cases come from 5; set trainer.folds to at most 5" in log
