"""Two processes over gloo get the weights that one process gets with a batch twice as large."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import pytest
import pytorch_lightning as lightning
import torch
from forked import overtile, weights_of, words
from safetensors.torch import load_file

from configs import schema
from configs.schema import ConfigError
from datasets.cases import Case
from models import bundle
from tests.phantom import write_slide_dataset
from training.clock import Clock
from training.data.patch_dataset import PatchLocation
from training.data.sampling import PatchSampler
from training.data.stream import PatchBatchSampler, PatchStream
from training.distributed import ProcessGroup, check_single_process, check_validation_shares, detect_process_group
from training.resuming.checkpoint import STATE_KEY
from training.resuming.saving import RunScheduler
from training.resuming.stopping import StopSignals

CHECKOUT = Path(__file__).parents[2]
SPLITS = ("train", "train", "val", "val", "val")  # of which the first process validates two and the second one
STEPS = 40
# Dice of a batch isn't the mean of its halves', batch norm neither
OVERRIDES = (
    "loss.name=cross_entropy",
    "model.norm=instance",
    "model.dropout=0",
    "optimizer.ema_decay=0.5",
    "optimizer.name=sgd",
    "optimizer.momentum=0.5",
    f"trainer.max_steps={STEPS}",
    "trainer.validate_every_steps=10",
)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide_dataset(tmp_path_factory.mktemp("slides"), cases=5, shape=(48, 52), splits=SPLITS).parent


def start(command: list[str], log: Path, **environment: str) -> "subprocess.Popen[bytes]":
    known = {name: value for name, value in os.environ.items() if name != "PL_GLOBAL_SEED"}
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "overtile", *command],
            cwd=CHECKOUT,
            stdout=output,
            stderr=output,
            env=known | {"OMP_NUM_THREADS": "1"} | environment,
        )


def two(slides: Path, folder: Path, *overrides: str) -> list[str]:
    return words(slides, folder, "unet", *OVERRIDES, "trainer.devices=2", *overrides)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "run" / "bundle" / "weights.safetensors")


@pytest.fixture(scope="module")
def together(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of two processes."""
    folder = tmp_path_factory.mktemp("together")
    assert start(two(slides, folder), folder / "log").wait(240) == 0, (folder / "log").read_text()
    return folder


def test_two_processes_equal_one_with_twice_the_batch(slides: Path, together: Path, tmp_path: Path) -> None:
    command = words(slides, tmp_path, "unet", *OVERRIDES, "trainer.batch_size=4")
    assert overtile(command, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    found, expected = weights(together), weights(tmp_path)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-3)
    manifests = [bundle.load(folder / "run" / "bundle").manifest for folder in (tmp_path, together)]
    assert manifests[0].validation == pytest.approx(manifests[1].validation, abs=1e-3)
    output = (together / "log").read_text()
    assert output.count(f"run: step {STEPS} of {STEPS}") == 1  # only the first process prints
    assert "Traceback" not in output
    assert "GLOBAL_RANK" not in output  # a message of Lightning


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow)])
def test_a_run_whose_first_process_is_stopped_resumes_exactly(
    number: signal.Signals, code: int, slides: Path, together: Path, tmp_path: Path
) -> None:
    command = two(slides, tmp_path)
    process = start(command, tmp_path / "log")
    _wait_for(tmp_path / "run" / "checkpoints", process, tmp_path / "log")
    process.send_signal(number)
    assert process.wait(120) == code, (tmp_path / "log").read_text()
    assert not (tmp_path / "run" / "bundle").exists()
    assert start(command, tmp_path / "log").wait(240) == 0, (tmp_path / "log").read_text()
    assert "run: resumes from" in (tmp_path / "log").read_text()
    if number == signal.SIGTERM:
        assert "Traceback" not in (tmp_path / "log").read_text()
    assert weights_of(tmp_path / "run") == weights_of(together / "run")


def _wait_for(checkpoints: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 180
    while not list(checkpoints.glob("step-*.ckpt")):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


class NoSampler(PatchSampler):
    """A sampler that draws nothing, for tests of patch numbers."""

    def __init__(self) -> None:
        pass


def test_processes_share_the_batches_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = schema.load(Path("configs/histology_unet.yaml"), ["trainer.batch_size=3"])
    monkeypatch.setattr(PatchBatchSampler, "draw_location", lambda _, index: PatchLocation(index, 0, ()))
    parts = []
    for rank in range(2):
        draws = PatchBatchSampler(NoSampler(), config, ProcessGroup(rank, 2))
        draws.end = 4
        parts.append([[draw.patch for draw in batch] for batch in draws])
    together = [first + second for first, second in zip(*parts, strict=True)]
    assert together == [list(range(6 * batch, 6 * batch + 6)) for batch in range(4)]


def test_the_rank_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    config = schema.load(Path("configs/histology_unet.yaml"), ["trainer.devices=2"])
    assert detect_process_group(config) == ProcessGroup(0, 2, 0, 1)
    given = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "GROUP_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in ({"TORCHELASTIC_RUN_ID": "one"} | given).items():
        monkeypatch.setenv(name, value)
    assert detect_process_group(config) == ProcessGroup(3, 4, 1, 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(
        ConfigError, match=r"trainer\.folds: starts all processes itself; run it without torchrun or srun, or as"
    ):
        check_single_process("trainer.folds")
    with pytest.raises(ConfigError, match=r"trainer\.devices: 2 processes on each machine, but 3 were started in total; start"):
        detect_process_group(config)


def test_more_devices_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"trainer\.devices: 2, but there are 1 GPUs; set it to that or less"):
        detect_process_group(schema.load(Path("configs/histology_unet.yaml"), ["trainer.devices=2"]))


def test_another_number_of_processes_is_refused() -> None:
    config = schema.load(Path("configs/histology_unet.yaml"))
    pace = RunScheduler(config, cast(PatchStream, None), Clock(1, None), StopSignals())
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(ConfigError, match=r"this run was trained by 2 processes, and now there are 1; start 2, or"):
        pace.on_load_checkpoint(trainer, lightning.LightningModule(), {STATE_KEY: {"processes": 2}})


def test_each_process_needs_a_case_to_validate_on() -> None:
    check_validation_shares(ProcessGroup(0, 1), [Case("one", (Path("a.png"),))])
    with pytest.raises(ConfigError, match=r"trainer\.devices: 2 processes, but 1 validation cases; start at most 1"):
        check_validation_shares(ProcessGroup(0, 2), [Case("one", (Path("a.png"),))])


@pytest.mark.slow
def test_an_infinite_loss_sends_all_processes_back_once_and_then_ends_them(slides: Path, tmp_path: Path) -> None:
    command = two(slides, tmp_path, "optimizer.learning_rate=1e30", "model.norm=none")
    assert start(command, tmp_path / "log").wait(240) == 5, (tmp_path / "log").read_text()
    output = (tmp_path / "log").read_text()
    assert output.count("with 0.1 of the learning rate") == 1
    assert output.count("a lower learning rate didn't help") == 1
    events = json.loads((tmp_path / "run" / "non_finite.json").read_text())
    assert len(events) == 2
    assert {"case000", "case001"} == set(events[0]["cases"])  # of both processes
