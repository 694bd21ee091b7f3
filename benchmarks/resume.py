"""Check that training runs that are killed and resumed have exactly the weights of a run without interruption.

The first table has kills at named moments, for both methods, with patches cut in the main process and in two workers; the
second has runs by the command line that are killed at random moments. The data are synthetic, and the networks are tiny.

    PYTHONPATH=.:tests/training OMP_NUM_THREADS=1 .venv/bin/python benchmarks/resume.py [--kills 20] [--folder FOLDER]
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forked import METHODS, STEP, VALIDATION, Moment, overtile, weights_of, words

from evaluation.comparison.measurement import describe_machine
from tests.phantom import write_slide_dataset

Digests = tuple[str, str]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", **os.environ}  # the same number of threads in all runs that are compared

MOMENTS = {
    "while the cases are read": Moment("training.data.examination:examine_cases", after=True),
    "before the first checkpoint": Moment(STEP),
    "after the first step": Moment(STEP, 1, after=True),
    "between two validations": Moment(STEP, 5),
    "a checkpoint is written, and not in its place": Moment("training.resuming.checkpoint:_write", 2, after=True),
    "a checkpoint is in its place, and an older one not deleted": Moment(
        "training.resuming.checkpoint:Checkpoints._delete_all_but", 4
    ),
    "a validation begins": Moment(VALIDATION),
    "a validation ends": Moment(VALIDATION, 2, after=True),
    "the best network is written": Moment("training.resuming.saving:save_file", after=True),
    "after a validation": Moment("training.resuming.saving:RunScheduler.on_validation_end", 2, after=True),
    "before the last validation": Moment(STEP, 7, after=True),
    "the bundle is half there": Moment("models.bundle:Manifest.model_validate"),
}


def main() -> None:
    """Print a table for each kind of kills."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="number of kills at random moments")
    parser.add_argument("--moments", type=int, default=len(MOMENTS), help="number of named moments")
    parser.add_argument("--folder", type=Path, help="folder for the runs; by default a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        data = write_slide_dataset(folder / "data", cases=4, shape=(48, 52)).parent
        print(f"{describe_machine()}\n")
        at_moments(data, folder, arguments.moments)
        at_random(data, folder, arguments.kills)


def at_moments(data: Path, folder: Path, count: int) -> None:
    """Kill a run at each named moment and resume it; print a row per moment."""
    whole = {method: _uninterrupted(data, folder / f"whole-{method}", method) for method in METHODS}
    columns = [(method, workers) for method in METHODS for workers in (0, 2)]
    print("| killed | " + " | ".join(f"{method}, {workers} workers" for method, workers in columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for number, (name, moment) in enumerate(list(MOMENTS.items())[:count]):
        cells = []
        for method, workers in columns:
            run = folder / f"{number}-{method}-{workers}"
            run.mkdir()
            command = words(data, run, method, f"trainer.workers={workers}")
            was_killed = overtile(command, run / "log", [moment]) == -signal.SIGKILL
            is_finished = overtile(command, run / "log") == 0
            is_same = weights_of(run / "run") == whole[method] if is_finished else False
            cells.append(_verdict(was_killed and is_finished, is_same))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def at_random(data: Path, folder: Path, kills: int) -> None:
    """Kill a longer run at random moments and resume it, again and again; print a row per method."""
    print("\n| method | kills | after steps | weights |\n| --- | ---: | --- | --- |")
    moments = random.Random(0)  # noqa: S311 - not for secrets
    for method in METHODS:
        longer = ("trainer.max_steps=140", "trainer.validate_every_steps=30", "trainer.patience=99", "trainer.workers=1")
        whole = _uninterrupted(data, folder / f"random-whole-{method}", method, *longer)
        run = folder / f"random-{method}"
        run.mkdir()
        command = [sys.executable, "-m", "overtile", *words(data, run, method, *longer)]
        steps: list[str] = []
        while len(steps) < kills // len(METHODS) and not (run / "run/bundle").exists():
            with _running(command, run / "log") as process:
                _wait_for_a_step(run / "run/checkpoints", process)
                time.sleep(moments.uniform(0, 0.4))
                process.kill()
            steps.append(_last_step(run / "run/checkpoints"))
        is_finished = subprocess.run(command, check=False, stderr=subprocess.DEVNULL, env=ENVIRONMENT).returncode == 0
        is_same = weights_of(run / "run") == whole if is_finished else False
        print(f"| {method} | {len(steps)} | {', '.join(steps)} | {_verdict(is_finished, is_same)} |", flush=True)


def _uninterrupted(data: Path, folder: Path, method: str, *overrides: str) -> Digests:
    folder.mkdir()
    if overtile(words(data, folder, method, *overrides), folder / "log", timeout_s=600) != 0:
        raise RuntimeError((folder / "log").read_text())
    return weights_of(folder / "run")


@contextmanager
def _running(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("a") as file, subprocess.Popen(command, stderr=file, env=ENVIRONMENT) as process:
        yield process


def _wait_for_a_step(folder: Path, process: "subprocess.Popen[bytes]") -> None:
    """Wait for a new checkpoint, so that every process of the run makes progress."""
    before = _last_step(folder)
    while process.poll() is None and _last_step(folder) == before:
        time.sleep(0.01)


def _last_step(folder: Path) -> str:
    """Return the step of the latest checkpoint; 0 without one."""
    return max((path.name for path in folder.glob("step-*.ckpt")), default="step-00000000")[5:13].lstrip("0") or "0"


def _verdict(is_finished: bool, is_same: bool) -> str:
    if not is_finished:
        return "failed"
    return "the same" if is_same else "others"


if __name__ == "__main__":
    main()
