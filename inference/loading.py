"""A bundle -> its predictor, run the fastest way that answers as float32 does; which one that is, is kept beside the bundle."""

import hashlib
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from imaging.source import ImageSource
from inference.grid import read_mirrored
from inference.predictor import MeanPredictor, Predictor, best_device, make_predictor
from inference.runtime import AUTO, TORCH, Runtime, candidates, find
from inference.trial import Trial, try_out
from models.bundle import MANIFEST, Bundle, Sample, sha256_of
from models.errors import BundleError
from transforms import normalise

SAMPLE_SIDE_PX = {2: 256, 3: 64}
PACKAGES = ("torch", "openvino")  # whose versions a choice holds for


def load_predictor(bundle: Bundle, device: torch.device | None = None, runtime: str | None = None) -> Predictor:
    """The bundle's predictor, on CUDA where there is one and nothing else is asked for; it averages as its config says.

    Args:
        bundle: loaded.
        device: where the networks run.
        runtime: how; None: as the bundle's config says.

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
    chosen = _chosen(runtime or bundle.config.inference.runtime, bundle, predictor)
    for member in predictor.members:
        member.run = chosen.load(member.run)
    return predictor


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
    """A runtime that was chosen for a bundle on a machine, and how each one did that was tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_for: str
    runtime: str
    trials: tuple[Trial, ...]


def choice_path(folder: Path) -> Path:
    """Beside the bundle, whose own files don't change."""
    return folder.with_name(f"{folder.name}.runtime.json")


def _chosen(name: str, bundle: Bundle, predictor: Predictor) -> Runtime:
    """The runtime of that name, once it was tried; for `auto` the fastest one."""
    if name == AUTO:
        name = TORCH if bundle.sample is None else _fastest(bundle, bundle.sample, predictor)
        return find(name, predictor.device, is_fixed=predictor.is_fixed)
    runtime = find(name, predictor.device, is_fixed=predictor.is_fixed)
    if name == TORCH or bundle.sample is None:
        return runtime
    if not (trial := try_out(runtime, predictor, bundle.sample)).is_admitted:
        raise BundleError(f"{bundle.folder}: {trial.text}: not near enough to float32 on this machine; choose {TORCH}")
    return runtime


def _fastest(bundle: Bundle, sample: Sample, predictor: Predictor) -> str:
    """The fastest that is admitted, as it was found before or is found now."""
    path, made_for = choice_path(bundle.folder), _made_for(bundle, predictor.device)
    with suppress(OSError, ValidationError):
        known = Choice.model_validate_json(path.read_bytes())
        if known.made_for == made_for:
            return known.runtime
    runtimes = candidates(predictor.device, is_fixed=predictor.is_fixed)
    trials = tuple(try_out(runtime, predictor, sample) for runtime in runtimes)
    admitted = [trial for trial in trials if trial.is_admitted or trial.name == TORCH]
    fastest = min(admitted, key=lambda trial: trial.seconds).name
    with suppress(OSError):  # a folder that can't be written into: it is found anew each time
        path.write_text(Choice(made_for=made_for, runtime=fastest, trials=trials).model_dump_json(indent=2) + "\n")
    return fastest


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
