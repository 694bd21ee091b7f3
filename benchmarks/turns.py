"""Processes that take turns: each waits for a number on its standard input, takes so many steps, and says what they took.

A process holds everything ready between its turns, so that one turn of one contender lies beside one turn of each other, and
what else goes on at the machine meets them all. This file needs torch alone: it also runs in other projects' environments.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

STATUS = Path("/proc/self/status")
ANSWER = "@"  # before a line that is meant for the benchmark; what libraries print has none
ONE_BY_ONE = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # every tensor is given back when it is freed: the peak is what was alive


class Turns:
    """The side of the process that trains; made after the imports and before anything else, where memory is counted from."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._left, self._began = 0, (0.0, 0.0)
        _warm_up(device)
        self._before_bytes = _resident_bytes("VmRSS")
        STATUS.with_name("clear_refs").write_text("5")  # the high-water mark begins anew
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def wait(self) -> None:
        """Stands before each step, its data included; at a turn's end it says what the turn took and waits for the next one.

        Raises:
            SystemExit: there is none.
        """
        if self._left == 0:
            if self._began[0]:
                self._answer()
            line = sys.stdin.readline()
            if not line:
                raise SystemExit
            self._left, self._began = int(line), (time.perf_counter(), time.process_time())
        self._left -= 1

    def _answer(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        start_s, began_processor = self._began
        taken = {
            "seconds": time.perf_counter() - start_s,
            "processor_seconds": time.process_time() - began_processor,
            "peak_bytes": self._peak_bytes(),
        }
        print(ANSWER + json.dumps(taken), flush=True)

    def _peak_bytes(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return _resident_bytes("VmHWM") - self._before_bytes


class Contender:
    """The benchmark's side.

    Args:
        command: of a process that makes a `Turns`.
        environment: over our own.
        log: what it prints otherwise.
    """

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        self._process = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
        )

    def turn(self, steps: int) -> dict[str, Any]:
        """What so many steps took: `seconds`, `processor_seconds`, and `peak_bytes` since the process start_s.

        Raises:
            SystemExit: it ended; the message is the end of what it printed.
        """
        with suppress(BrokenPipeError):  # then there is no answer either
            self._process.stdin.write(f"{steps}\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        raise SystemExit(f"{self._process.args[:2]} ended: {self.log.read_text()[-2000:]}")

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()


def _warm_up(device: torch.device) -> None:
    """Loads what PyTorch loads at its first step."""
    for convolution, shape in ((torch.nn.Conv2d, (1, 1, 8, 8)), (torch.nn.Conv3d, (1, 1, 8, 8, 8))):
        layer = convolution(1, 4, 3).to(device)
        torch.nn.functional.instance_norm(layer(torch.ones(shape, device=device))).sum().backward()


def _resident_bytes(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024
