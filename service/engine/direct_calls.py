"""Direct calls: small images whose client waits for one mask, or for the comparison of two models."""

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from configs.sections import ClassSection
from imaging.guards import UPLOAD, Guards
from imaging.open import open_image
from imaging.source import Geometry, ImageSource, MaskFormat
from imaging.writing.band_writer import open_writer
from imaging.writing.formats import suffix_of
from inference.compatibility import check_suitable
from inference.plan import plan_image
from inference.request import Writers
from inference.segment import Observers, bands, segment
from service.engine.loaded_models import LoadedModel
from service.engine.mask_comparison import MaskComparison
from service.engine.protocol import Message, TileProgress
from service.schemas import CompareAnswer, ComparedModelAnswer, media_type_of

DISAGREEMENT = (ClassSection(name="equal", colour="#000000"), ClassSection(name="different", colour="#ffffff"))


@dataclass(frozen=True)
class SmallImage:
    """Image that came with a direct call.

    Args:
        path: the file.
        spacing_um: spacing that the client gives, for an image that has none.
        axes: letters of a TIFF's axes that the client gives.
    """

    path: Path
    spacing_um: tuple[float, ...] | None
    axes: str | None

    def open(self, model: LoadedModel, guards: Guards = UPLOAD) -> ImageSource:
        """Open the image for the dimensions of a model; see `open_image` for the errors that it raises."""
        dimensions = model.predictor.config.data.dimensions
        return open_image(self.path, guards=guards, spacing_um=self.spacing_um, dimensions=dimensions, axes=self.axes)


def segment_small(image: SmallImage, model: LoadedModel, mask_format: MaskFormat | None, on_progress: TileProgress) -> Message:
    """Write an image's mask into the folder of the image; return its path, its media type and the answer's headers.

    Args:
        image: the image.
        model: the model.
        mask_format: format of the mask; None: the image's own.
        on_progress: called with the tiles.

    Raises:
        DataError: the image can't be read, or doesn't suit the model or the format.
        Cancelled: the client no longer waits.
    """
    with image.open(model) as source:
        file_format = mask_format or source.mask_format
        mask = image.path.with_name(f"mask{suffix_of(file_format)}")
        with open_writer(mask, source.geometry, format=file_format, classes=model.manifest.classes) as writer:
            segmentation = segment(plan_image(source, model.predictor), Writers([writer]), on_progress)
    headers = {
        "X-Overtile-Seconds": f"{segmentation.seconds:.3f}",
        "X-Overtile-Warnings": ",".join(segmentation.warnings),
    }
    if segmentation.label:
        headers["X-Overtile-Label"] = quote(segmentation.label.name, safe="")
    return {"file": str(mask), "media_type": media_type_of(mask.name), "headers": headers}


def compare_small(image: SmallImage, models: Sequence[LoadedModel], max_pixels: int, on_progress: TileProgress) -> Message:
    """Return the content of a `CompareAnswer`: two models' masks of one image, PNG in 2D and NIfTI in 3D, and their agreement.

    Raises:
        DataError: the image can't be read, has more than `max_pixels`, or doesn't suit the models.
        Cancelled: the client no longer waits.
    """
    masks, seconds = [], []
    path = image.path
    with image.open(models[0], replace(UPLOAD, max_pixels=max_pixels)) as source:
        for model in models:
            check_suitable(source, model.predictor.config)
        for model in models:
            start_s = time.monotonic()
            plan, head = plan_image(source, model.predictor), model.predictor.head
            masks.append(np.concatenate([head.mask(band.logits) for band in bands(plan, Observers(plan, on_progress))]))
            seconds.append(time.monotonic() - start_s)
        geometry = source.geometry
    comparison = MaskComparison([section.name for section in models[0].manifest.classes])
    different = comparison.add(masks[0], masks[1])
    media_type, disagreement = _encoded(path.with_name("disagreement"), geometry, different, DISAGREEMENT)
    parts = [
        ComparedModelAnswer(
            name=model.manifest.name,
            method=model.manifest.method,
            seconds=model_seconds,
            class_shares=shares,
            mask=_encoded(path.with_name("mask"), geometry, mask, model.manifest.classes)[1],
            media_type=media_type,
        )
        for model, mask, model_seconds, shares in zip(models, masks, seconds, comparison.shares, strict=True)
    ]
    answer = CompareAnswer(
        models=parts,
        agreement=comparison.agreement,
        dice=comparison.dice,
        disagreement=disagreement,
        media_type=media_type,
    )
    return answer.model_dump()


def _encoded(stem: Path, geometry: Geometry, mask: NDArray[np.uint8], classes: Sequence[ClassSection]) -> tuple[str, str]:
    """Return the media type of a mask's file, and the file in base64."""
    mask_format: MaskFormat = "png" if len(geometry.shape) == 2 else "nifti"
    path = stem.with_suffix(suffix_of(mask_format))
    with open_writer(path, geometry, format=mask_format, classes=classes) as writer:
        writer.write(0, mask)
    return media_type_of(path.name), base64.b64encode(path.read_bytes()).decode()
