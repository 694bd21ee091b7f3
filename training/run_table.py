"""Table of `overtile runs`: the runs in a folder with their state, best score and age; imports nothing heavy.

The names of files are those of `models/bundle.py`, `training/publishing.py` and `training/resuming/`.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from configs.errors import CONFIG, OvertileError
from disk.lock import is_held

CONFIG_FILE, LOCK_FILE, MANIFEST = "config.yaml", "lock", "bundle/manifest.json"
BEST_WEIGHTS, CHECKPOINTS = "checkpoints/best.safetensors", "checkpoints/step-*.ckpt"
HISTORY = "watch/history.jsonl"
OWN_FOLDERS = {"bundle", "checkpoints", "logs", "watch"}  # of a run
MOST_LEVELS = 4  # of folders in which runs are looked for: folds and trials lie inside their run
HEADER = ("state", "method", "best validation", "age", "path")


class NoRunsError(OvertileError):
    """The folder of runs doesn't exist."""

    exit_code = CONFIG


@dataclass(frozen=True)
class RunSummary:
    """Run in a row of the table.

    Args:
        path: the run's folder.
        state: finished, running or stopped, with the steps.
        method: unet or sliding_window.
        best_score: best validation score with its name; empty before the first validation.
        age_s: seconds since the run last wrote something.
    """

    path: Path
    state: str
    method: str
    best_score: str
    age_s: float

    @property
    def row(self) -> tuple[str, ...]:
        """Texts of the columns."""
        return (self.state, self.method, self.best_score or "none yet", age_text(self.age_s), str(self.path))


def find_runs(folder: Path) -> list[RunSummary]:
    """Return the runs in a folder and in those inside it, the newest first.

    Raises:
        NoRunsError: there is no such folder.
    """
    if not folder.is_dir():
        raise NoRunsError(f"{folder}: no such folder; give the run.folder of your configs, which is runs by default")
    return sorted((summarise_run(run) for run in _run_folders(folder, MOST_LEVELS)), key=lambda run: run.age_s)


def summarise_run(folder: Path) -> RunSummary:
    """Read the state of a run from its folder; a running training isn't disturbed."""
    config = _read_config(folder / CONFIG_FILE)
    method, max_steps = config["model"]["name"], config["trainer"]["max_steps"]
    written = [path for name in (CONFIG_FILE, MANIFEST, HISTORY, BEST_WEIGHTS) if (path := folder / name).exists()]
    age_s = max(0.0, time.time() - max(path.stat().st_mtime for path in written))
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        name, score = next(iter(manifest["validation"].items()))
        steps = manifest["training_steps"]
        state = "finished" if steps >= max_steps else f"finished after {steps} of at most {max_steps} steps"
        return RunSummary(folder, state, method, _score_text(name, score), age_s)
    except (OSError, ValueError, LookupError):
        is_running = (folder / LOCK_FILE).exists() and is_held(folder / LOCK_FILE)
    if is_running:
        state = f"running, step {_last_step(folder)} of {max_steps}"
    else:
        steps = max((int(match[0]) for path in folder.glob(CHECKPOINTS) if (match := re.search(r"\d+", path.name))), default=0)
        state = f"stopped at step {steps} of {max_steps}"
    return RunSummary(folder, state, method, _best_score(folder / BEST_WEIGHTS), age_s)


def table_lines(runs: list[RunSummary]) -> Iterator[str]:
    """Yield a header and a line for each run, in columns."""
    rows = [HEADER, *(run.row for run in runs)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def age_text(seconds: float) -> str:
    """Format an age in its largest whole unit: 3 min, 5 h, 2 days."""
    for unit_s, unit in ((86400, "day"), (3600, "h"), (60, "min")):
        if seconds >= unit_s:
            count = int(seconds // unit_s)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return f"{int(seconds)} s"


def _run_folders(folder: Path, levels: int) -> Iterator[Path]:
    if (folder / LOCK_FILE).is_file() and _is_config(folder / CONFIG_FILE):
        yield folder
    if levels:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.name.startswith(".") and child.name not in OWN_FOLDERS:
                yield from _run_folders(child, levels - 1)


def _is_config(path: Path) -> bool:
    try:
        _read_config(path)
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return False
    return True


def _read_config(path: Path) -> dict[str, Any]:
    """Read a stored config as plain values.

    Raises:
        LookupError, TypeError: it isn't the config of a run.
    """
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    str(config["model"]["name"]), int(config["trainer"]["max_steps"])
    return config


def _last_step(folder: Path) -> int:
    """Return the last step in the run's history; 0 where there is none."""
    try:
        return int(json.loads((folder / HISTORY).read_text(encoding="utf-8").splitlines()[-1])["step"])
    except (OSError, ValueError, LookupError):
        return 0


def _best_score(weights: Path) -> str:
    """Return the score in the metadata of the best weights; empty where there are none."""
    try:
        with safe_open(weights, "numpy") as file:
            facts = file.metadata()
        return _score_text(facts["name"], float(facts["score"]))
    except (OSError, SafetensorError, LookupError, ValueError):
        return ""


def _score_text(name: str, score: float) -> str:
    return f"{'Dice' if name == 'dice' else name} {score:.3f}"
