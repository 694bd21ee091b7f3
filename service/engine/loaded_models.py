"""The loaded bundles, by name; one that can't be loaded doesn't keep the others from it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from disk.process import resident_bytes
from inference.predictors.ensemble import Ensemble
from inference.predictors.loading import load_predictor
from inference.predictors.predictor import DEFAULT_TILE_SIZE, Predictor, best_device
from inference.predictors.runtime import OpenVino
from models.bundle import Bundle, Manifest, load
from models.errors import BundleError
from models.heads import check_gives_masks
from service.engine.device_scheduler import Turns
from service.schemas import BrokenModelAnswer, ModelAnswer


@dataclass(frozen=True)
class Model:
    """A loaded bundle; its networks wait for their turn on the device."""

    manifest: Manifest
    predictor: Predictor


class Models:
    """What is loaded. Threads may share it.

    Args:
        device: where networks run; None takes CUDA where there is one.
        at_once: images that are worked on together; they share the memory that there is.
        runtime: that takes the place of the bundles' own; None keeps those.
        memory_bytes: that the process may have in all; None: as the bundles say.
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
        self.turns = Turns(joins=self.device.type == "cuda")
        self._at_once, self._runtime, self._memory_bytes = at_once, runtime, memory_bytes
        self._loaded: dict[str, Model] = {}
        self._broken: dict[str, BrokenModelAnswer] = {}
        self._lock = threading.Lock()

    def load(self, folder: Path, name: str) -> None:
        """Loads a bundle, in place of one of its name; where that fails it is listed as broken under `name`."""
        try:
            model = self._load(load(folder))
        except (BundleError, OSError, RuntimeError) as error:
            message = str(error) if isinstance(error, BundleError) else "the bundle can't be read; package it again"
            with self._lock:
                self._broken[name] = BrokenModelAnswer(
                    name=name, code="model_broken", message=message.replace(f"{folder}: ", "")
                )
            return
        with self._lock:
            self._broken.pop(name, None)
            self._loaded[model.manifest.name] = model

    def unload(self, name: str) -> None:
        """Forgets a model; what runs with it ends with it."""
        with self._lock:
            self._loaded.pop(name, None)
            self._broken.pop(name, None)

    def of(self, name: str, smaller: int = 0) -> Model | None:
        """The model of that name, for one image: whoever has it may pin its tiles, whose sides are halved `smaller` times."""
        with self._lock:
            model = self._loaded.get(name)
        return None if model is None else replace(model, predictor=self._for_one_image(model.predictor, smaller))

    @property
    def answers(self) -> list[ModelAnswer]:
        """What is loaded, as clients see it."""
        with self._lock:
            return [ModelAnswer.of(model.manifest) for model in self._loaded.values()]

    @property
    def broken(self) -> list[BrokenModelAnswer]:
        """What couldn't be."""
        with self._lock:
            return list(self._broken.values())

    def ensemble(self, models: list[Model], *, says_disagreement: bool) -> Ensemble:
        """Several as one."""
        return Ensemble(tuple(model.predictor for model in models), says_disagreement)

    def _load(self, bundle: Bundle) -> Model:
        check_gives_masks(bundle.config)
        predictor = load_predictor(bundle, self.device, self._runtime, self._memory_bytes)
        for member in predictor.members:
            if isinstance(member.run, OpenVino):
                member.run.sizes = self._at_once  # each image's share of the memory has room for a pass of its own
        batch_size = bundle.config.inference.batch_size
        return Model(bundle.manifest, predictor.with_passes(lambda run: self.turns.gate(run, batch_size)))

    def _for_one_image(self, predictor: Predictor, smaller: int) -> Predictor:
        """A copy that shares the networks; its tiles are no larger than a small image, which waits for one at most."""
        if predictor.memory_budget is None:
            return predictor
        most_side_px = DEFAULT_TILE_SIZE[predictor.config.data.dimensions] >> smaller
        budget = replace(
            predictor.memory_budget, process_bytes=resident_bytes(), shares=self._at_once, most_side_px=most_side_px
        )
        return replace(predictor, memory_budget=budget)
