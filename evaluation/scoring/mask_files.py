"""Masks in a folder, matched to the cases of a data set by their names.

A mask is named like its case, or like the image of its case; a word such as _mask may follow (`WORDS`). Masks may lie in
folders that are named like the case, or like the image's folder. Masks of `overtile predict` are named like the image; the
other files that it writes beside them are left out.

    cases        images/slide_1.png, images/slide_2.png
    masks        slide_1.png, slide_1_objects.tiff, slide_2_mask.tif, slide_2/segmentation.nii.gz
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.cases import Case
from datasets.discovery.files import is_image_path, visible_files
from datasets.discovery.pairs import CHANNEL
from datasets.labels.counts import join_first
from imaging.errors import DataError
from imaging.open import header_beside, stem_of

OUTLINES = ".geojson"
NUMBERED_WORDS = ("objects", "instances", "cp_masks")  # behind the name of a mask that numbers objects
WORDS = (*NUMBERED_WORDS, "mask", "masks", "seg", "segmentation", "label", "labels", "pred", "prediction", "predicted")
MAPS = ("probabilities", "uncertainty", "disagreement")  # behind the names of other outputs of `overtile predict`

_BEHIND = re.compile(rf"(?P<name>.+?)[_.\- ](?P<word>{'|'.join((*WORDS, *MAPS))})")


@dataclass(frozen=True)
class FoundMasks:
    """Masks of a folder.

    Args:
        by_case: mask of each case that has one, by the case's name.
        missing: names of the cases without a mask.
        extra: files that belong to no case of the data set.
    """

    by_case: dict[str, Path]
    missing: tuple[str, ...]
    extra: tuple[Path, ...]


def find_masks(folder: Path, cases: Sequence[Case], others: Sequence[Case] = ()) -> FoundMasks:
    """Find the masks of cases in a folder and in the folders in it.

    Of a case's files, one with numbers of objects is taken if the references number objects, and else one without. Outlines
    are taken where there is nothing else.

    Args:
        folder: folder of masks.
        cases: cases that need a mask.
        others: other cases of the data set, whose masks are left out.

    Raises:
        DataError: `masks_not_found`: no file is the mask of a case; `masks_doubled`: several files may be a case's mask.
    """
    case_of = _cases_by_name((*cases, *others))
    files: dict[str, list[tuple[Path, str]]] = {}
    extra = []
    for path in _mask_files(folder):
        match = next(((case_of[name], word) for name, word in _names_of(path, folder) if name in case_of), None)
        if match is None:
            extra.append(path)
        elif match[1] not in MAPS:
            files.setdefault(match[0], []).append((path, match[1]))
    names = [case.name for case in cases]
    if not any(name in files for name in names):
        raise DataError("masks_not_found", _not_found_text(folder, cases, extra))
    doubled: list[str] = []
    by_case = {name: _choose(files[name], doubled, numbered=cases[0].instances) for name in names if name in files}
    if doubled:
        raise DataError(
            "masks_doubled",
            f"{folder} has several masks of a case: {join_first(doubled)}; keep one of each, or give a folder with one of each",
        )
    return FoundMasks(by_case, tuple(name for name in names if name not in files), tuple(extra))


def _mask_files(folder: Path) -> Iterator[Path]:
    """Yield the images and outlines in a folder and in its folders, in order."""
    if not folder.is_dir():
        raise DataError("masks_not_found", f"{folder} is no folder; give the folder that holds the masks")
    for path in visible_files(folder):
        if path.suffix.lower() == OUTLINES or is_image_path(path):
            if header_beside(path) == path:
                yield path
        elif path.is_dir():
            yield from _mask_files(path)


def _names_of(path: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the names of cases that a file may be the mask of, each with the word that follows it in the file's name."""
    parent = path.relative_to(folder).parent.as_posix()
    stem = stem_of(path)
    match = _BEHIND.fullmatch(stem)
    for name, word in ((stem, ""), *(((match["name"], match["word"]),) if match else ())):
        if parent != ".":
            yield _key(f"{parent}/{name}"), word
        yield _key(name), word
    if stem in WORDS and parent != ".":
        yield _key(parent), stem


def _cases_by_name(cases: Sequence[Case]) -> dict[str, str]:
    """Return the case of each name: its own, and those of its image that no other case has."""
    names: dict[str, str] = {_key(case.name): case.name for case in cases}
    counts: Counter[str] = Counter()
    others: dict[str, str] = {}
    for case in cases:
        image = case.images[0]
        match = CHANNEL.fullmatch(stem_of(image))
        stem = match["case"] if match and len(case.images) > 1 else stem_of(image)
        image_names = {stem, f"{image.parent.name}/{stem}", f"{image.parent.name}_{stem}", Path(case.name).name}
        keys = {_key(name) for name in image_names}
        counts.update(keys)
        others |= dict.fromkeys(keys, case.name)
    return {name: case for name, case in others.items() if counts[name] == 1} | names


def _key(name: str) -> str:
    """Return a name as file systems compare it that ignore capitals and how accents are composed."""
    return unicodedata.normalize("NFC", name).casefold()


def _choose(files: Sequence[tuple[Path, str]], doubled: list[str], *, numbered: bool) -> Path:
    """Return a case's mask among its files; where several are equally suitable, they are added to `doubled`."""
    suitable = [path for path, word in files if (word in NUMBERED_WORDS) == numbered] or [path for path, _ in files]
    masks = [path for path in suitable if path.suffix.lower() != OUTLINES] or suitable
    if len(masks) > 1:
        doubled.append(" and ".join(path.name for path in masks))
    return masks[0]


def _not_found_text(folder: Path, cases: Sequence[Case], extra: Sequence[Path]) -> str:
    listed = f"its images are {join_first([path.name for path in extra])}" if extra else "it has no images and no outlines"
    return (
        f"{folder} has no mask of the {len(cases)} cases: {listed}; name each mask like its case or image, such as "
        f"{Path(cases[0].name).name}.png, or with one of the words {', '.join(f'_{word}' for word in WORDS)} behind it"
    )
