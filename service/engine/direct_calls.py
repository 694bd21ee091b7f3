"""Small images whose client waits: one mask, or two models compared."""

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from configs.sections import ClassSection
from imaging.guards import UPLOAD
from imaging.open import open_image
from imaging.source import Geometry, ImageSource, MaskFormat
from imaging.writing.band_writer import open_writer, suffix_of
from inference.compatibility import check_suitable
from inference.plan import plan_image
from inference.request import Writers
from inference.segment import Observers, Segmentation, bands, segment
from service.engine.loaded_models import Model
from service.engine.mask_comparison import MaskComparison
from service.engine.protocol import Message
from service.media_types import media_type_of
from service.schemas import CompareAnswer, ComparedModelAnswer

DISAGREEMENT = (ClassSection(name="equal", colour="#000000"), ClassSection(name="different", colour="#ffffff"))

Progress = Callable[[int, int], None]


def segment_small(
    path: Path, model: Model, mask_format: MaskFormat | None, spacing_um: tuple[float, ...] | None, on_progress: Progress
) -> Message:
    """Writes the image's mask beside it; None takes the image's own format.

    Raises:
        DataError: the image can't be read, or isn't one for this model or format.
        Cancelled: nobody wants it any more.
    """
    with open_image(path, guards=UPLOAD, spacing_um=spacing_um) as source:
        chosen = mask_format or source.mask_format
        out = path.with_name(f"mask{suffix_of(chosen)}")
        with open_writer(out, source.geometry, format=chosen, classes=model.manifest.classes) as writer:
            known = segment(plan_image(source, model.predictor), Writers([writer]), on_progress)
    return {"file": str(out), "media_type": media_type_of(out.name), "headers": _headers(known)}


def _headers(known: Segmentation) -> dict[str, str]:
    label = {"X-Overtile-Label": quote(known.label.name, safe="")} if known.label else {}
    return {"X-Overtile-Seconds": f"{known.seconds:.3f}", "X-Overtile-Warnings": ",".join(known.warnings), **label}


def compare_small(
    path: Path, models: Sequence[Model], max_pixels: int, spacing_um: tuple[float, ...] | None, on_progress: Progress
) -> Message:
    """Both models' masks of one image, and how far they agree; PNG in 2D and NIfTI in 3D, in the answer itself.

    Raises:
        DataError: the image can't be read, is larger than `max_pixels`, or isn't one for these models.
        Cancelled: nobody wants it any more.
    """
    with open_image(path, guards=replace(UPLOAD, max_pixels=max_pixels), spacing_um=spacing_um) as source:
        for model in models:
            check_suitable(source, model.predictor.config)
        masks, seconds = zip(*(_timed_mask(source, model, on_progress) for model in models), strict=True)
        geometry = source.geometry
    names = [section.name for section in models[0].manifest.classes]
    compared = MaskComparison(names)
    media_type, disagreement = _encoded(path.with_name("disagreement"), geometry, compared.add(*masks), DISAGREEMENT)
    parts = [
        ComparedModelAnswer(
            name=model.manifest.name,
            method=model.manifest.method,
            seconds=took,
            class_shares=shares,
            mask=_encoded(path.with_name("mask"), geometry, mask, model.manifest.classes)[1],
            media_type=media_type,
        )
        for model, mask, took, shares in zip(models, masks, seconds, compared.shares, strict=True)
    ]
    answer = CompareAnswer(
        models=parts, agreement=compared.agreement, dice=compared.dice, disagreement=disagreement, media_type=media_type
    )
    return answer.model_dump()


def _timed_mask(source: ImageSource, model: Model, on_progress: Progress) -> tuple[NDArray[np.uint8], float]:
    began = time.monotonic()
    predictor = model.predictor
    plan = plan_image(source, predictor)
    mask = np.concatenate([predictor.head.mask(band.logits) for band in bands(plan, Observers(plan, on_progress))])
    return mask, time.monotonic() - began


def _encoded(stem: Path, geometry: Geometry, mask: NDArray[np.uint8], classes: Sequence[ClassSection]) -> tuple[str, str]:
    """Media type, and the file as base64."""
    mask_format: MaskFormat = "png" if len(geometry.shape) == 2 else "nifti"
    path = stem.with_suffix(suffix_of(mask_format))
    with open_writer(path, geometry, format=mask_format, classes=classes) as writer:
        writer.write(0, mask)
    return media_type_of(path.name), base64.b64encode(path.read_bytes()).decode()
