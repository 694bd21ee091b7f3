"""Pairs by name: which reference belongs to which image, in two folders of equal names or beside each other.

images/a.png, masks/a.png or masks/a_mask.png       two folders, of usual names
a.png, a_mask.png                                   one folder, or nested ones
p1/p1-t1.nii.gz, p1/p1-t2.nii.gz, p1/p1-seg.nii.gz  a folder for each case, whose other files are the channels
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from datasets.discovery.files import data_files, files_by_stem, is_image_path, skipped_files, visible_files
from datasets.discovery.rows import CaseRow, FolderRemark, Layout
from imaging.errors import DataError
from imaging.open import stem_of

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "imagestr")
REFERENCE_FOLDERS = (
    *("references", "reference", "masks", "mask", "labels", "label", "annotations", "annotation"),
    *("gt", "groundtruth", "ground_truth", "seg", "segs", "segmentation", "segmentations", "labelstr"),
)
LEAST_GROUPS = 5  # folders that are taken as patients, as many as folds; fewer are rather classes, such as benign/
NAMES_SHOWN = 3
PROBLEMS_SHOWN = 10
MOST_FOLDERS = 3  # that pairs are nested in

CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")  # as nnU-Net names files
_IMAGE_WORDS = "images?|imgs?"
_REFERENCE_WORDS = "masks?|labels?|segs?|segmentations?|gt|ground_?truth|references?|annotations?"
_SEPARATORS = "_. -"
_OTHER_LAYOUTS = ("imagestr", "derivatives", "train", "training")


def subfolder(folder: Path, names: Iterable[str]) -> list[str]:
    """Return the names, as they are written, of a folder's subfolders that have one of some names in any capitals."""
    return [path.name for path in visible_files(folder) if path.name.casefold() in names and path.is_dir()]


def is_image_folders(folder: Path) -> bool:
    """Return whether there are a folder of images and one of references that holds any."""
    if (folder / "dataset.json").is_file() and subfolder(folder, ("imagestr",)):
        return False
    references = subfolder(folder, REFERENCE_FOLDERS)
    return bool(subfolder(folder, IMAGE_FOLDERS)) and any(data_files(folder / name) for name in references)


def read_image_folders(folder: Path) -> Layout:
    """Read a folder of images and one of references, whose names are equal up to the suffix and a word such as _mask.

    Raises:
        DataError: `layout_ambiguous`: several folders of images or references; `cases_invalid`: a reference without an image.
    """
    names = []
    for kind in (IMAGE_FOLDERS, REFERENCE_FOLDERS):
        matches = [name for name in subfolder(folder, kind) if data_files(folder / name)] or subfolder(folder, kind)
        if len(matches) > 1:
            raise DataError("layout_ambiguous", f"{folder} has {' and '.join(matches)}; keep one, or write a cases.csv")
        names += matches
    return read_two_folders(folder, names[0], names[1])


def read_two_folders(folder: Path, images: str, references: str) -> Layout:
    """Read the images of one folder with the references of another; both are relative to the data set's folder.

    Raises:
        DataError: `cases_invalid`: a reference without an image, or two files of one name.
    """
    reference_of = files_by_stem(folder, references)
    images_of: dict[str, tuple[str, ...]] = {stem: (path,) for stem, path in files_by_stem(folder, images).items()}
    pairs = pair_stems(images_of, reference_of)
    if not pairs:
        images_of = _channels_by_name(images_of)
        pairs = pair_stems(images_of, reference_of)
    problems = [
        f"{folder}: {reference_of[stem]}: no image of that name in {images}/; rename or remove it"
        for stem in sorted(set(reference_of) - set(pairs.values()))
    ]
    remarks = skipped_files(folder, images, references)
    if problems:
        more = [f"{folder}: and {len(problems) - PROBLEMS_SHOWN} more like that"] if len(problems) > PROBLEMS_SHOWN else []
        problems = [*problems[:PROBLEMS_SHOWN], *more, *(f"{folder}: {remark.text}" for remark in remarks)]
        raise DataError("cases_invalid", "\n".join(problems))
    rows = (CaseRow(paths[0], stem, paths, reference_of.get(pairs.get(stem, ""), "")) for stem, paths in images_of.items())
    return Layout(str(folder), tuple(rows), remarks=remarks)


