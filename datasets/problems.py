"""Problems of a data set with their place and remedy, and the report of a case with its facts and problems."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasets.cases import Case
from datasets.discovery.rows import FolderRemark
from datasets.fingerprint import CaseFacts
from datasets.labels.counts import join_first
from imaging.errors import DataError

LEAST_REPEATS = 4  # cases with the same problem, from which on it is shown once

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
class ProblemGroup:
    """Group of cases with the same problem, which is shown once, or a single problem.

    Args:
        problem: that of the first case.
        cases: names of the cases; empty for a single problem.
        case_count: number of cases in the data set.
    """

    problem: Problem
    cases: tuple[str, ...] = ()
    case_count: int = 0

    @property
    def share(self) -> str:
        """Return the number of cases with the problem as `20 of 20 cases`; empty for a single problem."""
        return f"{len(self.cases)} of {self.case_count} cases" if self.cases else ""

    def __str__(self) -> str:
        if not self.cases:
            return str(self.problem)
        names = f" ({join_first(self.cases)})" if len(self.cases) < self.case_count else ""
        return f"in {self.share}{names}, for example {self.problem}"


def group_problems(problems: Sequence[Problem], case_count: int) -> tuple[ProblemGroup, ...]:
    """Group the problems that LEAST_REPEATS cases or more share; numbers and names of files in the text may differ."""
    repeats: dict[tuple[str, ...], list[Problem]] = defaultdict(list)
    for problem in problems:
        repeats[_pattern(problem)].append(problem)
    groups = []
    for similar in repeats.values():
        if len(similar) < LEAST_REPEATS:
            groups += [ProblemGroup(problem) for problem in similar]
        else:
            names = tuple(dict.fromkeys(problem.case for problem in similar if problem.case))
            groups.append(ProblemGroup(similar[0], names, case_count))
    return tuple(groups)


def _pattern(problem: Problem) -> tuple[str, ...]:
    """Return what is equal in the same problem of several cases: its texts without numbers and names of files."""
    names = (problem.file or "").split("; ")
    texts = [problem.value, problem.remedy]
    for name in [*names, *(name.rpartition("/")[2] for name in names)]:
        texts = [text.replace(name, "#") if name else text for text in texts]
    place = "case" if problem.case else repr(problem)
    return (problem.severity, problem.code, place, *(re.sub(r"[\d.,]*\d", "#", text) for text in texts))


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


def problem_from_remark(remark: FolderRemark) -> Problem:
    """Convert a remark on a data set's folder to a note."""
    return Problem("note", remark.code, remark.text, remark.advice)


def short_path(path: Path) -> str:
    """Return the name of the file with that of its folder."""
    return f"{path.parent.name}/{path.name}"
