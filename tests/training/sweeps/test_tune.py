"""Tuning through the command line: the best config is written, worse trials are pruned, and a killed tuning resumes."""

import re
import signal
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from forked import STEP, Moment, overtile, words

from configs import schema
from configs.schema import ConfigError
from tests.phantom import write_slide_dataset
from training.resuming.saving import mix_seed
from training.sweeps.tune_ranges import read_ranges

RANGES = """
optimizer.learning_rate: {low: 1e-6, high: 1e-1, log: true}
model.features: {choices: [[4, 8], [2, 4]]}
optimizer.warmup_steps: {low: 0, high: 4, step: 2}
"""


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide_dataset(tmp_path_factory.mktemp("slides"), cases=4, shape=(48, 52)).parent


def tune_words(slides: Path, folder: Path, *options: str, ranges: str = RANGES) -> list[str]:
    (folder / "ranges.yaml").write_text(ranges)
    _, config, *overrides = words(slides, folder, "unet", "trainer.max_steps=4", "trainer.validate_every_steps=1")
    return ["tune", config, str(folder / "ranges.yaml"), *overrides, *options]


def trials_of(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="run", storage=f"sqlite:///{folder / 'run' / 'tune.db'}").trials


def ended(folder: Path) -> list[tuple[Any, ...]]:
    """Return values, state, score and reported scores of the trials that weren't repeated."""
    trials = trials_of(folder)
    repeated = {trial.user_attrs.get("after") for trial in trials}
    return [
        (trial.params, trial.state, trial.value, trial.intermediate_values) for trial in trials if trial.number not in repeated
    ]


def test_a_killed_tuning_resumes_with_the_same_trials_and_writes_the_best_config(slides: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    assert overtile(tune_words(slides, whole, "--trials=4"), whole / "log") == 0, (whole / "log").read_text()
    command = tune_words(slides, broken, "--trials=4")
    assert overtile(command, broken / "log", [Moment(STEP, 11)]) == -signal.SIGKILL  # in the third trial
    assert [trial.state.name for trial in trials_of(broken)][-1] == "RUNNING"
    assert overtile(command, broken / "log") == 0, (broken / "log").read_text()
    assert "trial-0002: resumes from" in re.sub(r"\s+", " ", (broken / "log").read_text())
    assert [trial[:2] for trial in ended(broken)[:3]] == [trial[:2] for trial in ended(whole)[:3]]
    assert ended(broken)[2] == ended(whole)[2]  # with the scores that were reported before the kill
    assert len(ended(broken)) == len(ended(whole)) == 4

    best = max((trial for trial in trials_of(whole) if trial.state.name == "COMPLETE"), key=lambda trial: trial.value or 0)
    config = schema.load(whole / "run" / "best.yaml")
    assert config.run.name == "run-best"
    assert config.optimizer.learning_rate == best.params["optimizer.learning_rate"]
    assert config.model.features == tuple(yaml.safe_load(best.params["model.features"]))  # type: ignore[union-attr]
    assert (whole / "run" / "tune.png").read_bytes()[:4] == b"\x89PNG"
    log = (whole / "log").read_text()
    assert f"{best.value:.4f}" in log
    assert "trial 4 of 4" in log
    for trial in trials_of(whole):
        run = whole / "run" / f"trial-{trial.number:04d}"
        assert (run / "bundle").exists() == (trial.state.name == "COMPLETE")
        assert (run / "checkpoints").exists() == (trial.state.name == "COMPLETE")

    ranges = RANGES.replace("1e-6", "1e-5")
    assert overtile(tune_words(slides, whole, ranges=ranges), whole / "log") == 2
    assert "holds a tuning with other ranges; choose another run.name" in (whole / "log").read_text()


def test_worse_trials_are_pruned_and_failing_ones_do_not_end_the_tuning(slides: Path, tmp_path: Path) -> None:
    """A rate that learns nothing, and two values that contradict each other; trials are pruned after the fifth."""
    ranges = """
optimizer.learning_rate: {choices: [1e-9, 1e-2]}
model.padding: {choices: [same, valid]}
model.down: {choices: [max_pool, strided]}
"""
    command = tune_words(slides, tmp_path, "--trials=12", "model.features=[4,8]", "run.seed=3", ranges=ranges)
    assert overtile(command, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    states = [trial.state.name for trial in trials_of(tmp_path)]
    assert len(states) == 12
    assert set(states) == {"COMPLETE", "FAIL", "PRUNED"}, states
    log = (tmp_path / "log").read_text()
    assert "pruned, its score is below the median" in log
    assert "down: strided doesn't work with padding valid" in log


def test_another_database(slides: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    command = tune_words(slides, tmp_path, "--trials=1", f"--storage={url}")
    assert overtile(command, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert not (tmp_path / "run" / "tune.db").exists()
    with sqlite3.connect(tmp_path / "elsewhere.db") as database:
        assert database.execute("select study_name from studies").fetchall() == [("run",)]
    assert overtile(tune_words(slides, tmp_path, "--storage=nosuch://x"), tmp_path / "log") == 2
    assert "--storage nosuch://x: can't be opened" in (tmp_path / "log").read_text()


def test_seeds_of_different_runs_and_trials_differ() -> None:
    assert len({mix_seed(seed, number) for seed in (0, 1, 2**31 - 1) for number in range(100)}) == 300


REFUSED = {
    "optimizer.learning_rat: {low: 0.1, high: 0.2}": "unknown key; did you mean optimizer.learning_rate?",
    "optimizer.learning_rate: {low: -0.1, high: 0.2}": r"optimizer\.learning_rate: Input should be greater than 0; got -0\.1",
    "model.norm: {choices: [batch, bach]}": r"model\.norm: Input should be .* got 'bach'",
    "optimizer.learning_rate: {low: 0.2, high: 0.1}": r"low 0\.2 is not below high 0\.1; give the two ends in order",
    "optimizer.learning_rate: {low: 0, high: 0.1, log: true}": "log takes ends above 0 and no step",
    "optimizer.learning_rate: {low: 0.1, high: 0.2, step: 0}": "step 0 is not above 0",
    "trainer.batch_size: {low: 1, high: 4, step: 0.5}": r"step 0\.5 isn't an integer, but both ends are; .* write 1\.0",
    "optimizer.learning_rate: {low: 0.1, high: 0.2, steps: 2}": "steps: Extra inputs are not permitted; write {low: 1e-4",
    "model.norm: {choices: [batch]}": "choices: Tuple should have at least 2 items",
    "learning_rate: {low: 0.1, high: 0.2}": "learning_rate: not section.key; for example optimizer.learning_rate",
    "- 1": "not a mapping of keys to ranges, such as optimizer.learning_rate",
    "a: [": "not YAML",
}


@pytest.mark.parametrize("text", REFUSED)
def test_invalid_ranges_are_refused(text: str, tmp_path: Path) -> None:
    config = schema.load(Path("configs/histology_unet.yaml"))
    (tmp_path / "ranges.yaml").write_text(text)
    with pytest.raises(ConfigError, match=REFUSED[text]):
        read_ranges(tmp_path / "ranges.yaml", config)


def test_no_file_folds_and_several_devices_are_refused(slides: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read; give the path of a YAML file of ranges"):
        read_ranges(tmp_path / "none.yaml", schema.load(Path("configs/histology_unet.yaml")))
    for key in ("folds", "devices"):
        assert overtile(tune_words(slides, tmp_path, f"trainer.{key}=2"), tmp_path / "log") == 2
        assert f"trainer.{key}: 2; each trial is one run in one process" in (tmp_path / "log").read_text()
