"""A bundle -> its predictor, run the fastest way that answers as float32 does; which one that is, is kept beside the bundle."""

import hashlib
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import psutil
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from configs.schema import Config
from imaging.source import ImageSource
from inference.predictors.counting import multiply_adds_of_tile, shape_only_predictor
from inference.predictors.pass_memory import pass_of
from inference.predictors.predictor import MeanPredictor, Predictor, best_device, make_predictor
from inference.predictors.runtime import AUTO, TORCH, Runtime, candidates, find
from inference.predictors.runtime_parity import Trial, try_out
from inference.tiling.grid import read_mirrored
from inference.tiling.memory_budget import Room
from models.bundle import MANIFEST, Bundle, Sample, sha256_of
from models.errors import BundleError
from transforms import normalise

SHARE_OF_FREE = 0.25  # of the memory that is free, where nothing is said
CONTROL_GROUP = Path("/sys/fs/cgroup")  # what limits a container

WORTH_TRYING = 10**9  # multiply-adds of a pass over a bundle's sample; with fewer, trying takes longer than it saves
SAMPLE_SIDE_PX = {2: 256, 3: 64}
PACKAGES = ("torch", "openvino", "onnxruntime")  # whose versions a choice holds for


def load_predictor(
    bundle: Bundle, device: torch.device | None = None, runtime: str | None = None, memory_bytes: int | None = None
) -> Predictor:
    """The bundle's predictor, on CUDA where there is one and nothing else is asked for; it averages as its config says.

    Args:
        bundle: loaded.
        device: where the networks run.
        runtime: how; None: as the bundle's config says.
        memory_bytes: that the process may have in all; None: as the bundle's config says.

    Raises:
        BundleError: the runtime isn't to be had, or doesn't answer as float32 does.
    """
    device = device or best_device()
    members = [
        make_predictor(bundle.config, network, class_prior, device, average=True)
        for network, class_prior in zip(bundle.networks, bundle.class_priors, strict=True)
    ]
    predictor = members[0] if len(members) == 1 else MeanPredictor(members)
    predictor.classifiers = bundle.classifiers
    rooms = _Rooms(predictor, memory_bytes or bundle.config.inference.memory_bytes)
    chosen = _chosen(runtime or bundle.config.inference.runtime, bundle, predictor, rooms)
    for member in predictor.members:
        member.run = chosen.load(member.run)
    predictor.runtime = chosen.name
    predictor.identity = f"{sha256_of(bundle.folder / MANIFEST)} {chosen.name} {device} {torch.get_num_threads()}"
    predictor.room = rooms.of(chosen.name)
    return predictor


class _Rooms:
    """The memory that there is for an image, whatever runs the network.

    Args:
        predictor: of a bundle, loaded.
        memory_bytes: that the process may have in all; None: what it has and a quarter of what is free.
    """

    def __init__(self, predictor: Predictor, memory_bytes: int | None) -> None:
        self.predictor = predictor
        self.process_bytes = resident_bytes()
        self.memory_bytes = memory_bytes or self.process_bytes + int(free_bytes() * SHARE_OF_FREE)

    def of(self, runtime: str) -> Room:
        """With that runtime."""
        predictor, device, config = self.predictor, self.predictor.device, self.predictor.config
        return Room(
            memory_bytes=self.memory_bytes,
            process_bytes=self.process_bytes,
            device_bytes=int(torch.cuda.mem_get_info(device)[0] * SHARE_OF_FREE) if device.type == "cuda" else None,
            network=pass_of(config, device, runtime, len(predictor.members)),
            channels=len(config.data.channels),
            outputs=predictor.head.outputs,
            batch_size=config.inference.batch_size,
            blends=predictor.blends,
        )

    def hold(self, runtime: str) -> bool:
        """Whether more than half is left when that runtime is set up; torch always runs."""
        if runtime == TORCH:
            return True
        room = self.of(runtime)
        return 2 * room.network.fixed_bytes < room.free_bytes


def room_of(predictor: Predictor, runtime: str, memory_bytes: int | None) -> Room:
    """The memory that there is for an image, for a loaded predictor and what runs it; the rest is `load_predictor`'s."""
    return _Rooms(predictor, memory_bytes).of(runtime)


