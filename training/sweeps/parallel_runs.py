"""Parallel runs: each in a separate process on a separate device."""

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from configs.schema import Config
from models import bundle
from training.resuming.stopping import StopSignals

OUTPUT = "output.txt"  # in a run's folder: the output of its process
POLL_S = 0.5
VISIBLE = "CUDA_VISIBLE_DEVICES"


def parallel_devices(config: Config) -> list[str | None]:
    """Return a value of CUDA_VISIBLE_DEVICES for each run that can train in parallel; empty: train in this process.

    If each run takes several devices itself, runs train one after the other in processes of their own; the single value None
    leaves the variable as it is.
    """
    if config.trainer.devices > 1:
        return [None]
    count = torch.cuda.device_count()
    if count < 2:
        return []
    return list(os.environ[VISIBLE].split(",")[:count]) if os.environ.get(VISIBLE) else [str(number) for number in range(count)]


def train_in_parallel(runs: Sequence[Config], on_devices: Sequence[str | None], console: Console) -> None:
    """Train runs whose folders contain their config, as many in parallel as there are devices.

    The output of a run goes into `output.txt` of its folder. When this process receives a signal, or a run fails, the other
    runs are terminated, and save their state.

    Raises:
        SystemExit: a run failed; the code is that of its process.
        Stopped: this process received a signal.
    """
    waiting, free = deque(runs), deque(on_devices)
    running: dict[subprocess.Popen[bytes], tuple[Path, str | None]] = {}
    with StopSignals():
        try:
            while waiting or running:
                while waiting and free:
                    run, device = waiting.popleft().run, free.popleft()
                    folder = run.folder / run.name
                    environment = os.environ if device is None else os.environ | {VISIBLE: device}
                    command = [sys.executable, "-m", "overtile", "train", str(folder / bundle.CONFIG)]
                    with (folder / OUTPUT).open("ab") as output:
                        process = subprocess.Popen(
                            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
                        )
                    running[process] = folder, device
                    console.print(f"{run.name}: training{f' on device {device}' if device else ''}; see {folder / OUTPUT}")
                time.sleep(POLL_S)
                for process in [process for process in running if process.poll() is not None]:
                    folder, device = running.pop(process)
                    free.append(device)
                    _report_end(folder, process.returncode, console)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()


def _report_end(folder: Path, code: int, console: Console) -> None:
    """Print the last line of a run's output, and exit with the code of a run that failed."""
    last = ((folder / OUTPUT).read_text(errors="replace").strip().splitlines() or [""])[-1]
    if code:
        console.print(f"{folder.name}: {last}", style="bold red")
        raise SystemExit(code if code > 0 else 128 - code)
    console.print(last)
