"""Problems of a data set with their place and remedy, and the report of a case with its facts and problems."""

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
    """Problem of a data set: an error, which training refuses, or a note.

    Args:
        severity: "error" or "note".
        code: stable identifier for programs.
        value: description of the problem.
        remedy: what to do about it.
        case: name of the case; None where it concerns several.
        file: name of the file and its folder; None where it concerns no file, or several.
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
    """Report of one examined case.

    Args:
        case: the case.
        facts: facts of its image and reference; None where the image can't be read.
        label_counts: pixels of each label; None where the reference is missing, can't be read, or holds values.
        problems: problems of this case alone.
    """

    case: Case
    facts: CaseFacts | None
    label_counts: Mapping[int, int] | None
    problems: tuple[Problem, ...]

    @property
    def foreground_share(self) -> float | None:
        """Share of the reference's pixels with a label above 0; None without counted labels."""
        if not self.label_counts:
            return None
        return 1 - self.label_counts.get(0, 0) / sum(self.label_counts.values())


def problem_from_error(error: DataError, case: Case, *paths: Path) -> Problem:
    """Convert an error about a case to a problem; up to its first semicolon the message describes it, then the remedy."""
    value, _, remedy = error.message.partition("; ")
    return Problem("error", error.code, value, remedy, case.name, "; ".join(map(short_path, paths)))


def short_path(path: Path) -> str:
    """Return the name of the file with that of its folder."""
    return f"{path.parent.name}/{path.name}"