def resident_bytes() -> int:
    """Memory that the process has."""
    return int(psutil.Process().memory_info().rss)


def free_bytes() -> int:
    """Memory that the process can have without anything being swapped: the machine's, or less in a container."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no control groups, or none that limit
        limit, used = (int((CONTROL_GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, max(0, limit - used))
    return free


def sample_of(source: ImageSource, members: Sequence[Predictor]) -> Sample:
    """A piece out of the middle of an image on the grid that the networks were trained at, and their answers.

    Args:
        source: an open image.
        members: one a network, all of one config, run by torch in float32; they average no mirror images.
    """
    first = members[0]
    sides = (SAMPLE_SIDE_PX[len(source.shape)],) * len(source.shape)
    axes = [first.axis(number, *sizes) for number, sizes in enumerate(zip(source.shape, sides, strict=True))]
    middle = tuple(axis.spans[len(axis.spans) // 2].input for axis in axes)
    normalised = normalise.fit(first.config.normalise, source.channels, source.blocks())
    return answered(torch.from_numpy(np.ascontiguousarray(normalised(read_mirrored(source, middle))[None])), members)


def answered(patches: torch.Tensor, members: Sequence[Predictor]) -> Sample:
    """The networks' answers to patches (1, C, *S)."""
    with torch.inference_mode():
        return Sample(patches, torch.cat([member.logits(patches.to(member.device)).float().cpu() for member in members]))


class Choice(BaseModel):
    """How each runtime did that was tried with a bundle on a machine, from which the fastest is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_for: str
    trials: tuple[Trial, ...]

    def fastest(self, rooms: _Rooms) -> str:
        """Of those that are admitted and for which there is memory."""
        possible = [trial for trial in self.trials if (trial.is_admitted or trial.name == TORCH) and rooms.hold(trial.name)]
        return min(possible, key=lambda trial: trial.seconds).name


def choice_path(folder: Path) -> Path:
    """Beside the bundle, whose own files don't change."""
    return folder.with_name(f"{folder.name}.runtime.json")


def _chosen(name: str, bundle: Bundle, predictor: Predictor, rooms: _Rooms) -> Runtime:
    """The runtime of that name, once it was tried; for `auto` the fastest one, where there is enough work to be worth it."""
    if name == AUTO:
        is_worth_it = bundle.sample is not None and _work(bundle.config, bundle.sample) >= WORTH_TRYING
        name = _tried(bundle, bundle.sample, predictor).fastest(rooms) if is_worth_it and bundle.sample else TORCH
        return find(name, predictor.device, is_fixed=predictor.is_fixed)
    runtime = find(name, predictor.device, is_fixed=predictor.is_fixed)
    if name == TORCH or bundle.sample is None:
        return runtime
    if not (trial := try_out(runtime, predictor, bundle.sample)).is_admitted:
        raise BundleError(f"{bundle.folder}: {trial.text}: not near enough to float32 on this machine; choose {TORCH}")
    return runtime


def _work(config: Config, sample: Sample) -> int:
    """Multiply-adds of a pass over the sample."""
    return multiply_adds_of_tile(shape_only_predictor(config), tuple(sample.patches.shape[2:]))


def _tried(bundle: Bundle, sample: Sample, predictor: Predictor) -> Choice:
    """How each runtime does, as it was found before or is found now."""
    path, made_for = choice_path(bundle.folder), _made_for(bundle, predictor.device)
    with suppress(OSError, ValidationError):
        known = Choice.model_validate_json(path.read_bytes())
        if known.made_for == made_for and known.trials:
            return known
    runtimes = candidates(predictor.device, is_fixed=predictor.is_fixed)
    choice = Choice(made_for=made_for, trials=tuple(try_out(runtime, predictor, sample) for runtime in runtimes))
    with suppress(OSError):  # a folder that can't be written into: it is found anew each time
        path.write_text(choice.model_dump_json(indent=2) + "\n")
    return choice


def _made_for(bundle: Bundle, device: torch.device) -> str:
    """What a choice depends on: the bundle, the processor, the threads, the versions."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    machine = (platform.machine(), platform.processor(), gpu, str(os.cpu_count()), str(torch.get_num_threads()))
    facts = (sha256_of(bundle.folder / MANIFEST), device.type, *machine, *map(_version, PACKAGES))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
