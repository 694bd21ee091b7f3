"""Several runs at the same time, each in a process of its own on a device of its own."""

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
from training.resuming.stopping import Signals

OUTPUT = "output.txt"  # in a run's folder: what its process said
POLL_S = 0.5
VISIBLE = "CUDA_VISIBLE_DEVICES"


def places(config: Config) -> list[str | None]:
    """Where runs of their own can train at the same time, a value of CUDA_VISIBLE_DEVICES each; none: in this process.

    A run that takes several devices itself has a process of its own, one run after the other, and None leaves the variable
    as it is.
    """
    if config.trainer.devices > 1:
        return [None]
    count = torch.cuda.device_count()
    if count < 2:
        return []
    return list(os.environ[VISIBLE].split(",")[:count]) if os.environ.get(VISIBLE) else [str(number) for number in range(count)]


def train_in_parallel(runs: Sequence[Config], on_devices: Sequence[str | None], console: Console) -> None:
    """Trains runs, whose folders hold their config already, as many at a time as there are devices.

    What a run says goes into `output.txt` of its folder. When this process is told to stop, or a run fails, the others are
    told to stop, and save what they have.

    Raises:
        SystemExit: a run failed; the code is its own.
        Stopped: a signal came.
    """
    waiting, free = deque(runs), deque(on_devices)
    working: dict[subprocess.Popen[bytes], tuple[Path, str | None]] = {}
    with Signals():
        try:
            while waiting or working:
                while waiting and free:
                    folder, device = _folder_of(waiting.popleft()), free.popleft()
                    working[_start(folder, device)] = folder, device
                    console.print(f"{folder.name}: trains{f' on device {device}' if device else ''}; see {folder / OUTPUT}")
                time.sleep(POLL_S)
                for process in [process for process in working if process.poll() is not None]:
                    folder, device = working.pop(process)
                    free.append(device)
                    _conclude(folder, process.returncode, console)
        finally:
            for process in working:
                process.terminate()
            for process in working:
                process.wait()


def _folder_of(run: Config) -> Path:
    return run.run.folder / run.run.name


def _start(folder: Path, device: str | None) -> "subprocess.Popen[bytes]":
    environment = os.environ if device is None else os.environ | {VISIBLE: device}
    command = [sys.executable, "-m", "overtile", "train", str(folder / bundle.CONFIG)]
    with (folder / OUTPUT).open("ab") as output:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)


def _conclude(folder: Path, code: int, console: Console) -> None:
    last = ((folder / OUTPUT).read_text(errors="replace").strip().splitlines() or [""])[-1]
    if code:
        console.print(f"{folder.name}: {last}", style="bold red")
        raise SystemExit(code if code > 0 else 128 - code)
    console.print(last)
