"""One bundle over many images in a process of its own: masks on disk, and the seconds and memory that are its alone.

A process of its own, freshly spawned: what a first bundle left in memory, in caches and in torch's thread pool would be
counted for the second. This file imports nothing that inference doesn't need.
"""

import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from datasets.cases import Case, about, open_case_image
from disk.process import peak_resident_bytes, reset_peak, resident_bytes
from imaging.errors import DataError
from imaging.source import ImageSource
from inference.plan import plan_image
from inference.predictors.loading import load_predictor
from inference.predictors.predictor import Predictor, best_device
from inference.segment import Observers, bands
from models import bundle

TilesDone = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """A bundle's folder and the cases it is to segment, in this order, each with the .npy file that takes its mask."""

    bundle: Path
    cases: tuple[Case, ...]
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class Machine:
    """Where it ran: `threads` of torch, `cores` that this process may use."""

    processor: str
    cores: int
    threads: int
    device: str
    system: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Measured:
    """What a bundle took.

    Args:
        seconds: one a case: open, read, normalise, network, stitch, write the mask.
        peak_bytes: the process' largest resident memory after the bundle was loaded, Python and torch included.
        loaded_bytes: its resident memory once the bundle was loaded, before the first tile.
        device_bytes: the largest memory of torch on the GPU, weights included; None on a CPU.
        machine: where it ran.
    """

    seconds: tuple[float, ...]
    peak_bytes: int
    loaded_bytes: int
    device_bytes: int | None
    machine: Machine

    @property
    def working_bytes(self) -> int:
        """Peak memory beyond the loaded bundle."""
        return max(0, self.peak_bytes - self.loaded_bytes)

    @property
    def spent_bytes(self) -> int:
        """The memory that is compared: the GPU's where one is used, else the working memory."""
        return self.working_bytes if self.device_bytes is None else self.device_bytes


def measure(job: Job, on_tiles: TilesDone | None = None) -> Measured:
    """Segments the job's cases in a new process and says what that took.

    Started by multiprocessing's spawn, so that a script which calls this needs `if __name__ == "__main__":`.

    Args:
        job: what to run.
        on_tiles: called with the tiles done so far, over all cases.

    Raises:
        DataError: with the name of the case that can't be read or doesn't suit; or `measurement_stopped`: the process
            ended early.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(job, sending), daemon=True)
    process.start()
    sending.close()  # the child's end only: its death ends the reading here
    try:
        return _listen(receiving, on_tiles or (lambda tiles: None))
    except EOFError as error:
        process.join()
        raise DataError(
            "measurement_stopped",
            f"the process that ran {job.bundle} ended with status {process.exitcode} before it was done; "
            "-9 mostly means too little memory: choose a smaller inference.tile_size",
        ) from error
    finally:
        process.kill()
        process.join()
        receiving.close()


def _listen(receiving: Connection, on_tiles: TilesDone) -> Measured:
    while True:
        message = receiving.recv()
        if isinstance(message, Measured):
            return message
        if isinstance(message, DataError):
            raise message
        on_tiles(message)


def _run(job: Job, sending: Connection) -> None:
    """The child's whole life."""
    try:
        sending.send(_measured(job, sending.send))
    except DataError as error:
        sending.send(error)


def _measured(job: Job, on_tiles: TilesDone) -> Measured:
    predictor = load_predictor(bundle.load(job.bundle))
    loaded_bytes = resident_bytes()
    reset_peak()  # loading holds the weights twice and is not counted
    if predictor.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(predictor.device)
    _warm_up(predictor, job.cases[0])
    seconds, tiles = [], 0
    for case, mask in zip(job.cases, job.masks, strict=True):
        began = time.perf_counter()
        with about(case), open_case_image(case) as source:
            tiles = _segment(source, predictor, mask, tiles, on_tiles)
        seconds.append(time.perf_counter() - began)
    on_gpu = predictor.device.type == "cuda"
    return Measured(
        seconds=tuple(seconds),
        peak_bytes=peak_resident_bytes(),
        loaded_bytes=loaded_bytes,
        device_bytes=torch.cuda.max_memory_allocated(predictor.device) if on_gpu else None,
        machine=machine(predictor.device),
    )


def _warm_up(predictor: Predictor, case: Case) -> None:
    """One tile of zeros, untimed: torch chooses algorithms and starts threads at the first."""
    with about(case), open_case_image(case) as source:
        (tile_size,) = plan_image(source, predictor).tile_sizes
        predictor(np.zeros((1, source.channels, *tile_size), np.float32))


def _segment(source: ImageSource, predictor: Predictor, path: Path, done: int, on_tiles: TilesDone) -> int:
    """Writes the mask (*S) uint8 as .npy, row by row; gives back the tiles done with this image's added."""
    plan = plan_image(source, predictor)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": source.shape})
        for band in bands(plan, Observers(plan, lambda tiles, _: on_tiles(done + tiles))):
            file.write(predictor.head.mask(band.logits).tobytes())
    return done + plan.tile_count


def machine(device: torch.device | None = None) -> Machine:
    """The machine and the versions that matter for speed."""
    device = device or best_device()
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        system=f"{platform.system()} {platform.machine()}",
        versions={"Python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    )


def _processor() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
