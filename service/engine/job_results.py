"""Results of a job: files of any size become masks in a folder; after a kill, another process resumes the work."""

import json
import math
import os
import shutil
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from datasets.channels import ImageInput, open_input
from disk.digest import sha256_of_file
from disk.publish import publish, sync
from imaging.errors import DataError, UnsuitableImage
from imaging.guards import UPLOAD
from imaging.open import is_image_file, is_image_folder, open_image
from imaging.source import ImageSource
from imaging.writing.band_writer import open_writer
from imaging.writing.formats import suffix_of
from inference.compatibility import check_suitable
from inference.outputs.image_files import finds_objects
from inference.plan import AnyPredictor
from inference.predict import Step, predict
from inference.predictors.ensemble import Ensemble
from inference.request import OutputRequest
from inference.segment import Segmentation
from service.engine.comparison_report import ComparedMasks, render_report
from service.engine.direct_calls import DISAGREEMENT
from service.engine.loaded_models import LoadedModel
from service.engine.mask_comparison import MaskComparison
from service.engine.protocol import Message, TileProgress
from service.schemas import JobOptions, media_type_of

MASK = "mask"  # stem of the files of a job with one mask
REPORT = "report.html"  # of a job that compares two models
RESULTS = "results.json"  # written last: the results are complete if it exists
BAND_PIXELS = 2**24  # of the two masks that are compared at a time


@dataclass(frozen=True)
class PredictorOutputs:
    """Files of one predictor, the mask first, with the warnings about the image."""

    files: tuple[Path, ...]
    warnings: tuple[str, ...]
    seconds: float


def check_inputs(inputs: Path, models: Sequence[LoadedModel], options: JobOptions) -> Message:
    """Return the shape of a job's image and the warnings about it, after checking that it suits the models.

    Raises:
        DataError: the image can't be read, or doesn't suit a model.
    """
    dimensions = models[0].predictor.config.data.dimensions
    image = ImageInput((_image_of(inputs),), MASK)
    with open_inputs(image, spacing_um=_spacing_um(options), dimensions=dimensions, axes=options.axes) as source:
        for model in models:
            check_suitable(source, model.predictor.config)
        return {"shape": list(source.shape), "warnings": list(source.warnings)}


def run_job(folder: Path, models: Sequence[LoadedModel], request: Message, on_progress: TileProgress) -> Message:
    """Write the results of a job, unless they exist, and return the content of results.json.

    Args:
        folder: folder of the job, with its files in `inputs/`.
        models: models of the job, in the order of the request.
        request: `formats` and `options`, as the client sent them.
        on_progress: called with the tiles.

    Raises:
        DataError: the image can't be read, or doesn't suit the models or formats.
    """
    results, work, inputs = folder / "results", folder / "work", folder / "inputs"
    if (results / RESULTS).is_file():
        return dict(json.loads((results / RESULTS).read_text()))
    work.mkdir(exist_ok=True)
    options = JobOptions.model_validate(request["options"])
    output_request = OutputRequest(
        mask_formats=tuple(request["formats"]),
        probabilities=options.probabilities,
        uncertainty=options.uncertainty,
        disagreement=options.disagreement and options.as_ensemble,
        spacing_um=_spacing_um(options),
        tissue=options.tissue,
        axes=options.axes,
        objects=options.objects,
        outlines=options.outlines,
        object_type=options.object_type,
    )
    image = ImageInput((_image_of(inputs),), MASK, has_name=False)
    predictors = _predictors(models, options)
    outputs = []
    for number, (stem, predictor) in enumerate(predictors):
        progress = StepProgress(
            _progress_of_part(on_progress, number, len(predictors)), has_objects=finds_objects(predictor, output_request)
        )
        outputs.append(_segment(replace(image, stem=stem), work / stem, predictor, output_request, progress))
    files = [path for each in outputs for path in each.files]
    if options.kind == "compare":
        files += _compare_masks(work, models, [each.files[0] for each in outputs], inputs, options)
    warnings = dict.fromkeys(warning for each in outputs for warning in each.warnings)
    summary = {"warnings": list(warnings), "seconds": sum(each.seconds for each in outputs)}
    answer = _publish_results(results, files, summary)
    shutil.rmtree(work, ignore_errors=True)
    return answer


def open_inputs(
    image: ImageInput,
    *,
    spacing_um: tuple[float, ...] | None = None,
    dimensions: int | None = None,
    axes: str | None = None,
) -> ImageSource:
    """Open a file, a folder with a DICOM series, or a folder with one file for each channel; each file in its own process.

    Files of a folder that are no images are skipped, with the remark `files_skipped`.
    """
    path = image.paths[0].resolve()
    files: tuple[Path, ...] = (path,)
    has_others = False
    if path.is_dir() and not is_image_folder(path):
        uploads = sorted(path.iterdir(), key=lambda each: int(each.name))
        files = tuple(filter(is_image_file, uploads)) or tuple(uploads)
        has_others = len(files) < len(uploads)
    source = open_input(replace(image, paths=files), guards=UPLOAD, spacing_um=spacing_um, dimensions=dimensions, axes=axes)
    if has_others:
        source.file_warnings += ("files_skipped",)
    return source


def _spacing_um(options: JobOptions) -> tuple[float, ...] | None:
    return tuple(options.spacing_um) if options.spacing_um else None


