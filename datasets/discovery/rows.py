"""Rows of a layout: the cases of a data set as text, before any file is checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from datasets.declared.declaration import Declaration

REQUIRED = ("case", "image")
OPTIONAL = ("reference", "group", "split", "spacing_um", "label", "axes")
SPLITS = ("train", "val", "test")

RemarkCode = Literal["files_skipped", "links_leave_folder", "table_encoding", "table_columns", "layout_inferred"]


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


@dataclass(frozen=True)
class Layout:
    """Cases in a folder, the file that lists them, what the layout's own files declare, and remarks for the user."""

    origin: str
    rows: tuple[CaseRow, ...]
    declaration: Declaration | None = None
    remarks: tuple[FolderRemark, ...] = ()
