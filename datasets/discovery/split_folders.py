"""Folders for each split: train/, val/ and test/ with a data set each, or inside the folders of images and references."""

from dataclasses import replace
from pathlib import Path

from datasets.discovery.annotated import SPLIT_WORDS, is_annotated_slides, read_annotated_slides
from datasets.discovery.files import data_files, is_image_path, visible_files
from datasets.discovery.pairs import (
    IMAGE_FOLDERS,
    REFERENCE_FOLDERS,
    is_image_folders,
    is_paired_files,
    read_image_folders,
    read_paired_files,
    read_two_folders,
    subfolder,
)
from datasets.discovery.rows import CaseRow, FolderRemark, Layout
from imaging.open import stem_of

_LAYOUTS = (
    (is_image_folders, read_image_folders),
    (is_paired_files, read_paired_files),
    (is_annotated_slides, read_annotated_slides),
)


def is_split_folders(folder: Path) -> bool:
    """Return whether there is a folder of training cases among folders that are named like splits."""
    return any(
        split == "train" and any(is_layout(folder / name) for is_layout, _ in _LAYOUTS) for name, split in _splits(folder)
    ) or any(_pairs_of_split_folders(folder))


def read_split_folders(folder: Path) -> Layout:
    """Read the cases of all splits.

    Raises:
        DataError: `cases_invalid`, `layout_ambiguous`: one of the folders is not sound.
    """
    parts = [(split, _read_split(folder, name)) for name, split in _splits(folder)]
    for images, references in _pairs_of_split_folders(folder):
        split = SPLIT_WORDS[Path(images).name.casefold()]
        layout = read_two_folders(folder, images, references) if references else _images_alone(folder, images)
        parts.append((split, layout))
    is_validated = any(split == "val" for split, _ in parts)  # or else training draws the cases that validate
    rows = [
        replace(row, split=split if is_validated or split == "test" else "") for split, layout in parts for row in layout.rows
    ]
    if len({row.case for row in rows}) < len(rows):
        rows = [replace(row, case=f"{row.split or 'train'}_{row.case}") for row in rows]
    remarks: dict[str, FolderRemark] = {}  # one of each kind, with the texts of all
    for remark in (remark for _, layout in parts for remark in layout.remarks):
        text = f"{remarks[remark.code].text}; {remark.text}" if remark.code in remarks else remark.text
        remarks[remark.code] = replace(remark, text=text)
    return Layout(str(folder), tuple(rows), remarks=tuple(remarks.values()))


def _splits(folder: Path) -> list[tuple[str, str]]:
    """Return the name and the split of each folder that is named like a split."""
    splits = {path.name: SPLIT_WORDS.get(path.name.casefold()) for path in visible_files(folder) if path.is_dir()}
    return [(name, split) for name, split in splits.items() if split]


def _read_split(folder: Path, name: str) -> Layout:
    """Read the cases of one split, with paths relative to the data set's folder."""
    inner = folder / name
    read = next((read for is_layout, read in _LAYOUTS if is_layout(inner)), None)
    if read is None:
        images = next(iter(subfolder(inner, IMAGE_FOLDERS)), "")
        return _images_alone(folder, f"{name}/{images}".rstrip("/"))
    layout = read(inner)
    rows = tuple(
        replace(
            row,
            where=f"{name}/{row.where}",
            images=tuple(f"{name}/{path}" for path in row.images),
            reference=row.reference and f"{name}/{row.reference}",
        )
        for row in layout.rows
    )
    return Layout(str(folder), rows, remarks=layout.remarks)


def _pairs_of_split_folders(folder: Path) -> list[tuple[str, str]]:
    """Return images/train with masks/train and so on; an empty name where a split has no references."""
    images, references = (
        {
            SPLIT_WORDS[path.name.casefold()]: path.relative_to(folder).as_posix()
            for name in subfolder(folder, kind)
            for path in visible_files(folder / name)
            if path.is_dir() and path.name.casefold() in SPLIT_WORDS and data_files(path)
        }
        for kind in (IMAGE_FOLDERS, REFERENCE_FOLDERS)
    )
    if "train" not in images or "train" not in references:
        return []
    return [(path, references.get(split, "")) for split, path in images.items()]


def _images_alone(folder: Path, name: str) -> Layout:
    """Return the images of a folder without references."""
    paths = [path for path in data_files(folder / name) if is_image_path(path)]
    rows = (CaseRow(f"{name}/{path.name}", stem_of(path), (f"{name}/{path.name}",)) for path in paths)
    return Layout(str(folder), tuple(rows))
