"""Splits of a data set: random folds of whole patients with similar contents, and the table that records them."""

import csv
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from datasets.cases import Case
from datasets.labels.counts import join_first
from imaging.errors import DataError

COLUMNS = ("case", "split", "fold")
UNDECIDED = "train or val"  # split of a case that has none
ORDER = ("train", "val", "test", UNDECIDED)

LabelCounts = Mapping[str, Mapping[int, int]]  # pixels of each label by the case's name


def draw_folds(cases: Sequence[Case], folds: int, seed: int, label_counts: LabelCounts | None = None) -> dict[str, int]:
    """Draw the fold of each case by name, 0 .. folds - 1; the order of the cases does not matter.

    Groups are sorted by the classes that they have and by their share of foreground, ties at random. Each run of as many
    groups as there are folds is then distributed at random, one group to each fold. So folds differ by at most one group,
    share the classes as evenly as possible, and never divide a group. Fewer groups than folds give as many folds as groups.

    Args:
        cases: cases to divide.
        folds: number of folds, at least 2.
        seed: seed of the random numbers.
        label_counts: pixels of each label by the case's name; cases that are missing count as empty.

    Raises:
        DataError: `groups_too_few`: there are fewer than 2 groups.
    """
    groups = sorted({case.patient for case in cases})
    if len(groups) < 2:
        raise DataError(
            "groups_too_few",
            f"the {len(cases)} cases come from {len(groups)} group, but training and validation need 2; "
            "add cases of another patient",
        )
    random = np.random.default_rng(seed)
    rank = dict(zip(groups, random.permutation(len(groups)).tolist(), strict=True))
    totals: dict[str, Counter[int]] = {group: Counter() for group in groups}
    for case in cases:
        totals[case.patient].update((label_counts or {}).get(case.name, {}))

    def sort_key(group: str) -> tuple[tuple[int, ...], float, int]:
        counts = totals[group]
        foreground = 1 - counts[0] / max(1, counts.total())
        return tuple(sorted(label for label in counts if label)), foreground, rank[group]

    ordered = sorted(groups, key=sort_key)
    count = min(folds, len(groups))
    fold_of: dict[str, int] = {}  # by group
    for start in range(0, len(ordered), count):
        fold_of.update(zip(ordered[start : start + count], random.permutation(count).tolist(), strict=False))
    return {case.name: fold_of[case.patient] for case in cases}


def check_groups(cases: Sequence[Case]) -> None:
    """Refuse groups with cases in several splits.

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
    """Return the split of each case by name: its own where it has one, else val for those of `fold` and train for others."""
    fold_splits = {name: "val" if number == fold else "train" for name, number in folds.items()}
    return {case.name: case.split or fold_splits[case.name] for case in cases if case.split or case.name in fold_splits}


def write_splits(path: Path, splits: Mapping[str, str], folds: Mapping[str, int]) -> None:
    """Write a table of each case's name, split and, where folds were drawn, fold; sorted by name."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for name, split in sorted(splits.items()):
            is_formula = name.startswith(("'", "=", "+", "-", "@"))  # to a spreadsheet; an apostrophe makes it text
            table.writerow((f"'{name}" if is_formula else name, split, folds.get(name, "")))


def read_splits(path: Path, cases: Sequence[Case]) -> dict[str, str]:
    """Read the split of each case by name, from a table that `write_splits` wrote for the same cases.

    Raises:
        DataError: `splits_unreadable`, or `splits_changed`: the table was written for other cases.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            splits = {row["case"].removeprefix("'"): row["split"] for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise DataError(
            "splits_unreadable", f"{path} can't be read; restore it, or choose another run.name to draw new splits"
        ) from error
    changed = sorted(set(splits) ^ {case.name for case in cases})
    if changed:
        raise DataError(
            "splits_changed",
            f"{path} was written for other cases: {join_first(changed)} were added or removed since; choose another run.name",
        )
    return splits
