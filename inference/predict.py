"""Many files through one bundle or several: each input's mask or values land in one folder, under the input's stem."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from imaging.errors import DataError
from imaging.open import is_image_folder, open_image, stem_of
from imaging.source import ImageSource
from imaging.writing.band_writer import BandWriter
from inference.compatibility import as_trained
from inference.estimate import Estimate, check_disk, check_memory, estimate, timed
from inference.image_label import label_classes, label_table
from inference.outputs import Wishes, check_wishes, outputs_of
from inference.predictors.ensemble import predictors_of
from inference.regions.regions_of_interest import regions_of
from inference.regions.tissue import find_tissue
from inference.request import Part, Writers
from inference.resume import Unfinished, key_of
from inference.segment import AnyPredictor, Progress, Segmentation, segment

LABELS = "labels.csv"  # beside the masks


class Opener(Protocol):
    """As `open_image`, whose guards are its own."""

    def __call__(self, path: Path, *, spacing_um: tuple[float, ...] | None) -> ImageSource:
        """The open image; see `open_image` for what it raises."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What became of one input: its files, the mask first, or the error that kept it from them; or what it would take."""

    image: Path
    files: tuple[Path, ...]
    result: Segmentation | DataError | Estimate


def find_images(inputs: Sequence[Path]) -> tuple[Path, ...]:
    """The inputs themselves, and what lies directly in the folders among them, hidden files left out.

    A folder that is an image itself (a DICOM series, an OME-Zarr) is one.

    Raises:
        DataError: nothing there, or two inputs whose masks would have one name.
    """
    images: list[Path] = []
    for path in inputs:
        images += _images_in(path) if path.is_dir() and not is_image_folder(path) else [path]
    if not images:
        raise DataError("no_inputs", "the folders given are empty; give images, slides, volumes or folders of them")
    stems: dict[str, Path] = {}
    for image in images:
        other = stems.setdefault(stem_of(image), image)
        if other is not image:
            raise DataError("same_stem", f"{other} and {image} would have masks of one name; rename one or predict them apart")
    return tuple(images)


def predict(
    images: Sequence[Path],
    predictor: AnyPredictor,
    out: Path,
    wishes: Wishes,
    on_progress: Callable[[Path, int, int], None],
    opened: Opener = open_image,
) -> Iterator[Outcome]:
    """Segments one image after the other; one that can't be read doesn't keep the others from it.

    Where the bundle says labels of whole images, `labels.csv` in `out` gets a line an image. What was killed goes on where it
    was, when the same is wanted again.

    Args:
        images: files.
        predictor: of a bundle, or of several.
        out: a folder, made where it is missing.
        wishes: what is wanted of each.
        on_progress: called with the image, its tiles done and its tiles in all.
        opened: an image's path, and the user's word for its spacing -> its source.

    Raises:
        BundleError: probabilities or uncertainty are wanted of a bundle that gives values.
    """
    check_wishes(predictor, wishes)
    out.mkdir(parents=True, exist_ok=True)
    with label_table(out / LABELS, label_classes(predictor)) as note:
        for image in images:
            try:
                outcome = _one(image, opened, predictor, out, wishes, partial(on_progress, image))
            except DataError as error:
                outcome = Outcome(image, (), error)
            if isinstance(outcome.result, Segmentation) and outcome.result.label:
                note(image.name, outcome.result.label)
            yield outcome


def estimates(images: Sequence[Path], predictor: AnyPredictor, out: Path, wishes: Wishes) -> Iterator[Outcome]:
    """What each image would take, as `predict` would go about it; nothing is written. The arguments are `predict`'s.

    Raises:
        BundleError: probabilities, uncertainty or tissue are wanted of a bundle that gives values.
    """
    check_wishes(predictor, wishes)
    for image in images:
        try:
            with open_image(image, spacing_um=wishes.spacing_um) as source:
                outputs = outputs_of(source, predictor, wishes)
                taken = estimate(source, predictor, sum(each.pixel_bytes for each in outputs), _part(source, wishes, out))
                check_memory(source, predictor)
                yield Outcome(image, tuple(out / f"{stem_of(image)}{each.ending}" for each in outputs), timed(taken, predictor))
        except DataError as error:
            yield Outcome(image, (), error)


def _images_in(folder: Path) -> list[Path]:
    visible = (path for path in folder.iterdir() if path.name[0] != ".")
    return sorted(path for path in visible if path.is_file() or is_image_folder(path))


def _one(image: Path, opened: Opener, predictor: AnyPredictor, out: Path, wishes: Wishes, on_progress: Progress) -> Outcome:
    with ExitStack() as stack:
        source = stack.enter_context(opened(image, spacing_um=wishes.spacing_um))
        outputs = outputs_of(source, predictor, wishes)
        files = [out / f"{stem_of(image)}{each.ending}" for each in outputs]
        if image.resolve() in [file.resolve() for file in files]:
            raise DataError("out_is_input", f"the mask would replace the image; choose another folder than {out}")
        check_disk(estimate(source, predictor, sum(each.pixel_bytes for each in outputs)), out)
        part, on_rows = _part(source, wishes, out), None
        unfinished = _unfinished(image, source, predictor, out, wishes)
        if unfinished:
            stack.enter_context(unfinished)
            part = replace(part, first_row=unfinished.rows)
        writers: dict[str, list[BandWriter]] = {each.kind: [] for each in outputs}
        for each, file in zip(reversed(outputs), reversed(files), strict=True):  # the mask's is left first
            kept = unfinished.kept(each.ending) if unfinished else None
            writers[each.kind].append(stack.enter_context(each.open(file, kept)))
        if unfinished:
            on_rows = partial(unfinished.note, writers=[writer for several in writers.values() for writer in several])
        result = segment(source, predictor, Writers(**writers, on_rows=on_rows), on_progress, part)
    return Outcome(image, tuple(files), result)


def _part(source: ImageSource, wishes: Wishes, out: Path) -> Part:
    """What is looked at of an image of which nothing is there yet."""
    tissue = find_tissue(source) if wishes.tissue else None
    return Part(tissue=tissue, regions=regions_of(wishes.regions, source.shape) if wishes.regions else None, scratch=out)


def _unfinished(image: Path, source: ImageSource, predictor: AnyPredictor, out: Path, wishes: Wishes) -> Unfinished | None:
    """What there is of it; None where a label of the whole image is gathered, which needs all of it at once."""
    if label_classes(predictor):
        return None
    members = predictors_of(predictor)
    shapes = [as_trained(source, member.config.data).shape for member in members]
    return Unfinished(out / f".{stem_of(image)}.unfinished", key_of(image, members, wishes), members, shapes)
