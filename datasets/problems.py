"""What the doctor says: a problem with its place and its remedy, and a case with its facts and problems."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasets.cases import Case
from datasets.fingerprint import CaseFacts
from imaging.errors import DataError

Severity = Literal["error", "note"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or worth a look.

    Args:
        severity: what stops would spoil a training.
        code: stable, for programs.
        value: what came.
        remedy: what to do.
        case: the case's name; None where it concerns several.
        file: with its folder; None where it concerns no file, or several.
    """

    severity: Severity
    code: str
    value: str
    remedy: str
    case: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        place = [part for part in (self.case and f"case {self.case}", self.file) if part]
        return f"{', '.join(place)}{': ' if place else ''}{self.value}; {self.remedy} [{self.code}]"


@dataclass(frozen=True)
class CaseReport:
    """A case that was read, as far as it could be.

    Args:
        case: as read from the data set.
        facts: None where the image can't be used.
        label_counts: pixels of each label; None where the reference is missing, can't be used, or holds values.
        problems: of this case alone.
    """

    case: Case
    facts: CaseFacts | None
    label_counts: Mapping[int, int] | None
    problems: tuple[Problem, ...]


def problem_from_error(error: DataError, case: Case, *paths: Path) -> Problem:
    """A refusal, with its place; its message says what came before the first semicolon, and then what to do."""
    value, _, remedy = error.message.partition("; ")
    return Problem("error", error.code, value, remedy, case.name, "; ".join(map(short_path, paths)))


def short_path(path: Path) -> str:
    """The file with its folder."""
    return f"{path.parent.name}/{path.name}"
