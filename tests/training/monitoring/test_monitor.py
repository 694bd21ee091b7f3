"""Monitoring through the real command line: history, pictures and page, without any effect on the run."""

import csv
import hashlib
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
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator
from typer.testing import CliRunner, Result

from configs import schema
from evaluation.rendering import to_png
from models.architectures import build
from overtile import app
from tests.phantom import write_slide_dataset, write_volume_dataset
from training.monitoring.history import mask_name, read_history
from training.monitoring.tensor_pictures import (
    activations,
    filter_picture,
    input_picture,
    most_foreground_slice,
    weight_picture,
)

CHECKOUT = Path(__file__).parents[3]
HOSTILE = "<script>alert(1)</script>"
RED, COLOURS = (255, 0, 0), ("#000000", "#ff0000")
SMALL = ("model.features=[4,8]", "sampling.patch_size=[32,32]", "trainer.batch_size=2", "trainer.validate_every_steps=2")


def train(config: str, *overrides: str) -> Result:
    return CliRunner().invoke(app, ["train", f"configs/{config}.yaml", *overrides])


def where(data: Path, folder: Path) -> tuple[str, ...]:
    return f"data.path={data}", f"run.folder={folder}", "run.name=run"


def weights_of(folder: Path) -> str:
    return hashlib.sha256((folder / "bundle/weights.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training cases and a validation case whose names contain HTML."""
    data = write_slide_dataset(tmp_path_factory.mktemp("slides"), cases=4, shape=(48, 60)).parent
    with (data / "cases.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    for row in rows[1:]:
        row[0] = HOSTILE + row[0]
    with (data / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return data


@pytest.fixture(scope="module")
def monitored(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("runs")
    return folder / "run", train("histology_unet", *where(slides, folder), *SMALL, "trainer.max_steps=6")


def test_a_run_leaves_its_history_pictures_and_page(monitored: tuple[Path, Result]) -> None:
    run, done = monitored
    assert done.exit_code == 0, done.stderr
    assert "warning" not in done.stderr
    assert done.stderr.index("The network, for a patch of 3") < done.stderr.index("step 2 of 6")
    history = read_history(run / "watch")
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    assert [entry["step"] for entry in history if "scores" in entry] == [2, 4, 6]
    assert {"learning_rate encoder", "gradient_norm", "memory_bytes", "patches_per_s", "patch_dice"} <= set(history[0])
    assert sorted(path.name for path in (run / "watch").glob("mask*")) == [mask_name(0, step) for step in (2, 4, 6)]
    page = (run / "report.html").read_text()
    assert "Finished: 6 of 6 steps" in page
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3  # a strip, two patches
    assert "Output of each level" in page


def test_the_mask_is_the_one_that_validation_made(monitored: tuple[Path, Result], slides: Path, tmp_path: Path) -> None:
    run, _ = monitored
    best = next(step for step in (2, 4, 6) if step == best_step(run))
    out = tmp_path / "masks"
    words = ["predict", str(slides / "images/case002.png"), "-b", str(run / "bundle"), "-o", str(out)]
    assert CliRunner().invoke(app, words).exit_code == 0
    mask = np.asarray(Image.open(out / "case002.png")) > 0
    film = np.asarray(Image.open(run / "watch" / mask_name(0, best)))[..., 3] > 0
    times = film.shape[0] // mask.shape[0]
    assert np.array_equal(film, mask.repeat(times, axis=0).repeat(times, axis=1))


def best_step(run: Path) -> int:
    scores = {entry["step"]: entry["scores"]["dice"] for entry in read_history(run / "watch") if "scores" in entry}
    return max(scores, key=lambda step: (scores[step], -step))


def test_tensorboard_has_curves_and_pictures(monitored: tuple[Path, Result]) -> None:
    events = EventAccumulator(str(monitored[0] / "logs"), size_guidance={IMAGES: 0}).Reload()
    assert {"loss", "dice", "run/learning_rate encoder", "run/memory_bytes", "run/gradient_norm"} <= set(
        events.Tags()["scalars"]
    )
    assert len(events.Images("run/image, reference, mask")) == 3
    assert len(events.Images("run/filters")) == 3


def test_a_full_disk_has_no_effect_on_the_run(slides: Path, monitored: tuple[Path, Result], tmp_path: Path) -> None:
    watch = tmp_path / "run/watch"
    watch.mkdir(parents=True)
    for full in ("history.jsonl", "case0_image.png.part", "batch0.png.part", "mask0_000000002.png.part", "../report.html.part"):
        (watch / full).symlink_to("/dev/full")
    (tmp_path / "run/logs").write_text("a file where TensorBoard wants its folder")
    done = train("histology_unet", *where(slides, tmp_path), *SMALL, "trainer.max_steps=6")
    assert done.exit_code == 0, done.stderr
    for what in ("the run's history is not written", "no pictures of validation cases", "no pictures of the first batch"):
        assert done.stderr.count(f"warning: {what}: [Errno 28] No space left on device; training continues\n") == 1
    assert done.stderr.count("warning: no new report.html: [Errno 28] No space left on device") == 1
    assert done.stderr.count("warning: no more curves for TensorBoard: ") == 1
    assert weights_of(tmp_path / "run") == weights_of(monitored[0])


def test_an_unusable_monitoring_folder(slides: Path, monitored: tuple[Path, Result], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/watch").write_text("a file where the folder belongs")
    done = train("histology_unet", *where(slides, tmp_path), *SMALL, "trainer.max_steps=6")
    assert done.exit_code == 0, done.stderr
    assert "warning: no record of earlier sessions: [Errno 17] File exists" in done.stderr
    assert "6 of 6 steps" in (tmp_path / "run/report.html").read_text()
    assert weights_of(tmp_path / "run") == weights_of(monitored[0])


@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        ("mri_unet", ("model.features=[4,8]", "sampling.patch_size=[8,16,16]")),
        ("mri_sliding_window", ("model.convolutions=[{features: 4, kernel: 4}]", "model.window=9")),
        ("mri_sliding_window", ("model.convolutions=[{features: 4, kernel: 4}]", "model.window=9", "loss.border_weight=10")),
    ],
    ids=["unet", "window", "weighed window"],
)
def test_volumes_and_windows_can_be_drawn(config: str, overrides: tuple[str, ...], tmp_path: Path) -> None:
    data = write_volume_dataset(tmp_path / "data", cases=3, shape=(12, 20, 18)).parent
    done = train(config, *where(data, tmp_path), *overrides, "trainer.max_steps=2", "trainer.batch_size=2")
    assert done.exit_code == 0, done.stderr
    assert "warning" not in done.stderr
    page = (tmp_path / "run/report.html").read_text()
    assert "slice " in page
    assert "encoder 0" in page or "convolutions 0" in page
    assert (", weight " in page) == ("loss.border_weight=10" in overrides)


def test_a_stopped_run_names_the_reason_and_resumes_without_duplicates(slides: Path, tmp_path: Path) -> None:
    words = ("histology_unet", *where(slides, tmp_path), *SMALL, "trainer.max_steps=20", "trainer.patience=50")
    command = [sys.executable, "-m", "overtile", "train", f"configs/{words[0]}.yaml", *words[1:]]
    history, deadline = tmp_path / "run/watch/history.jsonl", time.monotonic() + 120
    with subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.DEVNULL) as process:
        while time.monotonic() < deadline and (not history.exists() or "scores" not in history.read_text()):
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGTERM)
    assert process.returncode == 143
    page = (tmp_path / "run/report.html").read_text()
    assert "<bdi>a signal stopped it; run the same command to resume from the last checkpoint</bdi>; written " in page
    done = train(*words)
    assert done.exit_code == 0, done.stderr
    entries = read_history(tmp_path / "run/watch")
    assert [entry["step"] for entry in entries if "loss" in entry] == list(range(1, 21))
    assert [entry["step"] for entry in entries if "scores" in entry] == list(range(2, 21, 2))
    assert [entry["seconds"] for entry in entries] == sorted(entry["seconds"] for entry in entries)
    assert "The network, for a patch" not in done.stderr  # it was printed in the first session
    page = (tmp_path / "run/report.html").read_text()
    assert "Finished: 20 of 20 steps" in page
    assert len(json.loads((tmp_path / "run/lineage.json").read_text())) == 2


def test_looking_at_a_network_leaves_it_as_it_was() -> None:
    config = schema.load(Path("configs/histology_unet.yaml"), ["model.features=[4,8]", "model.dropout=0.5"])
    network = build(config).train()
    network.decoder.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes, generator = [module.training for module in network.modules()], torch.get_rng_state()
    levels = list(activations(network, torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))))
    filter_picture(network)
    assert [(name, shape) for name, shape, _ in levels] == [
        ("encoder 0", (4, 32, 32)),
        ("encoder 1", (8, 16, 16)),
        ("decoder 0", (4, 32, 32)),
        ("head", (2, 32, 32)),
    ]
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(not module._forward_hooks for module in network.modules())


