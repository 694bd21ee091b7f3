"""Images with outlines: a file of its own beside each image, or COCO's one file for many images."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from datasets.discovery.files import data_files, is_annotation_file, is_image_path, skipped_files, visible_files
from datasets.discovery.outlines import is_coco, read_json
from datasets.discovery.rows import CaseRow, Layout
from imaging.errors import DataError
from imaging.open import stem_of

NAMES_SHOWN = 6
SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

_OBJECTS = ("person_keypoints", "captions", "panoptic", "image_info")  # COCO's other files of the same images


def is_annotated_slides(folder: Path) -> bool:
    """Return whether an image lies beside annotations of the same name."""
    files = data_files(folder)
    stems = {stem_of(path) for path in files if is_annotation_file(path)}
    return any(stem_of(path) in stems for path in files if is_image_path(path))


def read_annotated_slides(folder: Path) -> Layout:
    """Read the images that have annotations of the same name beside them."""
    files = data_files(folder)
    annotations = {stem_of(path): path.name for path in files if is_annotation_file(path)}
    slides = {stem_of(path): path.name for path in files if is_image_path(path)}
    rows = [CaseRow(slides[stem], stem, (slides[stem],), name) for stem, name in annotations.items() if stem in slides]
    return Layout(str(folder), tuple(rows), remarks=skipped_files(folder, "."))


def is_coco_dataset(folder: Path) -> bool:
    """Return whether the folder, or one in it, has a JSON of COCO, which lists images, annotations and categories."""
    return any(True for _ in _coco_files(folder))


def read_coco(folder: Path) -> Layout:
    """Read the images that COCO's files list; train, val or test in the name of a file or of its folder is the split.

    Raises:
        DataError: `cases_invalid`: images are missing, or listed twice.
    """
    rows: list[CaseRow] = []
    missing: list[str] = []
    for path in _coco_files(folder):
        places = _image_folders(folder, path)
        for image in read_json(path)["images"]:
            name = str(image["file_name"])
            file = next((place / name for place in places if (place / name).is_file()), None)
            if file is None:
                missing.append(name)
                continue
            image_path, json_path = file.relative_to(folder).as_posix(), path.relative_to(folder)
            split = _split_of(json_path)
            rows.append(CaseRow(image_path, stem_of(Path(name)), (image_path,), json_path.as_posix(), split=split))
    if missing:
        more = f" and {len(missing) - NAMES_SHOWN} more" if len(missing) > NAMES_SHOWN else ""
        raise DataError(
            "cases_invalid",
            f"{folder}: {len(missing)} images that the COCO file lists are missing: {', '.join(missing[:NAMES_SHOWN])}{more}; "
            "put them into images/ or beside the file",
        )
    if all(row.split != "val" for row in rows):  # training then draws the cases that validate
        rows = [replace(row, split="" if row.split == "train" else row.split) for row in rows]
    if len({row.case for row in rows}) < len(rows):
        rows = [replace(row, case=re.sub(r"[/.]", "_", str(Path(row.where).with_suffix("")))) for row in rows]
    return Layout(str(folder), tuple(rows))


def _coco_files(folder: Path) -> Iterator[Path]:
    """Yield COCO's files with outlines, in the folder and in those in it."""
    folders = [folder, *(path for path in visible_files(folder) if path.is_dir())]
    for path in sorted(path for each in folders for path in each.glob("*.json") if not path.name.startswith(_OBJECTS)):
        if is_coco(path):
            yield path


def _image_folders(folder: Path, path: Path) -> list[Path]:
    """Return the folders where the images of a COCO file may be."""
    split = _split_of(path.relative_to(folder))
    named = [each for each in (folder, folder / "images") if each.is_dir()]
    children = [child for each in named for child in visible_files(each) if child.is_dir()]
    return [path.parent, *(child for child in children if _split_of(Path(child.name)) == split), *named]


def _split_of(path: Path) -> str:
    """Return the split that a relative path names in its last two parts; empty where it names none."""
    words = re.findall("[a-z]+", f"{path.parent.name} {path.name}".lower())
    return next((SPLIT_WORDS[word] for word in reversed(words) if word in SPLIT_WORDS), "")
