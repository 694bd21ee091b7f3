"""Many files through one bundle: each input's mask lands in one folder, under the input's stem."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imaging.errors import DataError
from imaging.open import open_image
from imaging.source import MaskFormat
from imaging.writers import open_writer, suffix_of
from inference.predictor import Predictor
from inference.segment import Segmentation, segment

DOUBLE_SUFFIXES = (".nii.gz", ".ome.tiff", ".ome.tif")


@dataclass(frozen=True)
class Outcome:
    """What became of one input: a mask, or the error that kept it from one."""

    image: Path
    mask: Path | None
    result: Segmentation | DataError


def find_images(inputs: Sequence[Path]) -> tuple[Path, ...]:
    """The inputs themselves, and what lies directly in the folders among them, hidden files left out.

    Raises:
        DataError: nothing there, or two inputs whose masks would have one name.
    """
    images: list[Path] = []
    for path in inputs:
        images += sorted(file for file in path.iterdir() if file.is_file() and file.name[0] != ".") if path.is_dir() else [path]
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
    mask_format: MaskFormat | None,
    on_progress: Callable[[Path, int, int], None],
) -> Iterator[Outcome]:
    """Segments one image after the other; one that can't be read doesn't keep the others from it.

    Args:
        images: files.
        predictor: of a bundle.
        out: a folder, made where it is missing.
        mask_format: of all masks; None: each image's natural one.
        on_progress: called with the image, its tiles done and its tiles in all.
    """
    out.mkdir(parents=True, exist_ok=True)
    for image in images:
        try:
            yield _one(image, predictor, out, mask_format, on_progress)
        except DataError as error:
            yield Outcome(image, None, error)


def stem_of(path: Path) -> str:
    """The file's name without its suffix, a double one such as .nii.gz taken as one."""
    for suffix in DOUBLE_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def _one(
    image: Path,
    predictor: Predictor,
    out: Path,
    mask_format: MaskFormat | None,
    on_progress: Callable[[Path, int, int], None],
) -> Outcome:
    with open_image(image) as source:
        chosen = mask_format or source.mask_format
        mask = out / f"{stem_of(image)}{suffix_of(chosen)}"
        if mask.resolve() == image.resolve():
            raise DataError("out_is_input", f"the mask would replace the image; choose another folder than {out}")
        colours = [section.colour for section in predictor.config.data.classes]
        with open_writer(mask, source.geometry, format=chosen, colours=colours) as writer:
            result = segment(source, predictor, writer, lambda done, total: on_progress(image, done, total))
    return Outcome(image, mask, result)
