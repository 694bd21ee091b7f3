"""A data set's cases: rows of a table or of a layout that is recognised, checked, each an image with its reference."""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from configs.sections import DataSection
from datasets.annotations import is_annotation, read_outlines
from datasets.channels import stack_channels
from datasets.layouts import SPLITS, CaseRow, read_layout
from imaging.errors import DataError
from imaging.open import open_image
from imaging.source import ImageSource

BACKGROUND = "background"


@dataclass(frozen=True)
class Case:
    """An image with its reference.

    Args:
        name: unlike every other case's.
        images: one file, or several that hold one channel or more each and share a geometry.
        reference: its labels, or annotations; None where there are none.
        other_references: of classes that overlap, the files after the first class's; any value above 0 is the class.
        group: the patient; None where not given.
        split: train, val or test; None where not given.
        spacing_um: the user's word for the distance between pixels, in S order, or one number for all axes; None takes the
            files'.
        classes: names, in the order of their labels, by which annotations are told apart; empty where nobody says.
        instances: the reference counts objects, and any value above 0 is class 1.
        values: the reference holds no labels but a value a pixel.
        ignore_label: of pixels that nothing is said about; None: there are none.
        label: the name of what the whole image is; None where not given.
    """

    name: str
    images: tuple[Path, ...]
    reference: Path | None = None
    group: str | None = None
    split: str | None = None
    spacing_um: tuple[float, ...] | None = None
    classes: tuple[str, ...] = ()
    instances: bool = False
    other_references: tuple[Path, ...] = ()
    values: bool = False
    ignore_label: int | None = None
    label: str | None = None

    @property
    def patient(self) -> str:
        """The group, or the case itself where it has none."""
        return self.group or self.name


def read_cases(folder: Path, data: DataSection | None = None) -> tuple[Case, ...]:
    """The cases of a data set, in the table's or the names' order; what is in `datasets/layouts.py` is recognised.

    Args:
        folder: the data set.
        data: says what references mean; None takes class names from the layout, if it has them.

    Raises:
        DataError: no layout or several, a column or file is missing or unknown, a name comes twice; every problem is listed.
    """
    layout = read_layout(folder)
    problems = [] if layout.rows else ["no cases; add a line for each image, or its files"]
    problems += _name_problems(layout.rows) + _split_problems(layout.rows)
    problems += [f"{row.where}: {problem}" for row in layout.rows for problem in _row_problems(row, folder)]
    if problems:
        raise DataError("cases_invalid", "\n".join(f"{layout.origin}: {problem}" for problem in problems))
    classes = (
        tuple(section.name for section in data.classes) if data else layout.classes or _annotated_classes(layout.rows, folder)
    )
    return tuple(_case(row, folder, classes, data) for row in layout.rows)


def open_case_image(case: Case) -> ImageSource:
    """The case's image, open, the channels of several files behind one another.

    Raises:
        DataError: a file can't be read, or `channel_geometry_mismatch`.
    """
    with ExitStack() as opened:
        image = stack_channels([opened.enter_context(open_image(path, spacing_um=case.spacing_um)) for path in case.images])
        opened.pop_all()
    return image


@contextmanager
def prefix_errors(case: Case) -> Iterator[None]:
    """Puts the case's name before the message of a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(error.code, f"case {case.name}: {error.message}") from error


def _case(row: CaseRow, folder: Path, classes: tuple[str, ...], data: DataSection | None) -> Case:
    references = tuple(folder / name for name in row.references)
    return Case(
        name=row.case,
        images=tuple(folder / name for name in row.images),
        reference=references[0] if references else None,
        other_references=references[1:],
        group=row.group or None,
        split=row.split or None,
        spacing_um=_spacing(row.spacing_um),
        classes=classes,
        instances=data is not None and data.instances,
        values=data is not None and len(data.classes) == 1,
        ignore_label=data.ignore_label if data else None,
        label=row.label or None,
    )


def _annotated_classes(rows: Sequence[CaseRow], folder: Path) -> tuple[str, ...]:
    """The names that outlines have, after a background; none where no reference is an annotation that can be read."""
    names: set[str] = set()
    for path in {folder / name for row in rows for name in row.references if is_annotation(folder / name)}:
        with suppress(DataError):  # told when the case is opened
            names.update(outline.name for outline in read_outlines(path, (0, 0)))
    return (BACKGROUND, *sorted(names)) if names else ()


def _name_problems(rows: Sequence[CaseRow]) -> list[str]:
    """Names that differ only in case or in how an accent is composed are one file on some systems."""
    problems, seen = [], set[str]()
    for row in rows:
        name = unicodedata.normalize("NFC", row.case).casefold()
        if not name or name in seen:
            problems.append(f"{row.where}: case {row.case!r} is empty or comes twice; give every case a name of its own")
        seen.add(name)
    return problems


def _split_problems(rows: Sequence[CaseRow]) -> list[str]:
    some_split = any(row.split in ("train", "val") for row in rows)
    problems = []
    for row in rows:
        if row.split and row.split not in SPLITS:
            problems.append(f"{row.where}: split {row.split!r}; allowed are {', '.join(SPLITS)} or nothing")
        if some_split and not row.split:
            problems.append(f"{row.where}: no split, though other cases have one; give every case one, or only split test")
    return problems


def _row_problems(row: CaseRow, folder: Path) -> list[str]:
    cells = (row.case, *row.images, row.reference, row.group, row.label)
    if not all(cell.isprintable() for cell in cells):
        return ["a cell holds characters that can't be printed; remove them"]
    spacing = _spacing(row.spacing_um)
    problems = []
    if spacing and (len(spacing) > 3 or not all(math.isfinite(value) and value > 0 for value in spacing)):
        problems.append(f"spacing_um {row.spacing_um!r}; give one number above 0, or one an axis: 2;0.9;0.9")
    paths = [*(row.images or ("",)), *row.references]
    return problems + [problem for path in paths for problem in _path_problems(path, folder)]


def _path_problems(name: str, folder: Path) -> list[str]:
    path = Path(name)
    if not name:
        return ["no image; name a file"]
    if path.is_absolute() or ".." in path.parts:
        return [f"{name}: leaves the data set's folder; give a path relative to it"]
    if not (folder / path).is_file() and not (folder / path).is_dir():
        return [f"{name}: no such file"]
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        return [f"{name}: a link that leaves the data set's folder; put the file itself there"]
    return []


def _spacing(text: str) -> tuple[float, ...] | None:
    """NaN for what is no number."""
    if not text:
        return None
    return tuple(float(part) if _is_number(part) else math.nan for part in text.split(";"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
