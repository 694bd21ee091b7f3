"""Many files through one bundle: each input's mask lands in one folder, under the input's stem."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imaging.errors import DataError
from imaging.open import is_image_folder, open_image, stem_of
from imaging.source import MaskFormat
from imaging.writers import ProbabilityType, open_probability_writer, open_writer, probability_formats, suffix_of
from inference.predictor import Predictor
from inference.segment import Progress, Segmentation, segment


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
        mask_format: of all masks; None: each image's natural one.
        probabilities: as what type the classes' probabilities are written beside the masks; None: they aren't.
        spacing_um: the user's word for the distance between pixels, in S order or one for all axes; None takes the files'.
    """

    mask_format: MaskFormat | None = None
    probabilities: ProbabilityType | None = None
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
    predictor: Predictor,
    out: Path,
    wishes: Wishes,
    on_progress: Callable[[Path, int, int], None],
) -> Iterator[Outcome]:
    """Segments one image after the other; one that can't be read doesn't keep the others from it.

    Args:
        images: files.
        predictor: of a bundle.
        out: a folder, made where it is missing.
        wishes: what is wanted of each.
        on_progress: called with the image, its tiles done and its tiles in all.
    """
    out.mkdir(parents=True, exist_ok=True)
    for image in images:
        try:
            yield _one(image, predictor, out, wishes, partial(on_progress, image))
        except DataError as error:
            yield Outcome(image, (), error)


def _images_in(folder: Path) -> list[Path]:
    visible = (path for path in folder.iterdir() if path.name[0] != ".")
    return sorted(path for path in visible if path.is_file() or is_image_folder(path))


def _one(image: Path, predictor: Predictor, out: Path, wishes: Wishes, on_progress: Progress) -> Outcome:
    classes = predictor.config.data.classes
    with ExitStack() as stack:
        source = stack.enter_context(open_image(image, spacing_um=wishes.spacing_um))
        mask_format = wishes.mask_format or source.mask_format
        files = [out / f"{stem_of(image)}{suffix_of(mask_format)}"]
        probabilities = None
        if wishes.probabilities is not None:
            suiting = probability_formats(source.geometry, wishes.probabilities)
            chosen = mask_format if mask_format in suiting else suiting[0]
            files.append(out / f"{stem_of(image)}_probabilities{suffix_of(chosen)}")
            opened = open_probability_writer(
                files[1], source.geometry, format=chosen, classes=classes, dtype=wishes.probabilities
            )
            probabilities = stack.enter_context(opened)
        if image.resolve() in [file.resolve() for file in files]:
            raise DataError("out_is_input", f"the mask would replace the image; choose another folder than {out}")
        writer = stack.enter_context(open_writer(files[0], source.geometry, format=mask_format, classes=classes))
        result = segment(source, predictor, writer, on_progress, probabilities=probabilities)
    return Outcome(image, tuple(files), result)