def _channels_by_name(images: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return the files NAME_0000, NAME_0001 .. by NAME, as nnU-Net names channels; others as they are."""
    channels: dict[str, tuple[str, ...]] = {}
    for stem, paths in images.items():
        match = CHANNEL.fullmatch(stem)
        name = match["case"] if match else stem
        channels[name] = (*channels.get(name, ()), *paths)
    return channels


def pair_stems(images: Iterable[str], references: Iterable[str]) -> dict[str, str]:
    """Return the stem of the reference of each image that has one; a word such as _mask or img_ may tell them apart."""
    own = {stem: stem for stem in images}
    keys = {_without_word(stem, _IMAGE_WORDS): stem for stem in own} | own
    pairs: dict[str, str] = {}
    for stem in sorted(references, key=lambda stem: (stem not in own, stem)):
        key = stem if stem in own else _without_word(stem, _REFERENCE_WORDS)
        if (image := keys.get(key)) is not None:
            pairs.setdefault(image, stem)
    return pairs


def is_paired_files(folder: Path) -> bool:
    """Return whether references such as NAME_mask.png lie beside the images NAME.png, in this folder or in nested ones.

    At least half of the images must be in such pairs, so that a folder in which a few happen to lie is no data set.
    """
    if subfolder(folder, (*IMAGE_FOLDERS, *_OTHER_LAYOUTS)):
        return False
    paired = total = 0
    for _, files in _folders_of_images(folder):
        references = _references_within(files, "")
        total += len(files)
        for key, reference in references.items():
            paired += 1 + len(_images_of(key, [stem for stem in files if stem != reference]))
    return 0 < total <= 2 * paired


def read_paired_files(folder: Path, suffix: str = "") -> Layout:
    """Read images that lie beside their references; where they are nested in enough folders, those are the groups.

    Args:
        folder: folder of the data set.
        suffix: what follows NAME in the names of references; empty takes the usual words, such as _mask and -seg.

    Raises:
        DataError: `layout_ambiguous`: an image has two references; `cases_invalid`: the cases have different channels.
    """
    rows: list[CaseRow] = []
    names = []
    for name, files in _folders_of_images(folder):
        names.append(name)
        rows += _rows_within(folder, "" if name == "." else name, files, _references_within(files, suffix))
    example_of = {row.channels: row for row in rows}
    if len(example_of) > 1:
        examples = "; ".join(f"{row.case} has {', '.join(row.channels) or 'one image'}" for row in example_of.values())
        raise DataError(
            "cases_invalid", f"{folder}: the cases have different channels: {examples}; complete them, or write a cases.csv"
        )
    if len({row.case for row in rows}) < len(rows):
        rows = [replace(row, case=f"{row.group}/{row.case}".strip("/").replace("/", "_")) for row in rows]
    remarks = skipped_files(folder, *names)
    groups = sorted({row.group for row in rows if row.group})
    if groups and len(groups) < LEAST_GROUPS:
        rows = [replace(row, group="") for row in rows]
    if groups:
        remarks += (_remark_on_groups(groups),)
    return Layout(str(folder), tuple(rows), remarks=remarks)


def _remark_on_groups(groups: Sequence[str]) -> FolderRemark:
    names = ", ".join(groups[:NAMES_SHOWN]) + (" .." if len(groups) > NAMES_SHOWN else "")
    kind = "each of which is taken as a patient" if len(groups) >= LEAST_GROUPS else "which are too few to be taken as patients"
    return FolderRemark(
        "folders_as_groups",
        f"the cases lie in {len(groups)} folders ({names}), {kind}",
        "if that is wrong, write groups with overtile cases --group-pattern",
    )


def _folders_of_images(folder: Path, name: str = ".", depth: int = 0) -> Iterator[tuple[str, dict[str, Path]]]:
    """Yield the relative name of each folder with image files, and those by their stems."""
    children = visible_files(folder)
    files = {stem_of(path): path for path in children if not path.is_dir() and is_image_path(path)}
    if files:
        yield name, files
    for child in children if depth < MOST_FOLDERS else ():
        if child.is_dir() and child.suffix.lower() != ".zarr":
            yield from _folders_of_images(child, child.name if name == "." else f"{name}/{child.name}", depth + 1)


def _references_within(files: Mapping[str, Path], suffix: str) -> dict[str, str]:
    """Return the stem of each reference by the NAME that it shares with the image, or the channels, beside it.

    Raises:
        DataError: `layout_ambiguous`: two references share a NAME.
    """
    references: dict[str, list[str]] = defaultdict(list)
    for stem in files:
        key = stem.removesuffix(suffix) if suffix else _without_word(stem, _REFERENCE_WORDS)
        if key != stem and _images_of(key, [other for other in files if other != stem]):
            references[key].append(stem)
    for key, stems in references.items():
        if len(stems) > 1:
            names = " and ".join(files[stem].name for stem in stems)
            raise DataError(
                "layout_ambiguous",
                f"{files[stems[0]].parent}: {names} are both named like the reference of {key}; keep one, or write a "
                "cases.csv, where several files are classes that overlap",
            )
    return {key: stems[0] for key, stems in references.items()}


def _rows_within(folder: Path, group: str, files: Mapping[str, Path], references: Mapping[str, str]) -> list[CaseRow]:
    """Return the cases of one folder: each image with its reference, or channels with the reference of all."""
    paths = {stem: path.relative_to(folder).as_posix() for stem, path in files.items()}
    without_reference = [stem for stem in files if stem not in references.values()]
    rows = []
    for key, reference in references.items():
        stems = _images_of(key, [stem for stem in files if stem not in references.values()])
        channels = tuple(stem[len(key) :].strip(_SEPARATORS) for stem in stems) if len(stems) > 1 else ()
        images = tuple(paths[stem] for stem in stems)
        rows.append(CaseRow(paths[reference], key, images, paths[reference], group, channels=channels))
        without_reference = [stem for stem in without_reference if stem not in stems]
    if not any(row.channels for row in rows):
        rows += [CaseRow(paths[stem], stem, (paths[stem],), group=group) for stem in without_reference]
    return sorted(rows, key=lambda row: row.case)


def _images_of(key: str, stems: Sequence[str]) -> list[str]:
    """Return the stems of a NAME's images: NAME itself, also with a word such as _image, or else NAME_t1, NAME_t2 .."""
    for stem in stems:
        if key in (stem, _without_word(stem, _IMAGE_WORDS)):
            return [stem]
    channel = re.compile(rf"{re.escape(key)}[{_SEPARATORS}][A-Za-z]\w*")
    return [stem for stem in stems if channel.fullmatch(stem) and _without_word(stem, _REFERENCE_WORDS) == stem]


def _without_word(stem: str, words: str) -> str:
    """Return the stem without one of the words in front or at the end, or as it is."""
    match = re.fullmatch(rf"(?P<before>.+)[{_SEPARATORS}](?:{words})(?:[{_SEPARATORS}]?\d+)?", stem, re.IGNORECASE)
    match = match or re.fullmatch(rf"(?:{words})[{_SEPARATORS}](?P<before>.+)", stem, re.IGNORECASE)
    return match["before"] if match else stem
