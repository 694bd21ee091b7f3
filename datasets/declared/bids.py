"""Declaration of a BIDS data set: labels from dseg.tsv, channels from the names of images and their sidecar JSON.

Source: https://bids-specification.readthedocs.io, "Imaging derivatives", and "Common data types and metadata".
"""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

from datasets.declared.declaration import BACKGROUND, Declaration, DeclaredClass
from imaging.errors import DataError

_IMAGE_SUFFIX = ".nii.gz"
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def declaration_of(folder: Path, references: Sequence[Path], channels: tuple[str, ...]) -> Declaration:
    """Return what the tables of labels beside the segmentations, or above them, declare.

    Args:
        folder: the data set.
        references: its segmentations.
        channels: names of the channels of its images.

    Raises:
        DataError: `cases_invalid`: a table can't be read, or two give one label different names.
    """
    tables = {table: None for reference in references for table in _tables_of(folder, reference)}
    classes: dict[int, DeclaredClass] = {}
    for table in tables:
        for declared in _read_table(table):
            (label,) = declared.values
            if classes.setdefault(label, declared).name != declared.name:
                raise DataError(
                    "cases_invalid",
                    f"{table}: label {label} is {declared.name!r}, and {classes[label].name!r} elsewhere; give it one name",
                )
    if classes:
        classes.setdefault(0, DeclaredClass(BACKGROUND, (0,)))
    ordered = tuple(classes[label] for label in sorted(classes))
    origin = next(iter(tables)).name if tables else "the BIDS data set"
    return Declaration(origin, ordered, channels=channels, is_lookup=True)


def channel_name(image: Path, prefix: str) -> str:
    """Return the name of an image's channel: its name without the subject and session, or CT where its sidecar says so.

    Raises:
        DataError: `cases_invalid`: the sidecar can't be read.
    """
    stem = image.name.removesuffix(_IMAGE_SUFFIX)
    sidecar = image.with_name(f"{stem}.json")
    if sidecar.is_file():
        try:
            description = json.loads(sidecar.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise DataError("cases_invalid", f"{sidecar} can't be read as JSON; export it again") from error
        if isinstance(description, dict) and str(description.get("Modality", "")).upper() == "CT":
            return "CT"
    name = stem.removeprefix(prefix).strip("_")
    return "CT" if name.lower() == "ct" else name


def _tables_of(folder: Path, reference: Path) -> list[Path]:
    """Return the tables of labels of a segmentation: its own, else those in its folder and the folders above it."""
    own = reference.with_name(reference.name.removesuffix(_IMAGE_SUFFIX) + ".tsv")
    if own.is_file():
        return [own]
    derivatives = folder.joinpath(*reference.relative_to(folder).parts[:2])
    parents = [parent for parent in reference.parents if parent.is_relative_to(derivatives)]
    tables = (sorted([*parent.glob("dseg.tsv"), *parent.glob("*_dseg.tsv")]) for parent in parents)
    return next((found for found in tables if found), [])


def _read_table(path: Path) -> list[DeclaredClass]:
    """Read the classes of a table: its columns are index, name and, in some, color."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return [
            DeclaredClass(row["name"].strip(), (int(row["index"]),), colour if _COLOUR.fullmatch(colour) else "")
            for row in rows
            for colour in [(row.get("color") or "").strip()]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise DataError("cases_invalid", f"{path} isn't a table with the columns index and name; export it again") from error