def _predictors(models: Sequence[LoadedModel], options: JobOptions) -> list[tuple[str, AnyPredictor]]:
    """Return the predictors that segment the image one after the other, each with the stem of its files' names."""
    if len(models) == 1:
        return [(MASK, models[0].predictor)]
    if options.as_ensemble:
        return [(MASK, Ensemble(tuple(model.predictor for model in models), options.disagreement))]
    return [(model.manifest.name, model.predictor) for model in models]


def _progress_of_part(on_progress: TileProgress, number: int, parts: int) -> TileProgress:
    """Return the progress of one of several parts, as if all had the same number of tiles."""
    return lambda done, total: on_progress(number * total + done, parts * total)


class StepProgress:
    """Progress of a part of a job in tiles; looking for objects counts as a tenth of the tiles.

    Args:
        on_progress: called with the number of finished tiles, and of all tiles.
        has_objects: objects are looked for.
    """

    def __init__(self, on_progress: TileProgress, *, has_objects: bool) -> None:
        self._on_progress = on_progress
        self._has_objects = has_objects
        self._tiles = 1

    def report(self, step: Step, done: int, total: int) -> None:
        """Report the progress of a step."""
        if not step.name:
            self._tiles = total
        object_tiles = -(-self._tiles // 10) if self._has_objects else 0
        finished = self._tiles + object_tiles * done // total if step.name else done
        self._on_progress(finished, self._tiles + object_tiles)


def _segment(
    image: ImageInput, out: Path, predictor: AnyPredictor, request: OutputRequest, progress: StepProgress
) -> PredictorOutputs:
    """Return the outputs of one predictor in the folder `out`; a process that was killed may have written them."""
    record = out / "done.json"
    if not record.is_file():
        (outcome,) = predict([image], predictor, out, request, progress.report, open_inputs)
        if isinstance(outcome.result, DataError):
            raise outcome.result
        if not isinstance(outcome.result, Segmentation):
            raise RuntimeError("the image was estimated instead of segmented")
        files = [_one_file(path).name for path in outcome.files]
        if outcome.result.label:
            files.append("labels.csv")
        content = {"files": files, "warnings": list(outcome.result.warnings), "seconds": outcome.result.seconds}
        publish(record, lambda part: part.write_text(json.dumps(content)))
    content = json.loads(record.read_text())
    return PredictorOutputs(tuple(out / name for name in content["files"]), tuple(content["warnings"]), content["seconds"])


def _image_of(inputs: Path) -> Path:
    """Return the only file of a folder, or the folder if there are several."""
    files = sorted(inputs.iterdir())
    return files[0] if len(files) == 1 else inputs


def _one_file(path: Path) -> Path:
    """Return a file as it is; replace a folder by a zip file, whose bytes depend on the content alone."""
    if not path.is_dir():
        return path
    archive_path = path.with_name(f"{path.name}.zip")

    def pack(part: Path) -> None:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(each for each in path.rglob("*") if each.is_file()):
                archive.write(file, f"{path.name}/{file.relative_to(path)}")

    publish(archive_path, pack)
    shutil.rmtree(path)
    return archive_path


def _compare_masks(
    work: Path, models: Sequence[LoadedModel], masks: Sequence[Path], inputs: Path, options: JobOptions
) -> list[Path]:
    """Write comparison.json, a page, and the mask of the pixels where two models differ, band by band; return their paths."""
    comparison = MaskComparison([section.name for section in models[0].manifest.classes])
    with ExitStack() as stack:
        first, second = (stack.enter_context(open_image(path, labels=True)) for path in masks)
        if first.shape != second.shape:
            message = "the two masks have different sizes; choose formats that keep the image's grid"
            raise UnsuitableImage("comparison_not_possible", message)
        image, dimensions = ImageInput((_image_of(inputs),), MASK), models[0].predictor.config.data.dimensions
        source = stack.enter_context(
            open_inputs(image, spacing_um=_spacing_um(options), dimensions=dimensions, axes=options.axes)
        )
        geometry, mask_format = source.geometry, source.mask_format
        out = work / f"disagreement{suffix_of(mask_format)}"
        rows, rest = first.shape[0], first.shape[1:]
        height = max(1, BAND_PIXELS // math.prod(rest))
        with open_writer(out, geometry, format=mask_format, classes=DISAGREEMENT) as writer:
            for start in range(0, rows, height):
                region = (slice(start, min(start + height, rows)), *(slice(0, size) for size in rest))
                writer.write(start, comparison.add(first.read(region)[0], second.read(region)[0]))
        names = models[0].manifest.name, models[1].manifest.name
        compared = ComparedMasks(names, models[0].manifest.classes, (masks[0], masks[1]), out)
        page, numbers = work / REPORT, work / "comparison.json"
        html = render_report(compared, comparison, source)
    content = comparison.report(names)
    publish(page, lambda part: part.write_text(html, encoding="utf-8"))
    publish(numbers, lambda part: part.write_text(json.dumps(content)))
    return [numbers, _one_file(out), page]


def _publish_results(results: Path, files: Sequence[Path], summary: Message) -> Message:
    """Link the files into the folder of results, and write results.json with their sizes and digests last."""
    results.mkdir(exist_ok=True)
    sync(results.parent)
    descriptions = []
    for path in files:
        target = results / path.name
        if not target.is_file():  # otherwise linked by a process that was killed
            publish(target, partial(os.link, path))
        descriptions.append(
            {
                "name": target.name,
                "bytes": target.stat().st_size,
                "sha256": sha256_of_file(target),
                "media_type": media_type_of(target.name),
            }
        )
    answer = {"results": descriptions, **summary}
    publish(results / RESULTS, lambda part: part.write_text(json.dumps(answer)))
    return answer
