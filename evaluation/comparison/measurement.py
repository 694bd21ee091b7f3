"""Measurement of a bundle: its masks of many images, and the time and memory that they took.

Each bundle runs in a newly spawned process, because memory, caches and torch's thread pool that a first bundle leaves behind
would be counted for the second. This file imports nothing that inference does not need.
"""

import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from datasets.cases import Case, open_case_image, prefix_errors
from disk.process import peak_resident_bytes, reset_peak, resident_bytes
from imaging.errors import DataError
from imaging.source import ImageSource
from inference.plan import plan_image
from inference.predictors.loading import load_predictor
from inference.predictors.predictor import Predictor, best_device
from inference.segment import Observers, bands
from models import bundle
from models.sliding_window import SlidingWindow

TilesDone = Callable[[int], None]
SAMPLED_WINDOWS, PATCH_BATCHES = 64, (8, 64)


@dataclass(frozen=True)
class SegmentationJob:
    """Bundle folder, the cases to segment with it in this order, and the .npy file for each case's mask."""

    bundle: Path
    cases: tuple[Case, ...]
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class Machine:
    """Hardware and software of a measurement: `threads` of torch, `cores` that this process may use."""

    processor: str
    cores: int
    threads: int
    device: str
    system: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Measurement:
    """Time and memory that a bundle took to segment the cases of a job.

    Args:
        seconds: time for each case: open, read, normalise, network, stitch, write the mask.
        peak_bytes: largest resident memory of the process after the bundle was loaded, Python and torch included.
        loaded_bytes: resident memory of the process with the bundle loaded, before the first tile.
        device_bytes: largest memory of torch on the GPU, weights included; None on a CPU.
        machine: hardware and software that it ran on.
        patch_by_patch_s: seconds for a pixel if each pixel's window is run separately, from a sample; None for a U-Net.
    """

    seconds: tuple[float, ...]
    peak_bytes: int
    loaded_bytes: int
    device_bytes: int | None
    machine: Machine
    patch_by_patch_s: float | None = None

    @property
    def working_bytes(self) -> int:
        """Peak memory beyond the loaded bundle."""
        return max(0, self.peak_bytes - self.loaded_bytes)

    @property
    def compared_bytes(self) -> int:
        """Memory that the comparison uses: the GPU's where one is used, else the working memory."""
        return self.working_bytes if self.device_bytes is None else self.device_bytes


def measure(job: SegmentationJob, on_tiles: TilesDone | None = None) -> Measurement:
    """Segment the job's cases in a new process, and return the time and memory it took.

    The process is spawned by multiprocessing, so a script that calls this needs `if __name__ == "__main__":`.

    Args:
        job: bundle, cases and mask files.
        on_tiles: called with the tiles done so far, over all cases.

    Raises:
        DataError: a case can't be read or doesn't suit, with its name; or `measurement_stopped`: the process ended early.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_run_child, args=(job, sending), daemon=True)
    process.start()
    sending.close()  # only the child holds this end now, so its death ends the reading here
    try:
        while not isinstance(message := receiving.recv(), Measurement):
            if isinstance(message, DataError):
                raise message
            if on_tiles:
                on_tiles(message)
        return message
    except EOFError as error:
        process.join()
        raise DataError(
            "measurement_stopped",
            f"the process that ran {job.bundle} ended early, with status {process.exitcode}; "
            "-9 usually means too little memory: choose a smaller inference.tile_size",
        ) from error
    finally:
        process.kill()
        process.join()
        receiving.close()


def _run_child(job: SegmentationJob, sending: Connection) -> None:
    """Run the job in the new process, and send the tiles done and then the measurement or an error."""
    try:
        sending.send(_measure_here(job, sending.send))
    except DataError as error:
        sending.send(error)


def _measure_here(job: SegmentationJob, on_tiles: TilesDone) -> Measurement:
    """Segment the job's cases in this process."""
    predictor = load_predictor(bundle.load(job.bundle))
    on_gpu = predictor.device.type == "cuda"
    loaded_bytes = resident_bytes()
    reset_peak()  # loading holds the weights twice and is not counted
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(predictor.device)
    with prefix_errors(job.cases[0]), open_case_image(job.cases[0]) as source:
        (tile_size,) = plan_image(source, predictor).tile_sizes
        predictor(np.zeros((1, source.channels, *tile_size), np.float32))  # untimed: torch picks algorithms, starts threads
    seconds, tiles = [], 0
    for case, mask in zip(job.cases, job.masks, strict=True):
        start = time.perf_counter()
        with prefix_errors(case), open_case_image(case) as source:
            tiles = _write_mask(source, predictor, mask, tiles, on_tiles)
        seconds.append(time.perf_counter() - start)
    return Measurement(
        seconds=tuple(seconds),
        peak_bytes=peak_resident_bytes(),
        loaded_bytes=loaded_bytes,
        device_bytes=torch.cuda.max_memory_allocated(predictor.device) if on_gpu else None,
        machine=describe_machine(predictor.device),
        patch_by_patch_s=seconds_patch_by_patch(predictor),
    )


def seconds_patch_by_patch(predictor: Predictor) -> float | None:
    """Return the seconds for a pixel if its window is run separately, as the method was published; None for a U-Net.

    64 windows are run in float32 torch, in batches of 8 and of 64, of which the faster one counts. An ensemble runs each of its
    networks.
    """
    total = 0.0
    for member in predictor.members:
        network = member.network
        if not isinstance(network, SlidingWindow):
            return None
        windows = torch.zeros(
            SAMPLED_WINDOWS, len(member.config.data.channels), *member.config.patch_size, device=member.device
        )
        durations = []
        with torch.inference_mode():
            for batch_size in PATCH_BATCHES:
                network(windows[:batch_size])  # untimed
                start = time.perf_counter()
                outputs = [network(batch) for batch in torch.split(windows, batch_size)]
                outputs[-1].cpu()  # waits for the GPU
                durations.append(time.perf_counter() - start)
        total += len(member.symmetries) * min(durations) / SAMPLED_WINDOWS
    return total


def _write_mask(source: ImageSource, predictor: Predictor, path: Path, first_tile: int, on_tiles: TilesDone) -> int:
    """Write the mask (*S) uint8 as .npy, row by row; return the tiles done so far, this image's included."""
    plan = plan_image(source, predictor)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": source.shape})
        for band in bands(plan, Observers(plan, lambda tiles, _: on_tiles(first_tile + tiles))):
            file.write(predictor.head.mask(band.logits).tobytes())
    return first_tile + plan.tile_count


def describe_machine(device: torch.device | None = None) -> Machine:
    """Describe this machine and the versions that matter for speed; `device` None is the best one."""
    device = device or best_device()
    return Machine(
        processor=_processor_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        system=f"{platform.system()} {platform.machine()}",
        versions={"Python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    )


def _processor_name() -> str:
    """Return the processor's model from /proc/cpuinfo, or what Python knows where that has none."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
