"""`overtile runs`: state, score and age of finished, stopped and running runs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from configs import schema
from models import bundle
from overtile import app
from training import publishing, run_table
from training.monitoring import history
from training.resuming import run_folder

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Make the folder of a run of 500 steps."""

    def make(name: str, config: str = "histology_unet", age_s: float = 0) -> Path:
        folder = tmp_path / "runs" / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "lock").write_text("1")
        run_config = schema.load(Path("configs") / f"{config}.yaml", ["trainer.max_steps=500"])
        (folder / "config.yaml").write_text(schema.dump(run_config))
        os.utime(folder / "config.yaml", (time.time() - age_s,) * 2)
        return folder

    return make


def list_runs(folder: Path) -> Result:
    return CliRunner().invoke(app, ["runs", str(folder)])


def finish(run: Path, steps: int, age_s: float) -> None:
    (run / "bundle").mkdir()
    path = run / "bundle/manifest.json"
    path.write_text(json.dumps({"validation": {"dice": 0.8125, "label_accuracy": 1}, "training_steps": steps}))
    os.utime(path, (time.time() - age_s,) * 2)


def test_every_state(make_run: Callable[..., Path], tmp_path: Path) -> None:
    finish(make_run("finished", age_s=10**6), 500, age_s=3 * 86400 + 60)
    finish(make_run("deep/short", "mri_sliding_window", age_s=10**6), 10, age_s=7300)
    stopped = make_run("stopped", age_s=125)
    (stopped / "checkpoints/step-00000120-0123456789abcdef.ckpt").write_bytes(b"")
    (stopped / "checkpoints/step-00000080-0123456789abcdef.ckpt").write_bytes(b"")
    save_file({"a": torch.zeros(1)}, stopped / "checkpoints/best.safetensors", {"score": "0.25", "name": "dice"})
    os.utime(stopped / "checkpoints/best.safetensors", (time.time() - 125,) * 2)
    make_run("stopped/fold-1", age_s=10**7)
    (tmp_path / "runs/other").mkdir()
    (tmp_path / "runs/other/config.yaml").write_text("a: 1")
    result = list_runs(tmp_path / "runs")
    assert result.exit_code == 0, result.stderr
    runs = tmp_path / "runs"
    assert [line.split("  ")[0] for line in result.stdout.splitlines()] == [
        "state",
        "stopped at step 120 of 500",
        "finished after 10 of at most 500 steps",
        "finished",
        "stopped at step 0 of 500",
    ]
    cells = [[cell.strip() for cell in line.split("  ") if cell] for line in result.stdout.splitlines()]
    assert cells[0] == ["state", "method", "best validation", "age", "path"]
    assert cells[1][1:] == ["unet", "Dice 0.250", "2 min", str(runs / "stopped")]
    assert cells[2][1:] == ["sliding_window", "Dice 0.812", "2 h", str(runs / "deep/short")]
    assert cells[3][1:] == ["unet", "Dice 0.812", "3 days", str(runs / "finished")]
    assert cells[4][1:] == ["unet", "none yet", "115 days", str(runs / "stopped/fold-1")]


def test_a_running_run_is_seen_and_not_disturbed(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run("busy")
    (run / "watch").mkdir()
    (run / "watch/history.jsonl").write_text('{"step": 20}\n{"step": 40, "scores": {"dice": 0.1}}\n')
    code = (
        "import sys\nfrom pathlib import Path\nfrom disk.lock import only_one\n"
        "with only_one(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(run / "lock")]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert "running, step 40 of 500  unet" in list_runs(tmp_path / "runs").stdout
        assert "running, step 40 of 500  unet" in list_runs(tmp_path / "runs").stdout
        holder.communicate("")
        assert holder.returncode == 0
    assert "stopped at step 0 of 500" in list_runs(tmp_path / "runs").stdout


def test_no_runs_and_no_folder(tmp_path: Path) -> None:
    empty = list_runs(tmp_path)
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert f"no runs in {tmp_path} yet; start one with: overtile train CONFIG" in empty.stderr
    missing = list_runs(tmp_path / "none")
    assert missing.exit_code == 2
    assert "no such folder; give the run.folder of your configs, which is runs by default" in missing.stderr


def test_the_names_are_those_that_training_writes() -> None:
    assert f"{bundle.BUNDLE}/{bundle.MANIFEST}" == run_table.MANIFEST
    assert (bundle.CONFIG, run_folder.LOCK_FILE) == (run_table.CONFIG_FILE, run_table.LOCK_FILE)
    assert f"checkpoints/{publishing.BEST_WEIGHTS}" == run_table.BEST_WEIGHTS
    assert f"watch/{history.HISTORY}" == run_table.HISTORY


def test_listing_imports_nothing_heavy() -> None:
    code = "import sys, training.run_table; print(sorted({'torch', 'monai', 'omegaconf'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
