"""A NaN or infinite loss is detected before it changes the weights, reported with its cases, and survived once."""

import json
import signal
from pathlib import Path

import pytest
import torch
from forked import STEP, Moment, Poison, overtile, weights_of, words
from safetensors.torch import load_file

from tests.phantom import write_slide_dataset


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training cases, so that the faulty one isn't in every batch."""
    folder = write_slide_dataset(tmp_path_factory.mktemp("slides"), cases=6, shape=(48, 52)).parent
    table = (folder / "cases.csv").read_text().replace(",test", ",train")
    (folder / "cases.csv").write_text(table)
    return folder


def best_is_finite(run: Path) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in load_file(run / "checkpoints/best.safetensors").values())


@pytest.mark.parametrize(("method", "overrides"), [("unet", ["optimizer.accumulate=2"]), ("sliding_window", [])])
def test_a_run_recovers_once(method: str, overrides: list[str], slides: Path, tmp_path: Path) -> None:
    command = words(slides, tmp_path, method, *overrides)
    assert overtile(command, tmp_path / "log", [Poison(case=1, first=2, times=1)]) == 0, (tmp_path / "log").read_text()
    output = (tmp_path / "log").read_text()
    assert "the loss or its gradient is NaN or infinite at step" in output
    assert "with 0.1 of the learning rate" in output
    (event,) = json.loads((tmp_path / "run/non_finite.json").read_text())
    assert "case001" in event["cases"]
    assert event["seed"] == 0
    assert f"goes back to {event['last_good'] or 'the beginning'} with" in output
    assert event["last_good"] is None or int(event["last_good"][5:13]) == event["step"]
    accumulate = 2 if overrides else 1
    assert event["batches"] == list(range(accumulate * event["step"], accumulate * (event["step"] + 1)))
    assert best_is_finite(tmp_path / "run")
    last = torch.load(max((tmp_path / "run/checkpoints").glob("*.ckpt")), weights_only=True)
    assert last["callbacks"]["RateSchedule"]["scale"] == 0.1


def test_a_run_that_is_killed_after_recovery_resumes_exactly(slides: Path, tmp_path: Path) -> None:
    digests = []
    for number, kill in enumerate([[], [Moment(STEP, 7)]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        overtile(words(slides, folder), folder / "log", [Poison(case=1, first=6, times=1), *kill])
        if kill:
            assert not (folder / "run/bundle").exists()
            assert overtile(words(slides, folder), folder / "log") == 0
        digests.append(weights_of(folder / "run"))
    assert digests[0] == digests[1]


def test_a_second_event_ends_with_5_and_names_the_case(slides: Path, tmp_path: Path) -> None:
    command = words(slides, tmp_path, "unet", "trainer.workers=1")
    for _ in range(2):  # with the same result
        assert overtile(command, tmp_path / "log", [Poison(case=1, first=8)]) == 5
    output = (tmp_path / "log").read_text()
    assert "case001" in output
    assert ", and a lower learning rate didn't help; lower optimizer.learning_rate or check the images: " in output
    assert f"{tmp_path / 'run/non_finite.json'} lists their cases" in output
    assert best_is_finite(tmp_path / "run")
    assert overtile(command, tmp_path / "log") == 0  # after the case is repaired
    assert "Traceback" not in output


def test_a_learning_rate_of_a_million(slides: Path, tmp_path: Path) -> None:
    rate = ("optimizer.learning_rate=1e30", "model.norm=none", "optimizer.ema_decay=0")
    code = overtile(words(slides, tmp_path, "unet", *rate), tmp_path / "log")
    assert code == 5, (tmp_path / "log").read_text()
    assert "lower optimizer.learning_rate or check the images" in (tmp_path / "log").read_text()
    assert not (tmp_path / "run/bundle").exists()
    checkpoints = [*(tmp_path / "run").glob("checkpoints/*.ckpt")]
    states = [torch.load(path, weights_only=True)["state_dict"].values() for path in checkpoints]
    assert all(bool(torch.isfinite(tensor).all()) for state in states for tensor in state)


def test_a_signal_during_recovery(slides: Path, tmp_path: Path) -> None:
    stop = Moment("training.resuming.recovery:Recovery.record", 1, signal.SIGTERM)
    assert overtile(words(slides, tmp_path), tmp_path / "log", [Poison(case=1, first=6, times=1), stop]) == 143
    assert overtile(words(slides, tmp_path), tmp_path / "log") == 0
