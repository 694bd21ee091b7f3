"""Tables of cases as people save them: other separators, encodings and capitals are read, and unknown columns are metadata."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from datasets.discovery.rows import OPTIONAL, REQUIRED, CaseRow, FolderRemark, Layout
from imaging.errors import DataError

TABLE = "cases.csv"
COLUMNS = (*REQUIRED, *OPTIONAL)
MAX_TABLE_BYTES = 2**26
INDEX_COLUMN = "index"  # name of a first column without one, as pandas writes it
SIMILARITY = 0.78  # of a misspelt column; image_id (0.77) is none

_SEPARATORS = ",;\t"
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")  # of UTF-16
_WINDOWS = "cp1252"  # Excel's "CSV" in western Europe and America
_OTHER_NAMES = {  # that people give our columns
    "axis": "axes",
    "mask": "reference",
    "masks": "reference",
    "segmentation": "reference",
    "annotation": "reference",
    "ground_truth": "reference",
    "gt": "reference",
}
_SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}

Cells = dict[str, str]


def read_table(path: Path) -> Layout:
    """Read the rows of a table of cases.

    The separator is a comma, a semicolon or a tab, whichever gives the most known columns; the encoding UTF-8, UTF-16 or,
    with a remark, Windows-1252. Spaces around cells, empty rows and empty columns are left out, capitals in the names of
    columns and splits do not matter, and a path with backslashes is a path of Windows.

    Raises:
        DataError: `cases_missing`: it can't be read; `cases_invalid`: it is too large, or columns or cells are wrong.
    """
    text, remarks = _read_text(path)
    try:
        if text.startswith("sep="):  # Excel's own line, which names the separator
            text = "\n" + text.partition("\n")[2]
        separator = _separator_of(text)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        every_line = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
        lines = _without_empty_columns([(number, cells) for number, cells in every_line if any(cells)])
    except csv.Error as error:
        raise DataError("cases_missing", f"{path} can't be read as a table ({error}); save it as CSV in UTF-8") from error
    header = [_column_name(cell) for cell in lines[0][1]] if lines else []
    if header and not header[0]:
        header[0] = INDEX_COLUMN
    problems = _header_problems(header)
    if not problems:
        problems = [
            f"line {number}: not as many cells as there are columns; put quotes around a cell with {separator!r} in it"
            for number, cells in lines
            if len(cells) > len(header)
        ]
    if problems:
        raise DataError("cases_invalid", "\n".join(f"{path}: {problem}" for problem in problems))
    rows = [(number, dict(zip(header, cells + [""] * (len(header) - len(cells)), strict=True))) for number, cells in lines[1:]]
    if separator != ",":
        for _, row in rows:
            row["spacing_um"] = row.get("spacing_um", "").replace(",", ".")  # a decimal comma
    return Layout(str(path), tuple(_to_row(path.parent, number, row) for number, row in rows), remarks=remarks)


def _read_text(path: Path) -> tuple[str, tuple[FolderRemark, ...]]:
    """Return the table's text, and a remark where its encoding is a guess."""
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise DataError("cases_invalid", f"{path}: more than {MAX_TABLE_BYTES // 2**20} MiB; split the data set")
        content = path.read_bytes()
        if content.startswith(_BYTE_ORDER_MARKS):
            return content.decode("utf-16"), ()
        try:
            return content.decode("utf-8-sig"), ()
        except UnicodeDecodeError:
            text = content.decode(_WINDOWS)
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} can't be read; save it as CSV in UTF-8: case,image,reference[,group,split]"
        raise DataError("cases_missing", message) from error
    remark = FolderRemark(
        "table_encoding",
        f"{path.name} isn't UTF-8 and is read as Windows-1252",
        "if accents are wrong, save it as CSV in UTF-8",
    )
    return text, (remark,)


def _separator_of(text: str) -> str:
    """Return the separator that splits the header into the most known columns."""
    header = next((line for line in text.splitlines() if line.strip(" ,;\t")), "")

    def known_columns(separator: str) -> int:
        cells = next(csv.reader([header], delimiter=separator, skipinitialspace=True), [])
        return sum(_column_name(cell) in COLUMNS for cell in cells)

    return max(_SEPARATORS, key=known_columns)


def _without_empty_columns(lines: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Leave out columns without a name and without a value."""
    width = max((len(cells) for _, cells in lines), default=0)
    used = [column for column in range(width) if any(column < len(cells) and cells[column] for _, cells in lines)]
    return [(number, [cells[column] for column in used if column < len(cells)]) for number, cells in lines]


def _column_name(cell: str) -> str:
    """Return the known column that a cell of the header names, whatever its capitals and spaces, or else the cell."""
    name = "_".join(cell.strip().casefold().replace("-", " ").split())
    return name if name in COLUMNS else cell.strip()


def _header_problems(header: Sequence[str]) -> list[str]:
    allowed = ", ".join(COLUMNS)
    if not header:
        return [f"the table is empty; columns are {allowed}"]
    problems = [f"column {name!r} is missing; columns are {allowed}" for name in REQUIRED if name not in header]
    for name, count in Counter(header).items():
        if not name:
            problems.append(f"column {header.index(name) + 1} has values but no name; name it, or remove it")
        elif count > 1:
            problems.append(f"column {name!r} comes twice")
        elif (column := _meant_column(name)) and column not in header:
            problems.append(f"column {name!r} is unknown; if {column!r} is meant, rename it: columns are {allowed}")
    return problems


def _meant_column(name: str) -> str | None:
    """Return the known column that an unknown one is a misspelling or another name of."""
    if name in COLUMNS:
        return None
    name = name.casefold().replace(" ", "_")
    return next(iter(get_close_matches(name, COLUMNS, 1, SIMILARITY)), _OTHER_NAMES.get(name))


def _to_row(folder: Path, line: int, row: Mapping[str, str]) -> CaseRow:
    """Split the cells of a row; several files stand between semicolons."""
    images = tuple(_as_path(folder, name) for name in row["image"].split(";")) if row["image"] else ()
    reference, *others = (_as_path(folder, name) for name in row.get("reference", "").split(";"))
    cells = {column: row.get(column, "") for column in OPTIONAL} | {"reference": reference}
    split = cells["split"].casefold()
    cells |= {"split": _SPLIT_NAMES.get(split, split), "axes": cells["axes"].upper()}
    metadata = {name: value for name, value in row.items() if name not in COLUMNS}
    return CaseRow(f"line {line}", row["case"], images, **cells, other_references=tuple(others), channels=(), metadata=metadata)


def _as_path(folder: Path, name: str) -> str:
    """Return the path with slashes, where no file has that name with backslashes."""
    name = name.strip()
    if "\\" not in name or (name.isprintable() and (folder / name).exists()):
        return name
    return name.replace("\\", "/")
