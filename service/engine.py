"""The loaded models and the device they share: a file in, a mask file out, one image at a time on the networks."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from configs.sections import ClassSection
from imaging.guards import UPLOAD, Guards
from imaging.open import open_image
from imaging.source import Geometry, ImageSource, MaskFormat
from imaging.writers import open_writer, suffix_of
from inference.loading import load_predictor
from inference.predictor import Predictor, best_device
from inference.segment import Segmentation, segment, segment_array
from inference.suiting import check_suitable
from inference.work import Writers
from models.bundle import Bundle, Manifest
from models.errors import BundleError
from models.heads import check_gives_masks
from service.comparison import Comparison, class_shares, compare_masks
from service.errors import BadRequest, Busy, UnknownModel, Unsuitable

_DISAGREEMENT = (ClassSection(name="equal", colour="#000000"), ClassSection(name="different", colour="#ffffff"))


@dataclass(frozen=True)
class Upload:
    """A client's file, and its word for the spacing, in S order or one for all axes; None takes the file's."""

    path: Path
    spacing_um: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Segmented:
    """A finished mask file and what is known of it."""

    path: Path
    mask_format: MaskFormat
    segmentation: Segmentation


@dataclass(frozen=True)
class ComparedModel:
    """One model's part in a comparison: its mask file, the seconds it took, class name -> share of the pixels."""

    name: str
    mask: Path
    seconds: float
    class_shares: dict[str, float]


@dataclass(frozen=True)
class Compared:
    """Two models on one image; `disagreement` is a mask file, 1 where they differ."""

    models: tuple[ComparedModel, ComparedModel]
    mask_format: MaskFormat
    comparison: Comparison
    disagreement: Path


