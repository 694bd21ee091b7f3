"""Segmentation of many files. The outputs of each are written into one folder, named by the input's stem."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from datasets.channels import ImageInput, open_input
from imaging.errors import DataError
from imaging.source import ImageSource
from inference.confidence import ForegroundConfidence
from inference.estimate import Estimate, check_disk, estimate, with_seconds
from inference.image_label import label_classes, label_table
from inference.outputs.files import check_request
from inference.outputs.image_files import image_files
from inference.outputs.measure import FinishedImage, measure
from inference.plan import AnyPredictor, ImagePlan, plan_image
from inference.predictors.ensemble import predictors_of
from inference.regions.regions_of_interest import regions_of
from inference.regions.tissue import find_tissue
from inference.request import ImagePart, OutputRequest
from inference.resume import UnfinishedOutputs, work_key
from inference.segment import Segmentation, segment

LABELS = "labels.csv"  # name of the table of image labels


class Opener(Protocol):
    """Type of functions that open an image, such as `open_input` or one with further guards."""

    def __call__(
        self, image: ImageInput, *, spacing_um: tuple[float, ...] | None, dimensions: int | None, axes: str | None
    ) -> ImageSource:
        """Open an image; see `open_image` for the errors that it raises."""
        ...


@dataclass(frozen=True)
class Step:
    """Step of the work on one image, whose progress is reported: the network's pass (no name), or "objects"."""

    image: ImageInput
    name: str = ""

    def __str__(self) -> str:
        return f"{self.image}: {self.name}" if self.name else str(self.image)


@dataclass(frozen=True)
class Outcome:
    """Outcome for one input: its files, the mask first, with facts about them; or an error and no files; or an estimate."""

    image: ImageInput
    files: tuple[Path, ...]
    result: Segmentation | DataError | Estimate


def predict(
    images: Sequence[ImageInput],
    predictor: AnyPredictor,
    out: Path,
    request: OutputRequest,
    on_progress: Callable[[Step, int, int], None],
    open_source: Opener = open_input,
) -> Iterator[Outcome]:
    """Segment one image after the other; unreadable images are reported and skipped.

    If the bundle predicts labels of whole images, `labels.csv` in `out` gets a line for each image. If the process is killed,
    the same call resumes the image that it was segmenting.

    Args:
        images: images, as `find_inputs` gives them.
        predictor: predictor of a bundle, or of several.
        out: folder for the outputs; created if it is missing.
        request: outputs that are written for each image.
        on_progress: called with the step of an image, the number of finished tiles, or rows in which objects are looked for,
            and the number of all.
        open_source: opens an image.

    Raises:
        BundleError: probabilities, uncertainty, tissue, regions or objects are requested of a bundle that gives values.
    """
    check_request(predictor, request)
    out.mkdir(parents=True, exist_ok=True)
    with label_table(out / LABELS, label_classes(predictor)) as add_label:
        for image in images:
            try:
                with ExitStack() as stack:
                    source = stack.enter_context(_open(image, predictor, request, open_source))
                    outcome = _segment_one(image, source, predictor, out, request, on_progress)
            except DataError as error:
                outcome = Outcome(image, (), error)
            if isinstance(outcome.result, Segmentation) and outcome.result.label:
                add_label(image.paths[0].name, outcome.result.label)
            yield outcome


def estimates(images: Sequence[ImageInput], predictor: AnyPredictor, out: Path, request: OutputRequest) -> Iterator[Outcome]:
    """Yield the memory, disk space and time that `predict` would take for each image, without writing anything.

    The arguments are those of `predict`.

    Raises:
        BundleError: probabilities, uncertainty, tissue, regions or objects are requested of a bundle that gives values.
    """
    check_request(predictor, request)
    for image in images:
        try:
            with _open(image, predictor, request) as source:
                files = image_files(out, image.stem, source, predictor, request)
                plan = _plan(source, predictor, out, request)
                estimated = with_seconds(estimate(plan, files.pixel_bytes), plan)
                yield Outcome(image, files.paths, estimated)
        except DataError as error:
            yield Outcome(image, (), error)


def _open(image: ImageInput, predictor: AnyPredictor, request: OutputRequest, open_source: Opener = open_input) -> ImageSource:
    """Open an image with the spacing and axes of its table or of the request, for the dimensions of the network."""
    dimensions = predictors_of(predictor)[0].config.data.dimensions
    return open_source(
        image,
        spacing_um=image.spacing_um or request.spacing_um,
        dimensions=dimensions,
        axes=image.axes or request.axes,
    )


def _segment_one(
    image: ImageInput,
    source: ImageSource,
    predictor: AnyPredictor,
    out: Path,
    request: OutputRequest,
    on_progress: Callable[[Step, int, int], None],
) -> Outcome:
    """Write the outputs of one open image, resuming them if an earlier process was killed."""
    files = image_files(out, image.stem, source, predictor, request)
    if {path.resolve() for path in image.paths} & {path.resolve() for path in files.paths}:
        raise DataError("out_is_input", f"the mask would replace the image; choose another folder than {out}")
    plan = _plan(source, predictor, out, request)
    check_disk(estimate(plan, files.pixel_bytes), out)
    with ExitStack() as stack:
        unfinished, confidence = None, ForegroundConfidence(predictor.head, source.shape)
        if not label_classes(predictor):  # the label of a whole image needs all of it at once
            key = work_key(image.paths, predictors_of(predictor), request.journal_text)
            folder = out / f".{image.stem}.unfinished"
            unfinished = stack.enter_context(UnfinishedOutputs(folder, key, plan.tile_sizes))
            plan = plan.resumed(unfinished.rows, unfinished.tile_sizes)
            confidence.counts = unfinished.journal.confidence
        rows = files.open(stack, unfinished.rows_file if unfinished else lambda _: None)
        writers = rows.observed(partial(unfinished.record, confidence=confidence) if unfinished else None)
        result = segment(plan, writers, partial(on_progress, Step(image)), confidence=confidence)
        finished = FinishedImage(plan, image.name, files, rows, unfinished.folder if unfinished else out)
        result = measure(finished, result, partial(on_progress, Step(image, "objects")))
    return Outcome(image, files.paths, result)


def _plan(source: ImageSource, predictor: AnyPredictor, out: Path, request: OutputRequest) -> ImagePlan:
    """Return the plan of an image and of the part of it that is requested."""
    part = ImagePart(
        tissue=find_tissue(source) if request.tissue else None,
        regions=regions_of(request.regions, source.shape) if request.regions else None,
    )
    return plan_image(source, predictor, part, scratch_folder=out)
