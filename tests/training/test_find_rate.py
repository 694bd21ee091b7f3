"""Range test: its suggestion for a synthetic curve, and a test on a run's data that leaves the run unchanged."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from configs import schema
from configs.schema import ConfigError
from tests.phantom import write_slide_dataset
from training.errors import NumericError
from training.find_rate import HIGHEST_RATE, LOWEST_RATE, STEPS, find_rate, plot_rate_test, suggest_rate

CHECKOUT = Path(__file__).parents[2]
RATES = np.geomspace(LOWEST_RATE, HIGHEST_RATE, STEPS).tolist()


def tiny(data: Path, folder: Path) -> list[str]:
    network = ("model.features=[4,8]", "sampling.patch_size=[16,16]", "trainer.batch_size=2")
    return [f"data.path={data.parent}", f"run.folder={folder}", *network]


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    return write_slide_dataset(tmp_path / "slides", cases=3, shape=(60, 60))


def test_suggests_a_tenth_of_the_rate_with_the_lowest_loss() -> None:
    losses = [1 + abs(np.log10(rate) + 2) for rate in RATES]  # lowest at 0.01
    test = suggest_rate(RATES, losses)
    assert test.suggestion == pytest.approx(1e-3, rel=0.08)  # the rates are 15% apart
    assert test.losses[0] == pytest.approx(5, abs=0.2)
    with Image.open(io.BytesIO(plot_rate_test(test))) as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize("losses", [[], np.linspace(1, 2, STEPS).tolist()])
def test_a_loss_that_never_falls_is_an_error(losses: list[float]) -> None:
    with pytest.raises(NumericError, match="the loss falls at no learning rate from 1e-06 to 1; check the data with overtile"):
        suggest_rate(RATES[: len(losses)], losses)


def test_stops_when_the_loss_diverges_and_equal_seeds_give_equal_results(slides: Path, tmp_path: Path) -> None:
    options = ("model.norm=none", "optimizer.name=sgd", "optimizer.accumulate=2", "optimizer.clip_norm=12")
    config = schema.load(Path("configs/histology_unet.yaml"), [*tiny(slides, tmp_path), *options])
    shown: list[tuple[object, int, int]] = []
    test = find_rate(config, lambda *progress: shown.append(progress))
    assert test.rates[0] == test.rates[1] == LOWEST_RATE  # two batches to a step
    assert max(test.rates) < HIGHEST_RATE
    assert LOWEST_RATE < test.suggestion < max(test.rates)
    assert shown[-1][0::2] == ("rates", STEPS)
    assert find_rate(config, lambda *_: None) == test


def test_the_command_prints_the_next_command_and_leaves_the_run_unchanged(slides: Path, tmp_path: Path) -> None:
    picture, runs = tmp_path / "pictures/rates.png", tmp_path / "runs"
    words = ("find-rate", "configs/histology_unet.yaml", *tiny(slides, runs), "-o", str(picture))
    command = [sys.executable, "-m", "overtile", *words]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "use it: overtile train configs/histology_unet.yaml optimizer.learning_rate=" in done.stderr
    assert "Warning" not in done.stderr
    assert 1e-6 < float(done.stderr.strip().rpartition("=")[2]) < 1
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert not runs.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has float16")
def test_a_precision_that_the_machine_lacks_is_refused_before_data_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer.precision: float16 needs a GPU, but there is none; set it to auto"):
        find_rate(schema.load(Path("configs/histology_unet.yaml"), ["trainer.precision=float16"]), lambda *_: None)
