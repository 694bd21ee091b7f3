"""A data set on disk: `cases.csv` lists the images, their references, and optionally their group and split."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imaging.errors import DataError
from imaging.open import open_image
from imaging.source import ImageSource

REQUIRED = ("case", "image")
OPTIONAL = ("reference", "group", "split")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Case:
    """An image with its reference.

    Args:
        name: unlike every other case's.
        images: one file, or several that hold one channel or more each and share a geometry.
        reference: its labels, or annotations; None where there are none.
        group: the patient; None where not given.
        split: train, val or test; None where not given.
        spacing_um: the user's word for the distance between pixels, in S order; None takes the files'.
    """

    name: str
    images: tuple[Path, ...]
    reference: Path | None = None
    group: str | None = None
    split: str | None = None
    spacing_um: tuple[float, ...] | None = None


def read_cases(folder: Path) -> tuple[Case, ...]:
    """The cases of a data set, in the file's order; paths are relative to the folder.

    Raises:
        DataError: no cases.csv, a column or file is missing or unknown, a name comes twice; every problem is listed.
    """
    table = folder / "cases.csv"
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), tuple(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            "cases_missing", f"{table} can't be read; a data set is a folder with cases.csv: case,image,reference[,group,split]"
        ) from error
    problems = _column_problems(columns) or _row_problems(rows, folder)
    if problems:
        raise DataError("cases_invalid", "\n".join(f"{table}: {problem}" for problem in problems))
    return tuple(_case(row, folder) for row in rows)


def open_case_image(case: Case) -> ImageSource:
    """The case's image, open, the channels of several files behind one another.

    Raises:
        DataError: a file can't be read.
    """
    return open_image(case.images[0], spacing_um=case.spacing_um)


@contextmanager
def about(case: Case) -> Iterator[None]:
    """Puts the case's name before the message of a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(error.code, f"case {case.name}: {error.message}") from error


def _case(row: dict[str, str], folder: Path) -> Case:
    return Case(
        name=row["case"],
        images=tuple(folder / name for name in row["image"].split(";")),
        reference=folder / row["reference"] if row.get("reference") else None,
        group=row.get("group") or None,
        split=row.get("split") or None,
    )


def _column_problems(columns: tuple[str, ...]) -> list[str]:
    allowed = ", ".join((*REQUIRED, *OPTIONAL))
    missing = [f"column {name!r} is missing; columns are {allowed}" for name in REQUIRED if name not in columns]
    unknown = [f"column {name!r} is unknown; columns are {allowed}" for name in columns if name not in (*REQUIRED, *OPTIONAL)]
    return missing + unknown


def _row_problems(rows: list[dict[str, str]], folder: Path) -> list[str]:
    problems = [] if rows else ["no cases; add a line for each image"]
    seen: set[str] = set()
    some_split = any(row.get("split") for row in rows)
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            problems.append(f"line {line}: not as many cells as there are columns")
            continue
        if not row["case"] or row["case"] in seen:
            problems.append(f"line {line}: case {row['case']!r} is empty or comes twice; give every case a name of its own")
        seen.add(row["case"])
        if row.get("split") and row["split"] not in SPLITS:
            problems.append(f"line {line}: split {row['split']!r}; allowed are {', '.join(SPLITS)} or nothing")
        if some_split and not row["split"]:
            problems.append(f"line {line}: no split, though other cases have one; give every case one, or none")
        problems += [
            f"line {line}: {problem}" for key in ("image", "reference") for problem in _path_problems(row.get(key), folder)
        ]
    return problems


def _path_problems(name: str | None, folder: Path) -> list[str]:
    if not name:
        return []
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        return [f"{name}: leaves the data set's folder; give a path relative to it"]
    return [] if (folder / path).is_file() else [f"{name}: no such file"]