def test_what_enters_the_network_is_drawn_as_it_is() -> None:
    image = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 4, 4)
    reference = np.zeros((4, 4), np.int64)
    reference[:2, :2], reference[3, 3] = 1, 255
    picture = input_picture(image, reference, COLOURS)
    assert picture.shape == (256, 256, 3)
    assert tuple(picture[0, 126]) == RED  # the outline, inside
    assert tuple(picture[0, 129]) == (255, 255, 255)  # and its halo
    assert picture[255, 255, 0] < picture[255, 150, 0]  # left out by the loss: dark, though the image is brightest there
    window = input_picture(image, np.array(1), COLOURS)
    assert tuple(window[64, 64]) == RED
    assert not (input_picture(image, np.array(0), COLOURS) == RED).all(axis=-1).any()
    assert input_picture(np.zeros((2, 4, 4), np.float32), reference, COLOURS).shape == (256, 512, 3)  # channels side by side
    volume = np.stack([image[0], image[0], -image[0]])[None]
    assert np.array_equal(input_picture(volume, np.stack([reference * 0, reference, reference * 0]), COLOURS), picture)
    assert most_foreground_slice(np.zeros((5, 2, 2))) == 2
    assert input_picture(image, np.zeros((1, 4, 4), np.float32), COLOURS).shape == (256, 256, 3)  # values, no labels
    assert weight_picture(np.array([[0.0, 0.5], [1.0, 0.0]], np.float32))[::128, ::128, 0].tolist() == [[0, 128], [255, 0]]
    assert to_png(picture).startswith(b"\x89PNG")