class Engine:
    """Serves every loaded model on one device. Its methods block: call them in a worker thread.

    Args:
        bundles: one a model; their names differ.
        device: where the networks run; None takes CUDA where there is one.
        max_waiting: calls that may wait for the device beside the one that has it.

    Raises:
        BundleError: no bundle, two of one name, or one that gives values and no masks.
    """

    def __init__(self, bundles: Sequence[Bundle], device: torch.device | None = None, max_waiting: int = 8) -> None:
        check_servable(bundles)
        device = device or best_device()
        self.manifests: dict[str, Manifest] = {bundle.manifest.name: bundle.manifest for bundle in bundles}
        self._predictors: dict[str, Predictor] = {bundle.manifest.name: load_predictor(bundle, device) for bundle in bundles}
        self._device_lock = threading.Lock()
        self._seats = threading.BoundedSemaphore(max_waiting + 1)

    def check_model(self, name: str | None) -> str:
        """The name itself, or the only model's where none is given.

        Raises:
            UnknownModel: there is none of that name.
            BadRequest: no name, and several models to choose from.
        """
        if name is None and len(self.manifests) == 1:
            return next(iter(self.manifests))
        if name is None:
            message = f"{len(self.manifests)} models are loaded; choose one of GET /v1/models with model=NAME"
            raise BadRequest("parameter_missing", message, field="model")
        if name not in self.manifests:
            raise UnknownModel("model_not_found", "no model of that name is loaded; GET /v1/models lists them", field="model")
        return name

    def check_pair(self, names: Sequence[str]) -> tuple[str, str]:
        """Two names of models that can be compared.

        Raises:
            BadRequest: not two different names.
            UnknownModel: one of them isn't loaded.
            Unsuitable: their classes differ.
        """
        if len(names) != 2 or names[0] == names[1]:
            raise BadRequest("parameter_invalid", "models takes two different names with a comma between", field="models")
        if not set(names) <= set(self.manifests):
            message = "a model of that name isn't loaded; GET /v1/models lists them"
            raise UnknownModel("model_not_found", message, field="models")
        first, second = (self.class_names(name) for name in names)
        if first != second:
            message = "the two models know different classes; choose two that were trained on the same ones"
            raise Unsuitable("classes_differ", message, field="models")
        return names[0], names[1]

    def class_names(self, model: str) -> list[str]:
        """The names of a model's classes; the label is the place."""
        return [section.name for section in self.manifests[model].classes]

    def segment(self, upload: Upload, model: str, mask_format: MaskFormat | None, folder: Path) -> Segmented:
        """Writes the mask of the uploaded image into `folder`; None takes the image's own mask format.

        Raises:
            DataError: the image can't be read, or isn't one for this model or format.
            Busy: too many are waiting already.
        """
        predictor = self._predictors[model]
        with self._seat(), _opened(upload, UPLOAD) as source:
            check_suitable(source, predictor.config)  # before the wait for the device
            chosen = mask_format or source.mask_format
            out = folder / f"mask{suffix_of(chosen)}"
            with (
                open_writer(out, source.geometry, format=chosen, classes=self.manifests[model].classes) as writer,
                self._device_lock,
            ):
                segmentation = segment(source, predictor, Writers(writer))
        return Segmented(out, chosen, segmentation)

    def compare(self, upload: Upload, models: tuple[str, str], max_pixels: int, folder: Path) -> Compared:
        """Segments one image with two models; the mask files lie in `folder`, PNG in 2D and NIfTI in 3D.

        Raises:
            DataError: the image can't be read, is larger than `max_pixels`, or isn't one for these models.
            Busy: too many are waiting already.
        """
        with self._seat(), _opened(upload, replace(UPLOAD, max_pixels=max_pixels)) as source:
            for model in models:
                check_suitable(source, self._predictors[model].config)
            with self._device_lock:
                (first, first_s), (second, second_s) = (self._timed_mask(source, model) for model in models)
            geometry = source.geometry
        comparison = compare_masks(first, second, self.class_names(models[0]))
        parts = (
            self._part(models[0], first, first_s, folder / "first", geometry),
            self._part(models[1], second, second_s, folder / "second", geometry),
        )
        disagreement = _write(folder / "disagreement", geometry, comparison.disagreement, _DISAGREEMENT)
        return Compared(parts, _mask_format(geometry), comparison, disagreement)

    def _part(self, model: str, mask: NDArray[np.uint8], seconds: float, stem: Path, geometry: Geometry) -> ComparedModel:
        written = _write(stem, geometry, mask, self.manifests[model].classes)
        return ComparedModel(model, written, seconds, class_shares(mask, self.class_names(model)))

    def _timed_mask(self, source: ImageSource, model: str) -> tuple[NDArray[np.uint8], float]:
        began = time.monotonic()
        mask = segment_array(source, self._predictors[model])
        return mask, time.monotonic() - began

    @contextmanager
    def _seat(self) -> Iterator[None]:
        """A place among those who wait for the device."""
        if not self._seats.acquire(blocking=False):
            raise Busy("busy", "as many requests are waiting as may wait; send it again after the seconds in Retry-After")
        try:
            yield
        finally:
            self._seats.release()


def check_servable(bundles: Sequence[Bundle]) -> None:
    """Nothing, when there is at least one bundle, all give masks, and their names tell them apart.

    Raises:
        BundleError: otherwise.
    """
    for bundle in bundles:
        check_gives_masks(bundle.config)
    names = [bundle.manifest.name for bundle in bundles]
    if not names:
        raise BundleError("no bundle; give the bundle/ folder of at least one finished run")
    for name in names:
        if names.count(name) > 1:
            raise BundleError(f"two bundles are named {name}; train one of them with another run.name")


def _opened(upload: Upload, guards: Guards) -> ImageSource:
    return open_image(upload.path, guards=guards, spacing_um=upload.spacing_um)


def _mask_format(geometry: Geometry) -> MaskFormat:
    return "png" if len(geometry.shape) == 2 else "nifti"


def _write(stem: Path, geometry: Geometry, mask: NDArray[np.uint8], classes: Sequence[ClassSection]) -> Path:
    mask_format = _mask_format(geometry)
    path = stem.with_suffix(suffix_of(mask_format))
    with open_writer(path, geometry, format=mask_format, classes=classes) as writer:
        writer.write(0, mask)
    return path
