"""Loading of bundles as predictors, with the fastest runtime whose output matches float32 PyTorch.

The measurements of the runtimes are stored beside the bundle.
"""

import hashlib
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

import numpy as np
import psutil
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from disk.digest import sha256_of_file
from disk.process import resident_bytes
from imaging.source import ImageSource
from inference.predictors.counting import multiply_adds_of_tile, shape_only_predictor
from inference.predictors.mean import MeanPredictor
from inference.predictors.methods import make_predictor
from inference.predictors.pass_memory import pass_memory_of
from inference.predictors.predictor import Predictor, best_device
from inference.predictors.runtime import AUTO, TORCH, Runtime, automatic_runtimes, find_runtime
from inference.predictors.runtime_parity import RuntimeParity, measure_runtime
from inference.tiling.grid import read_mirrored
from inference.tiling.memory_budget import MemoryBudget
from models.bundle import MANIFEST, Bundle, Sample
from models.errors import BundleError
from transforms import normalise

FREE_SHARE = 0.25  # share of the free memory that is used without a limit
CONTROL_GROUP = Path("/sys/fs/cgroup")  # limits of a container

LEAST_MEASURED_WORK = 10**9  # multiply-adds of a pass over a sample; with fewer, measuring takes longer than it saves
SAMPLE_SIDE_PX = {2: 256, 3: 64}
PACKAGES = ("torch", "openvino", "onnxruntime")  # packages whose versions the measurements depend on


def load_predictor(
    bundle: Bundle, device: torch.device | None = None, runtime: str | None = None, memory_bytes: int | None = None
) -> Predictor:
    """Return the bundle's predictor, which averages over symmetries as its config says.

    Args:
        bundle: loaded bundle.
        device: device that the networks run on; None: CUDA if there is one, else the CPU.
        runtime: name of the runtime; None: as the bundle's config says.
        memory_bytes: memory limit of the whole process; None: as the bundle's config says.

    Raises:
        BundleError: the runtime isn't available, or its output doesn't match float32.
    """
    device = device or best_device()
    members = [
        make_predictor(bundle.config, network, class_prior, device, average=True, calibration=bundle.manifest.calibration)
        for network, class_prior in zip(bundle.networks, bundle.class_priors, strict=True)
    ]
    predictor = replace(members[0] if len(members) == 1 else MeanPredictor.of(members), classifiers=bundle.classifiers)
    limits = MemoryLimits.of_process(memory_bytes or bundle.config.inference.memory_bytes)
    selected = _select_runtime(runtime or bundle.config.inference.runtime, bundle, predictor, limits)
    return replace(
        predictor.with_passes(selected.load),
        runtime=selected.name,
        identity=f"{sha256_of_file(bundle.folder / MANIFEST)} {selected.name} {device} {torch.get_num_threads()}",
        memory_budget=limits.budget(predictor, selected.name),
    )


@dataclass(frozen=True)
class MemoryLimits:
    """Memory of the process: the `memory_bytes` that it may take in all, and the `process_bytes` before an image is opened."""

    memory_bytes: int
    process_bytes: int

    @classmethod
    def of_process(cls, memory_bytes: int | None = None) -> Self:
        """Return the limits of this process; None allows its present memory and a quarter of the free memory."""
        process_bytes = resident_bytes()
        return cls(memory_bytes or process_bytes + int(free_bytes() * FREE_SHARE), process_bytes)

    def budget(self, predictor: Predictor, runtime: str) -> MemoryBudget:
        """Return the memory budget of an image for a predictor with that runtime."""
        device, config = predictor.device, predictor.config
        return MemoryBudget(
            memory_bytes=self.memory_bytes,
            process_bytes=self.process_bytes,
            device_bytes=int(torch.cuda.mem_get_info(device)[0] * FREE_SHARE) if device.type == "cuda" else None,
            network=pass_memory_of(config, device, runtime, len(predictor.members)),
            channels=len(config.data.channels),
            outputs=predictor.head.outputs,
            batch_size=config.inference.batch_size,
            blends=predictor.blends,
        )

    def allow(self, predictor: Predictor, runtime: str) -> bool:
        """Return whether the runtime leaves more than half of the memory to tiles. Torch is always allowed."""
        if runtime == TORCH:
            return True
        budget = self.budget(predictor, runtime)
        return 2 * budget.network.fixed_bytes < budget.free_bytes


