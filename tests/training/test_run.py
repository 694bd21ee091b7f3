"""Runs through the real command line: every shipped config, resuming after a kill, and errors that end a run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inference.predictors.loading import load_predictor, sample_with_logits
from models import bundle
from tests.phantom import write_slide_dataset, write_volume_dataset

SHIPPED = sorted(Path("configs").glob("*.yaml"))
CHECKOUT = Path(__file__).parents[2]


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "overtile", *map(str, words)]


def overtile(*words: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(*words), cwd=CHECKOUT, capture_output=True, text=True, timeout=240, check=False)


def write_data(tmp_path: Path, name: str) -> Path:
    if name.startswith("histology"):
        return write_slide_dataset(tmp_path / "data", cases=3, shape=(130, 130)).parent
    return write_volume_dataset(tmp_path / "data", cases=3, shape=(24, 30, 28)).parent


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_yaml_trains_for_two_steps(path: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path, path.stem)
    overrides = (f"data.path={data}", f"run.folder={tmp_path}", "trainer.max_steps=2", "trainer.batch_size=2")
    done = overtile("train", path, *overrides)
    assert done.returncode == 0, done.stderr
    assert "best validation Dice" in done.stderr
    loaded = bundle.load(tmp_path / path.stem / "bundle")
    assert loaded.manifest.training_steps == 2
    assert loaded.manifest.method == loaded.config.model.name
    assert len(loaded.manifest.training_images) == 2
    assert sum(loaded.manifest.class_prior) == pytest.approx(1)
    assert loaded.sample is not None
    again = sample_with_logits(loaded.sample.patches, load_predictor(loaded, torch.device("cpu"), "torch").members)
    torch.testing.assert_close(again.logits, loaded.sample.logits, rtol=1e-4, atol=1e-4)
    assert list((tmp_path / path.stem / "logs").glob("events.out.tfevents.*"))
    best, last = sorted(file.name for file in (tmp_path / path.stem / "checkpoints").iterdir())
    assert best == "best.safetensors"
    assert last.startswith("step-00000002-")


def test_a_compiled_step_is_the_same_step(tmp_path: Path) -> None:
    data = write_data(tmp_path, "histology")
    overrides = (
        f"data.path={data}",
        f"run.folder={tmp_path}",
        "model.features=[4,8]",
        "sampling.patch_size=[32,32]",
        "trainer.max_steps=2",
        "trainer.precision=float32",
        "optimizer.name=sgd",  # AdamW turns a rounding error about 0 into a whole step
    )
    for name, compiled in (("eager", "false"), ("compiled", "true")):
        done = overtile("train", "configs/histology_unet.yaml", *overrides, f"run.name={name}", f"trainer.compile={compiled}")
        assert done.returncode == 0, done.stderr
    eager, compiled = (bundle.load(tmp_path / name / "bundle").network.state_dict() for name in ("eager", "compiled"))
    for name, weights in eager.items():
        torch.testing.assert_close(compiled[name], weights, rtol=1e-3, atol=1e-5)


def test_compiling_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(tmp_path, "histology")
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    done = overtile(
        "train", "configs/histology_unet.yaml", f"data.path={data}", f"run.folder={tmp_path}", "trainer.compile=true"
    )
    assert done.returncode == 2
    assert f"trainer.compile: needs {tmp_path / 'c++'}, which was not found; install it" in " ".join(done.stderr.split())


def test_resumes_after_kill_9(tmp_path: Path) -> None:
    data = write_data(tmp_path, "histology")
    words = (
        "train",
        "configs/histology_unet.yaml",
        f"data.path={data}",
        f"run.folder={tmp_path}",
        "model.features=[4,8]",
        "trainer.max_steps=200",
        "trainer.validate_every_steps=10",
        "trainer.batch_size=2",
        "trainer.patience=100",
        "trainer.workers=1",
    )
    run = tmp_path / "histology_unet"
    with subprocess.Popen(command(*words), cwd=CHECKOUT, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (checkpoints := list(run.glob("checkpoints/step-*.ckpt"))) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    assert checkpoints
    assert not (run / "bundle").exists()
    done = overtile(*words)
    assert done.returncode == 0, done.stderr
    assert f"histology_unet: resumes from {run / 'checkpoints' / 'step-'}" in done.stderr
    assert bundle.load(run / "bundle").manifest.training_steps == 200


def test_a_signal_through_the_command_line(tmp_path: Path) -> None:
    data = write_data(tmp_path, "histology")
    overrides = (f"data.path={data}", f"run.folder={tmp_path}", "model.features=[4,8]", "trainer.max_steps=100000")
    words = ("train", "configs/histology_unet.yaml", *overrides, "trainer.checkpoint_minutes=0.0001")
    with subprocess.Popen(command(*words), cwd=CHECKOUT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("*/checkpoints/step-*.ckpt")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, output = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "Traceback" not in output


def test_a_finished_run_is_left_unchanged_and_another_config_is_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path, "histology")
    words = ("train", "configs/histology_unet.yaml", f"data.path={data}", f"run.folder={tmp_path}", "trainer.max_steps=1")
    assert overtile(*words).returncode == 0
    again = overtile(*words, "trainer.max_minutes=3")
    assert again.returncode == 0
    assert "already trained; choose another run.name to train again" in again.stderr
    done = overtile(*words, "model.norm=none", "run.seed=4")
    assert done.returncode == 2
    assert "holds a run with another model.norm, run.seed; choose another run.name" in done.stderr


def test_misspelt_key_ends_with_2_and_writes_nothing(tmp_path: Path) -> None:
    done = overtile("train", "configs/histology_unet.yaml", f"run.folder={tmp_path / 'runs'}", "trainer.max_step=5")
    assert done.returncode == 2
    assert "configs/histology_unet.yaml: trainer.max_step: unknown key; did you mean trainer.max_steps?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_reference_of_another_shape_ends_with_3(tmp_path: Path) -> None:
    data = write_data(tmp_path, "histology")
    Image.fromarray(np.ones((10, 10), np.uint8)).save(data / "references/case000.png")
    done = overtile("train", "configs/histology_unet.yaml", f"data.path={data}", f"run.folder={tmp_path}")
    assert done.returncode == 3
    assert "case case000, references/case000.png: reference (10, 10) has another shape than its image (130, 130)" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_infinite_loss_ends_with_5(tmp_path: Path) -> None:
    data = write_data(tmp_path, "histology")
    overrides = (f"data.path={data}", f"run.folder={tmp_path}", "optimizer.learning_rate=1e30", "trainer.max_steps=20")
    done = overtile("train", "configs/histology_unet.yaml", "model.norm=none", *overrides)
    assert done.returncode == 5, done.stderr
    assert "lower optimizer.learning_rate or check the images" in done.stderr
    assert not (tmp_path / "histology_unet" / "bundle").exists()


def test_minutes_end_a_run(tmp_path: Path) -> None:
    data = write_data(tmp_path, "histology")
    overrides = (f"data.path={data}", f"run.folder={tmp_path}", "trainer.max_minutes=0.001", "trainer.validate_every_steps=1")
    done = overtile("train", "configs/histology_unet.yaml", "trainer.max_steps=500", "trainer.batch_size=1", *overrides)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "histology_unet" / "bundle" / "manifest.json").read_text())
    steps = manifest["training_steps"]
    assert steps < 500
    run = tmp_path / "histology_unet"
    command = f"{run}/config.yaml run.name=histology_unet_2 warm_start.weights={run} warm_start.part=all"
    assert (
        f"histology_unet: trainer.max_minutes=0.001 ended the run after {steps} of at most 500 steps; the bundle is the best "
        f"network so far. To train on from it: overtile train {command} trainer.max_minutes=0.002"
    ) in done.stderr
    assert f"Ended by its time limit: {steps} of at most 500 steps" in (run / "report.html").read_text()
    again = overtile("train", *command.split(), "trainer.max_minutes=0.002")
    assert again.returncode == 0, again.stderr
    assert f"tensors of {run} (all)" in again.stderr
