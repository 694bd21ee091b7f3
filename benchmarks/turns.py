"""Processes that take turns: each reads a number of steps from standard input, runs them, and prints their cost.

A process keeps its state between turns, so that the turns of several processes alternate, and other work of the machine slows
all of them alike. This file needs only torch, since it also runs in the environments of other projects.
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
ANSWER = "@"  # begins the lines for the benchmark, unlike what libraries print
FREE_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # freed tensors return to the system, so that the peak is of live ones


class TurnClient:
    """Side of the process that trains. Memory is counted from its creation, which is right after the imports."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._remaining_steps, self._start_s = 0, (0.0, 0.0)  # by the clock, and of the processor
        _warm_up(device)
        self._before_bytes = _resident_bytes("VmRSS")
        STATUS.with_name("clear_refs").write_text("5")  # resets the high-water mark
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def wait(self) -> None:
        """Begin a step, including its data. After the last step of a turn, print its cost and wait for the next turn.

        Raises:
            SystemExit: there are no more turns.
        """
        if self._remaining_steps == 0:
            if self._start_s[0]:
                self._answer()
            line = sys.stdin.readline()
            if not line:
                raise SystemExit
            self._remaining_steps, self._start_s = int(line), (time.perf_counter(), time.process_time())
        self._remaining_steps -= 1

    def _answer(self) -> None:
        """Print the cost of the turn."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        start_s, start_processor_s = self._start_s
        cost = {
            "seconds": time.perf_counter() - start_s,
            "processor_seconds": time.process_time() - start_processor_s,
            "peak_bytes": self._peak_bytes(),
        }
        print(ANSWER + json.dumps(cost), flush=True)

    def _peak_bytes(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return _resident_bytes("VmHWM") - self._before_bytes


class TurnProcess:
    """Process that takes turns, as the benchmark sees it.

    Args:
        command: command of a process that creates a `TurnClient`.
        environment: variables beside those of this process.
        log: file for its standard error.
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
        """Run a number of steps, and return `seconds`, `processor_seconds`, and `peak_bytes` since the process started.

        Raises:
            SystemExit: the process ended; the message is the end of its log.
        """
        with suppress(BrokenPipeError):  # then there is no answer either
            self._process.stdin.write(f"{steps}\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        raise SystemExit(f"{self._process.args[:2]} ended: {self.log.read_text()[-2000:]}")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def _warm_up(device: torch.device) -> None:
    """Run small steps, in which PyTorch loads its libraries."""
    for convolution, shape in ((torch.nn.Conv2d, (1, 1, 8, 8)), (torch.nn.Conv3d, (1, 1, 8, 8, 8))):
        layer = convolution(1, 4, 3).to(device)
        torch.nn.functional.instance_norm(layer(torch.ones(shape, device=device))).sum().backward()


def _resident_bytes(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024
