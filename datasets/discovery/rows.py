"""Rows of a layout: the cases of a data set as text, before any file is checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from datasets.declared.declaration import Declaration
from imaging.errors import DataError

REQUIRED = ("case", "image")
OPTIONAL = ("reference", "group", "split", "spacing_um", "label", "axes")
SPLITS = ("train", "val", "test")

RemarkCode = Literal["files_skipped", "folders_as_groups", "links_leave_folder", "table_encoding"]


@dataclass(frozen=True)
class CaseRow:
    """Case as text; paths are relative to the data set's folder, and `where` names the row in messages."""

    where: str
    case: str
    images: tuple[str, ...]
    reference: str = ""
    group: str = ""
    split: str = ""
    spacing_um: str = ""
    label: str = ""  # of the whole image
    axes: str = ""  # letters of a TIFF's axes, such as ZYX
    other_references: tuple[str, ...] = ()  # where classes overlap: files of the classes after the first
    channels: tuple[str, ...] = ()  # names, where the layout gives them case by case
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)  # columns of the table that Overtile does not know

    @property
    def references(self) -> tuple[str, ...]:
        """All files of the reference."""
        return (self.reference, *self.other_references) if self.reference or self.other_references else ()


@dataclass(frozen=True)
class FolderRemark:
    """Remark on a data set's folder or table: what was read in a way that the user may not expect.

    Args:
        code: stable identifier for programs.
        text: description.
        advice: what to do if that is not right.
    """

    code: RemarkCode
    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.text}; {self.advice} [{self.code}]"


@dataclass(frozen=True)
class Columns:
    """Columns of the table that hold the group and the image's label; None takes those of these names."""

    group: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Layout:
    """Cases in a folder, the file that lists them, what the layout's own files declare, and remarks for the user."""

    origin: str
    rows: tuple[CaseRow, ...]
    declaration: Declaration | None = None
    remarks: tuple[FolderRemark, ...] = ()

    def with_columns(self, columns: Columns) -> "Layout":
        """Return the layout with groups and labels from other columns of its table.

        Raises:
            DataError: `cases_invalid`: the table has no such column.
        """
        column_of = {key: name for key, name in (("group", columns.group), ("label", columns.label)) if name and name != key}
        names = sorted({name for row in self.rows for name in row.metadata})
        unknown = [
            f"{self.origin}: column {name!r} is missing; there are {', '.join(names) or 'none besides the known ones'}"
            for name in column_of.values()
            if name not in names
        ]
        if unknown:
            raise DataError("cases_invalid", "\n".join(unknown))
        rows = (
            replace(
                row,
                group=row.metadata[column_of["group"]] if "group" in column_of else row.group,
                label=row.metadata[column_of["label"]] if "label" in column_of else row.label,
            )
            for row in self.rows
        )
        return replace(self, rows=tuple(rows))


OWN_COLUMNS = Columns()
