"""Many files through one bundle or several: each input's mask or values land in one folder, under the input's stem."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from configs.sections import ClassSection
from imaging.errors import DataError
from imaging.open import is_image_folder, open_image, stem_of
from imaging.source import Geometry, ImageSource, MaskFormat
from imaging.writers import (
    MaskWriter,
    ProbabilityType,
    ProbabilityWriter,
    ValueWriter,
    open_probability_writer,
    open_value_writer,
    open_writer,
    probability_formats,
    suffix_of,
    value_formats,
)
from inference.image_label import label_classes, label_table
from inference.segment import AnyPredictor, Progress, Segmentation, segment
from models.errors import BundleError

LABELS = "labels.csv"  # beside the masks
UNCERTAINTY = ClassSection(name="uncertainty", colour="#ffffff")

Writer = TypeVar("Writer", covariant=True)


@dataclass(frozen=True)
class Outcome:
    """What became of one input: its files, the mask first, or the error that kept it from them."""

    image: Path
    files: tuple[Path, ...]
    result: Segmentation | DataError


@dataclass(frozen=True)
class Wishes:
    """What is wanted of each image.

    Args:
        mask_format: of all masks or maps of values; None: each image's natural one.
        probabilities: as what type the classes' probabilities are written beside the masks; None: they aren't.
        uncertainty: whether how little is known of each pixel is written beside the masks, 0 .. 1.
        spacing_um: the user's word for the distance between pixels, in S order or one for all axes; None takes the files'.
    """

    mask_format: MaskFormat | None = None
    probabilities: ProbabilityType | None = None
    uncertainty: bool = False
    spacing_um: tuple[float, ...] | None = None


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
) -> Iterator[Outcome]:
    """Segments one image after the other; one that can't be read doesn't keep the others from it.

    Where the bundle says labels of whole images, `labels.csv` in `out` gets a line an image.

    Args:
        images: files.
        predictor: of a bundle, or of several.
        out: a folder, made where it is missing.
        wishes: what is wanted of each.
        on_progress: called with the image, its tiles done and its tiles in all.

    Raises:
        BundleError: probabilities or uncertainty are wanted of a bundle that gives values.
    """
    for wish, name in ((wishes.probabilities, "probabilities"), (wishes.uncertainty, "uncertainty")):
        if wish and predictor.head.gives_values:
            raise BundleError(f"the bundle gives values and no probabilities of classes; leave --{name} out")
    out.mkdir(parents=True, exist_ok=True)
    with label_table(out / LABELS, label_classes(predictor)) as note:
        for image in images:
            try:
                outcome = _one(image, predictor, out, wishes, partial(on_progress, image))
            except DataError as error:
                outcome = Outcome(image, (), error)
            if isinstance(outcome.result, Segmentation) and outcome.result.label:
                note(image.name, outcome.result.label)
            yield outcome


def _images_in(folder: Path) -> list[Path]:
    visible = (path for path in folder.iterdir() if path.name[0] != ".")
    return sorted(path for path in visible if path.is_file() or is_image_folder(path))


def _one(image: Path, predictor: AnyPredictor, out: Path, wishes: Wishes, on_progress: Progress) -> Outcome:
    with ExitStack() as stack:
        source = stack.enter_context(open_image(image, spacing_um=wishes.spacing_um))
        made = _values(source.geometry, predictor, wishes) if predictor.head.gives_values else _mask(source, predictor, wishes)
        probabilities = _probabilities(source.geometry, made, predictor, wishes)
        uncertainty = _uncertainty(source.geometry, made) if wishes.uncertainty else None
        wanted = [each for each in (made, probabilities, uncertainty) if each]
        files = {each.ending: out / f"{stem_of(image)}{each.ending}" for each in wanted}
        if image.resolve() in [file.resolve() for file in files.values()]:
            raise DataError("out_is_input", f"the mask would replace the image; choose another folder than {out}")
        unsure = stack.enter_context(uncertainty.open(files[uncertainty.ending])) if uncertainty else None
        beside = stack.enter_context(probabilities.open(files[probabilities.ending])) if probabilities else None
        writer = made.open(files[made.ending])
        stack.enter_context(writer)
        result = segment(source, predictor, writer, on_progress, probabilities=beside, uncertainty=unsure)
    return Outcome(image, tuple(files.values()), result)


@dataclass(frozen=True)
class _Made(Generic[Writer]):
    """A file that an image gets: its format, how its name goes on after the image's stem, and what opens its writer."""

    format: MaskFormat
    ending: str
    open: Callable[[Path], Writer]


def _mask(source: ImageSource, predictor: AnyPredictor, wishes: Wishes) -> _Made[MaskWriter | ValueWriter]:
    chosen = wishes.mask_format or source.mask_format
    opener = partial(open_writer, geometry=source.geometry, format=chosen, classes=predictor.config.data.classes)
    return _Made(chosen, suffix_of(chosen), opener)


def _values(geometry: Geometry, predictor: AnyPredictor, wishes: Wishes) -> _Made[MaskWriter | ValueWriter]:
    """NIfTI for volumes, TIFF for the rest, where nothing is asked for."""
    chosen = wishes.mask_format or value_formats(geometry)[-1]
    opener = partial(open_value_writer, geometry=geometry, format=chosen, quantity=predictor.config.data.classes[0])
    return _Made(chosen, suffix_of(chosen), opener)


def _probabilities(
    geometry: Geometry, mask: _Made[MaskWriter | ValueWriter], predictor: AnyPredictor, wishes: Wishes
) -> _Made[ProbabilityWriter] | None:
    """As the mask's format, where that holds them."""
    if wishes.probabilities is None:
        return None
    suiting = probability_formats(geometry, wishes.probabilities)
    chosen = mask.format if mask.format in suiting else suiting[0]
    opener = partial(
        open_probability_writer,
        geometry=geometry,
        format=chosen,
        classes=predictor.config.data.classes,
        dtype=wishes.probabilities,
    )
    return _Made(chosen, f"_probabilities{suffix_of(chosen)}", opener)


def _uncertainty(geometry: Geometry, mask: _Made[MaskWriter | ValueWriter]) -> _Made[ValueWriter]:
    """As the mask's format, where that holds values."""
    suiting = value_formats(geometry)
    chosen = mask.format if mask.format in suiting else suiting[-1]
    opener = partial(open_value_writer, geometry=geometry, format=chosen, quantity=UNCERTAINTY)
    return _Made(chosen, f"_uncertainty{suffix_of(chosen)}", opener)
