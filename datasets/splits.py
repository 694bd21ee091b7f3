"""Cases -> which train and which validate: whole patients, alike in what they hold, drawn by a seed and written down."""

import csv
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from datasets.cases import Case
from datasets.references import join_first
from imaging.errors import DataError

COLUMNS = ("case", "split", "fold")
UNDECIDED = "train or val"  # a case without a split
ORDER = ("train", "val", "test", UNDECIDED)

LabelCounts = Mapping[str, Mapping[int, int]]  # pixels of each label by the case's name


def draw_folds(cases: Sequence[Case], folds: int, seed: int, label_counts: LabelCounts | None = None) -> dict[str, int]:
    """Each case's fold, 0 .. folds - 1, the same for any order of the cases.

    Groups are sorted by the classes that they hold and by their share of foreground, ties at random; each run of as many
    groups as there are folds is then dealt out, one to a fold. So folds differ by at most one group, hold classes as evenly
    as can be, and no group is in two. Where there are fewer groups than folds, there are as many folds as groups.

    Args:
        cases: all to be drawn from.
        folds: at least 2.
        seed: equal seeds draw equally.
        label_counts: of each case; cases that aren't in it count as empty.

    Raises:
        DataError: `groups_too_few`: fewer than 2.
    """
    groups = sorted({case.patient for case in cases})
    if len(groups) < 2:
        raise DataError(
            "groups_too_few",
            f"the {len(cases)} cases come from {len(groups)} group; to train and to validate takes 2: "
            "add cases of another patient",
        )
    random = np.random.default_rng(seed)
    rank = dict(zip(groups, random.permutation(len(groups)).tolist(), strict=True))
    contents = _contents(cases, label_counts or {})
    ordered = sorted(groups, key=lambda group: (*contents[group], rank[group]))
    count = min(folds, len(groups))
    fold_of: dict[str, int] = {}
    for start in range(0, len(ordered), count):
        dealt = zip(ordered[start : start + count], random.permutation(count).tolist(), strict=False)
        fold_of.update(dealt)
    return {case.name: fold_of[case.patient] for case in cases}


def check_groups(cases: Sequence[Case]) -> None:
    """Nothing, when no group has cases of two splits.

    Raises:
        DataError: `group_in_both_splits`, with every group.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        splits[case.patient].add(case.split or UNDECIDED)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for group, names in sorted(splits.items()):
        groups[tuple(sorted(names, key=ORDER.index))].append(group)
    divided = [
        f"groups {join_first(members)} are in {' and in '.join(names)}" for names, members in groups.items() if len(names) > 1
    ]
    if divided:
        raise DataError("group_in_both_splits", f"{', '.join(divided)}; put every case of a group into one split")


def assign_splits(cases: Sequence[Case], folds: Mapping[str, int], fold: int = 0) -> dict[str, str]:
    """Split by case: the table's where it has one, else val for those of that fold and train for the others."""
    drawn = {name: "val" if number == fold else "train" for name, number in folds.items()}
    return {case.name: case.split or drawn[case.name] for case in cases if case.split or case.name in drawn}


def write_splits(path: Path, splits: Mapping[str, str], folds: Mapping[str, int]) -> None:
    """A table of case, split and, where it was drawn, fold; sorted by case."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows((_as_text(name), split, folds.get(name, "")) for name, split in sorted(splits.items()))


def read_splits(path: Path, cases: Sequence[Case]) -> dict[str, str]:
    """Split by case, as written; of exactly these cases.

    Raises:
        DataError: `splits_unreadable`, or `splits_changed`: cases came or went since.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            splits = {row["case"].removeprefix("'"): row["split"] for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise DataError(
            "splits_unreadable", f"{path} can't be read; restore it, or choose another run.name to draw anew"
        ) from error
    changed = sorted(set(splits) ^ {case.name for case in cases})
    if changed:
        raise DataError(
            "splits_changed",
            f"{path} was written for other cases: {join_first(changed)} came or went since; choose another run.name",
        )
    return splits


def _as_text(name: str) -> str:
    """With an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{name}" if name.startswith(("'", "=", "+", "-", "@")) else name


def _contents(cases: Sequence[Case], label_counts: LabelCounts) -> dict[str, tuple[tuple[int, ...], float]]:
    """The foreground's classes and share by group."""
    totals: dict[str, Counter[int]] = {}
    for case in cases:
        totals.setdefault(case.patient, Counter()).update(label_counts.get(case.name, {}))
    return {
        group: (tuple(sorted(label for label in counts if label)), 1 - counts[0] / max(1, counts.total()))
        for group, counts in totals.items()
    }
