"""Estimates of memory, disk space and time, and the refusal of images that need too much."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_bundles import Picture, make_bundle
from typer.testing import CliRunner

from imaging.errors import ImageTooLarge
from inference import estimate as estimating
from inference.estimate import Estimate, check_disk, estimate, with_seconds
from inference.plan import plan_image
from inference.predictors.ensemble import load_ensemble
from inference.predictors.loading import load_predictor
from overtile import app

CPU = torch.device("cpu")
MB = 10**6
ESTIMATE = Estimate((20480, 20480), ((12, (768, 512)), (1, (96, 96))), 1900 * MB, 5 * 10**9, 0, 840 * MB, 312.0)


def test_text() -> None:
    assert ESTIMATE.text == (
        "20,480 x 20,480 pixels in 12 tiles of 768 x 512 and 1 tile of 96 x 96: 1.90 GB of memory (5.00 GB are allowed), "
        "840 MB of the disk, about 5 min"
    )
    assert "about 45 s" in replace(ESTIMATE, seconds=45).text
    assert "about 3 h 20 min" in replace(ESTIMATE, seconds=12000).text
    assert ", 700 MB of the GPU's, " in replace(ESTIMATE, device_bytes=700 * MB).text


def test_estimate_of_one_bundle_and_of_several(tmp_path: Path) -> None:
    bundles = [make_bundle(tmp_path / name, 0, "unet", "inference.tile_size=[48,48]") for name in ("a", "b")]
    alone, together = (load_ensemble(bundles[:count], CPU) for count in (1, 2))
    one, both = (estimate(plan_image(Picture(), each), 5) for each in (alone, together))
    assert one.shape == (130, 70)
    assert one.tiles == ((10, (48, 48)),)
    assert both.tiles == one.tiles * 2
    assert one.disk_bytes == 5 * 130 * 70
    assert both.host_bytes > one.host_bytes > 100 * MB
    assert one.seconds is None
    seconds = with_seconds(one, plan_image(Picture(), alone)).seconds
    assert seconds is not None
    assert 0 < seconds < 60


def test_too_little_memory_and_too_small_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = load_predictor(make_bundle(tmp_path / "bundle", 0), CPU)
    plan_image(Picture(), predictor)
    budget = predictor.memory_budget
    assert budget is not None
    tight = replace(predictor, memory_budget=replace(budget, memory_bytes=budget.process_bytes + 10**6))
    with pytest.raises(ImageTooLarge, match="allow more with --memory"):
        plan_image(Picture(), tight)
    check_disk(ESTIMATE, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: FullDisk)
    with pytest.raises(
        ImageTooLarge, match="takes 840 MB of the disk while it is segmented, but 5 MB are free; free some, or choose"
    ) as caught:
        check_disk(ESTIMATE, tmp_path)
    assert caught.value.code == "disk_too_small"


class FullDisk:
    free = 5 * MB


def test_a_predictor_that_was_not_loaded_has_no_memory_budget(tmp_path: Path) -> None:
    predictor = load_predictor(make_bundle(tmp_path / "bundle", 0), CPU)
    unlimited = replace(predictor, memory_budget=None)
    with pytest.raises(ValueError, match="has no memory budget; load it with load_predictor"):
        estimating.estimate(plan_image(Picture(), unlimited), 1)


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_dry_run_prints_the_estimate_and_writes_nothing(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle", 0, "unet", "model.norm=batch", "inference.tile_size=null")
    Image.fromarray(np.zeros((300, 200, 3), np.uint8)).save(tmp_path / "picture.png")
    words = ("predict", tmp_path / "picture.png", "-b", made.folder, "-o", tmp_path / "out")
    done = run(*words, "--dry-run")
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'out' / 'picture_summary.json'} (300 x 200 pixels in 1 tile of 300 x 200: " in done.output
    assert "MB of the disk, about 0 s" in done.output
    assert not (tmp_path / "out").exists()
    refused = run(*words, "--dry-run", "--memory", "100MB")
    assert refused.exit_code == 3
    assert "100 MB are allowed; allow more with --memory" in refused.output
    assert run(*words, "--memory", "100MB").exit_code == 3
    assert run(*words, "--memory", "much").exit_code == 2