def free_bytes() -> int:
    """Return the memory that is available without swapping: the machine's, or less in a container."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no control group, or one without a limit
        limit, used = (int((CONTROL_GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, max(0, limit - used))
    return free


def sample_of(source: ImageSource, members: Sequence[Predictor]) -> Sample:
    """Return a tile from the middle of an image on the grid that the networks were trained at, and their logits.

    Args:
        source: open image.
        members: predictor of each network, all of one config, with torch in float32 and without symmetries.
    """
    first = members[0]
    sides = (SAMPLE_SIDE_PX[len(source.shape)],) * len(source.shape)
    axes = [first.axis(number, *sizes) for number, sizes in enumerate(zip(source.shape, sides, strict=True))]
    middle = tuple(axis.spans[len(axis.spans) // 2].input for axis in axes)
    normalised = normalise.fit(first.config.normalise, source.channels, source.blocks())
    return sample_with_logits(torch.from_numpy(np.ascontiguousarray(normalised(read_mirrored(source, middle))[None])), members)


def sample_with_logits(patches: torch.Tensor, members: Sequence[Predictor]) -> Sample:
    """Return a sample of patches (1, C, *S) and the logits of each network."""
    with torch.inference_mode():
        return Sample(patches, torch.cat([member.logits(patches.to(member.device)).float().cpu() for member in members]))


class RuntimeMeasurements(BaseModel):
    """Measurements of all runtimes with a bundle on a machine. The fields are the keys of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_for: str
    trials: tuple[RuntimeParity, ...]

    def fastest(self, predictor: Predictor, limits: MemoryLimits) -> str:
        """Return the name of the fastest runtime whose output matches float32 and for which there is enough memory."""
        usable = [each for each in self.trials if each.is_admitted or each.name == TORCH]
        allowed = [each for each in usable if limits.allow(predictor, each.name)]
        return min(allowed, key=lambda each: each.seconds).name


def measurements_path(folder: Path) -> Path:
    """Return the path of the measurements, which is beside the bundle, since a bundle never changes."""
    return folder.with_name(f"{folder.name}.runtime.json")


def _select_runtime(name: str, bundle: Bundle, predictor: Predictor, limits: MemoryLimits) -> Runtime:
    """Return the runtime of that name if its output matches float32; for `auto` the fastest one."""
    if name == AUTO:
        if bundle.sample is None:
            return find_runtime(TORCH, predictor.device, is_fixed=predictor.is_fixed)
        work = multiply_adds_of_tile(shape_only_predictor(bundle.config), tuple(bundle.sample.patches.shape[2:]))
        if work >= LEAST_MEASURED_WORK:
            name = _measurements(bundle, bundle.sample, predictor).fastest(predictor, limits)
        else:
            name = TORCH
        return find_runtime(name, predictor.device, is_fixed=predictor.is_fixed)
    runtime = find_runtime(name, predictor.device, is_fixed=predictor.is_fixed)
    if name == TORCH or bundle.sample is None:
        return runtime
    if not (parity := measure_runtime(runtime, predictor, bundle.sample)).is_admitted:
        raise BundleError(f"{bundle.folder}: {parity.text}: differs too much from float32 on this machine; choose {TORCH}")
    return runtime


def _measurements(bundle: Bundle, sample: Sample, predictor: Predictor) -> RuntimeMeasurements:
    """Return the measurements from the file beside the bundle, or measure all runtimes and write it."""
    path, made_for = measurements_path(bundle.folder), _conditions(bundle, predictor.device)
    with suppress(OSError, ValidationError):
        stored = RuntimeMeasurements.model_validate_json(path.read_bytes())
        if stored.made_for == made_for and stored.trials:
            return stored
    runtimes = automatic_runtimes(predictor.device, is_fixed=predictor.is_fixed)
    trials = tuple(measure_runtime(runtime, predictor, sample) for runtime in runtimes)
    measurements = RuntimeMeasurements(made_for=made_for, trials=trials)
    with suppress(OSError):  # the folder is read-only, so that the runtimes are measured each time
        path.write_text(measurements.model_dump_json(indent=2) + "\n")
    return measurements


def _conditions(bundle: Bundle, device: torch.device) -> str:
    """Return a digest of what the measurements depend on: the bundle, the machine, the threads and the versions."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    machine = (platform.machine(), platform.processor(), gpu, str(os.cpu_count()), str(torch.get_num_threads()))
    versions = []
    for package in PACKAGES:
        try:
            versions.append(version(package))
        except PackageNotFoundError:
            versions.append("none")
    facts = (sha256_of_file(bundle.folder / MANIFEST), device.type, *machine, *versions)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()
