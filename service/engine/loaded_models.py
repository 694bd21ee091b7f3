"""Loaded bundles by name; a bundle that can't be loaded is listed as broken, and the others are served."""

import threading
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from disk.process import resident_bytes
from inference.predictors.loading import load_predictor
from inference.predictors.predictor import DEFAULT_TILE_SIZE, Predictor, best_device
from inference.predictors.runtime import OpenVino
from models.bundle import load
from models.bundle_metrics import BundleMetrics
from models.errors import BundleError
from models.heads import check_gives_masks
from models.manifest import Manifest
from service.engine.device_scheduler import DeviceScheduler
from service.schemas import BrokenModelAnswer, ModelAnswer


@dataclass(frozen=True)
class LoadedModel:
    """Loaded bundle; the passes of its networks are scheduled on the device."""

    manifest: Manifest
    predictor: Predictor
    metrics: BundleMetrics | None = None


class LoadedModels:
    """Models of one device. Threads may share it.

    Args:
        device: device of the networks; None: CUDA if there is one, else the CPU.
        at_once: number of images that are processed together; they share the memory.
        runtime: runtime of all networks; None: as each bundle's config says.
        memory_bytes: memory limit of the whole process; None: as each bundle's config says.
    """

    def __init__(
        self,
        device: torch.device | None = None,
        *,
        at_once: int = 1,
        runtime: str | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        self.device = device or best_device()
        self.scheduler = DeviceScheduler(joins=self.device.type == "cuda")
        self._at_once, self._runtime, self._memory_bytes = at_once, runtime, memory_bytes
        self._loaded: dict[str, LoadedModel] = {}
        self._broken: dict[str, BrokenModelAnswer] = {}
        self._lock = threading.Lock()

    def load(self, folder: Path, name: str) -> None:
        """Load a bundle, which replaces a model of the same name; list it as broken under `name` if that fails."""
        try:
            bundle = load(folder)
            check_gives_masks(bundle.config)
            predictor = load_predictor(bundle, self.device, self._runtime, self._memory_bytes)
            for member in predictor.members:
                if isinstance(member.run, OpenVino):
                    member.run.sizes = self._at_once  # images that are processed together may have different tile sizes
            batch_size = bundle.config.inference.batch_size
            scheduled = predictor.with_passes(lambda run: self.scheduler.schedule(run, batch_size))
        except (BundleError, OSError, RuntimeError) as error:
            message = str(error) if isinstance(error, BundleError) else "the bundle can't be read; package it again"
            broken = BrokenModelAnswer(name=name, code="model_broken", message=message.replace(f"{folder}: ", ""))
            with self._lock:
                self._broken[name] = broken
            return
        with self._lock:
            self._broken.pop(name, None)
            self._loaded[bundle.manifest.name] = LoadedModel(bundle.manifest, scheduled, bundle.metrics)

    def unload(self, name: str) -> None:
        """Unload a model; images that are being processed keep its networks until they are finished."""
        with self._lock:
            self._loaded.pop(name, None)
            self._broken.pop(name, None)

    def get(self, name: str, smaller: int = 0) -> LoadedModel | None:
        """Return a model for one image, with the image's share of the memory; None if no model has that name.

        Its tiles are at most as large as those of a small image, so that a direct call never waits longer for another pass
        than for its own; their sides are halved `smaller` times.
        """
        with self._lock:
            model = self._loaded.get(name)
        if model is None:
            return None
        most_side_px = DEFAULT_TILE_SIZE[model.predictor.config.data.dimensions] >> smaller
        return replace(model, predictor=model.predictor.with_memory_share(resident_bytes(), self._at_once, most_side_px))

    @property
    def answers(self) -> list[ModelAnswer]:
        """The loaded models as clients see them."""
        with self._lock:
            return [ModelAnswer.of(model.manifest, model.metrics) for model in self._loaded.values()]

    @property
    def broken(self) -> list[BrokenModelAnswer]:
        """The bundles that can't be loaded."""
        with self._lock:
            return list(self._broken.values())
