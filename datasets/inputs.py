"""Inputs: which of the files, folders and tables that a user names are images, and which files belong to one image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets.cases import read_cases
from datasets.channels import SEPARATOR, ImageInput
from datasets.discovery.layouts import is_decathlon, is_nnunet
from datasets.discovery.pairs import CHANNEL, is_image_folders
from imaging.dicom.header import read_header
from imaging.dicom.volume import find_slices
from imaging.errors import DataError
from imaging.ome_zarr.image import is_zarr
from imaging.open import header_beside, is_dicom_file, is_image_file, stem_of

_NAMES_SHOWN = 5
_MOST_FOLDERS = 5  # in front of a stem
_TABLE = "cases.csv"
_DERIVATIVES = "derivatives"  # of a BIDS data set: what was computed from its images
_MIRAX_SUFFIX = ".mrxs"  # a slide with a folder of its name beside it


@dataclass(frozen=True)
class Inputs:
    """Images among the inputs, and the files in folders that are no images."""

    images: tuple[ImageInput, ...]
    skipped: tuple[Path, ...] = ()


def skipped_text(paths: Sequence[Path]) -> str:
    """Return the first names of skipped files, and how many more there are."""
    more = f" and {len(paths) - _NAMES_SHOWN} more" if len(paths) > _NAMES_SHOWN else ""
    return ", ".join(path.name for path in paths[:_NAMES_SHOWN]) + more


def find_inputs(names: Sequence[str | Path]) -> Inputs:
    """Return the images that the names stand for.

    A name is

    - a file, or several with `;` between, which are the channels of one image;
    - a data set: a cases.csv, or a folder in a layout that `datasets/discovery/layouts.py` knows, whose cases are the images;
    - a folder: its images and those of the folders in it. Files that are no images are skipped. DICOM images side by side are
      one volume. Where all names end with a channel's number, NAME_0000, NAME_0001 .., the channels of one NAME are one image.

    Raises:
        DataError: `no_inputs`: there are no images; `same_stem`: two images' outputs would have the same name; a cases.csv
            is broken.
    """
    images: list[ImageInput] = []
    skipped: list[Path] = []
    for name in names:
        found = _inputs_of(name)
        images += found.images
        skipped += found.skipped
    if not images:
        listed = f" ({skipped_text(skipped)} are no images)" if skipped else ""
        raise DataError("no_inputs", f"the folders hold no images{listed}; give images, slides, volumes or folders of them")
    return Inputs(_distinct(images), tuple(skipped))


def _inputs_of(name: str | Path) -> Inputs:
    path = Path(name)
    if not path.exists() and SEPARATOR in str(name):
        paths = tuple(Path(part.strip()) for part in str(name).split(SEPARATOR))
        stem = stem_of(paths[0])
        match = CHANNEL.fullmatch(stem)
        return Inputs((ImageInput(paths, match["case"] if match else stem),))
    if path.name == _TABLE and path.is_file():
        return _cases(path.parent)
    if path.is_dir() and not is_zarr(path):
        is_data_set = (path / _TABLE).is_file() or is_image_folders(path) or is_nnunet(path) or is_decathlon(path)
        return _cases(path) if is_data_set else _walk(path)
    return Inputs((ImageInput((path,), stem_of(path)),))


def _cases(folder: Path) -> Inputs:
    return Inputs(
        tuple(ImageInput(case.images, Path(case.name).name, case.spacing_um, case.axes) for case in read_cases(folder))
    )


def _walk(folder: Path) -> Inputs:
    """Return the images of a folder and of the folders in it."""
    children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    files = [child for child in children if child.is_file()]
    dicom_files = [file for file in files if is_dicom_file(file)]
    pictures = [file for file in files if file not in dicom_files and is_image_file(file)]
    slices = find_slices(folder) if dicom_files else []
    images = [*_grouped_by_channel(pictures), *_grouped_by_series(folder, slices, is_alone=not pictures)]
    used = {*pictures, *slices}
    skipped = [file for file in files if file not in used and header_beside(file) not in used]
    slides = {file.stem for file in files if file.suffix.lower() == _MIRAX_SUFFIX}
    for child in children:
        if not child.is_dir() or child.name == _DERIVATIVES or child.name in slides:
            continue
        if is_zarr(child):
            images.append(ImageInput((child,), stem_of(child)))
        else:
            inside = _walk(child)
            images += inside.images
            skipped += inside.skipped
    return Inputs(tuple(images), tuple(skipped))


def _grouped_by_channel(files: Sequence[Path]) -> list[ImageInput]:
    """Return an image for each file, or for each NAME where all names have channels' numbers and there are several."""
    matches = [CHANNEL.fullmatch(stem_of(file)) for file in files]
    if not all(matches) or len({match["channel"] for match in matches if match}) < 2:
        return [ImageInput((file,), stem_of(file)) for file in files]
    channels: dict[str, list[Path]] = {}
    for file, match in zip(files, matches, strict=True):
        if match:
            channels.setdefault(match["case"], []).append(file)
    return [ImageInput(tuple(paths), name) for name, paths in channels.items()]


def _grouped_by_series(folder: Path, slices: Sequence[Path], *, is_alone: bool) -> list[ImageInput]:
    """Return the folder as one volume if it holds one series; of several, a series in one file is an image of its own.

    Several series of several files each are one image that can't be opened, so that the message says what to do.
    """
    series: dict[str, list[Path]] = {}
    for file in slices:
        try:
            series.setdefault(read_header(file).series, []).append(file)
        except DataError:
            series.setdefault("", []).append(file)  # reported when it is opened
    if len(series) == 1 and (is_alone or len(slices) > 1):
        return [ImageInput((folder,), folder.name)]
    images = [ImageInput((files[0],), stem_of(files[0])) for files in series.values() if len(files) == 1]
    return [*images, ImageInput((folder,), folder.name)] if len(images) < len(series) else images


def _distinct(images: Sequence[ImageInput]) -> tuple[ImageInput, ...]:
    """Return the images with different stems: equal ones get the names of the folders that tell them apart in front.

    Raises:
        DataError: `same_stem`: two images of one folder have the same stem.
    """
    by_stem: dict[str, list[ImageInput]] = {}
    for image in images:
        by_stem.setdefault(image.stem, []).append(image)
    renamed = {image: image for same in by_stem.values() for image in same}
    for same in by_stem.values():
        for depth in range(1, _MOST_FOLDERS + 1):
            stems = ["_".join([*image.paths[0].resolve().parent.parts[1:][-depth:], image.stem]) for image in same]
            if len(same) > 1 and len(set(stems)) == len(same):
                renamed |= {image: replace(image, stem=stem) for image, stem in zip(same, stems, strict=True)}
                break
        else:
            if len(same) > 1:
                raise DataError(
                    "same_stem", f"{same[0]} and {same[1]} would have outputs of one name; rename one, or give them apart"
                )
    return tuple(renamed[image] for image in images)
