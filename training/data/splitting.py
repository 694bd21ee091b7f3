"""Splits of a data set's cases into training and validation, for one run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from configs.sections import DataSection
from datasets.cases import Case, read_cases
from datasets.splits import LabelCounts, assign_splits, check_groups, draw_folds, read_splits
from imaging.errors import DataError

FOLDS = 5  # drawn if cases.csv has no splits; the first one validates
SPLITS_FILE = "splits.csv"  # in the run's folder


@dataclass(frozen=True)
class Splits:
    """Training and validation cases; no group is in both."""

    train: tuple[Case, ...]
    val: tuple[Case, ...]
    folds: Mapping[str, int] = field(default_factory=dict)  # by case, for cases whose split was drawn

    @property
    def by_case(self) -> dict[str, str]:
        """Return each case's split, train or val, by the case's name."""
        return {case.name: split for split, cases in (("train", self.train), ("val", self.val)) for case in cases}


def trainable_cases(data: DataSection) -> tuple[Case, ...]:
    """Return the cases that have a reference and are not in split test."""
    return _trainable(read_cases(data.path, data))


def split_cases(
    data: DataSection, seed: int, label_counts: LabelCounts | None = None, splits_file: Path | None = None
) -> Splits:
    """Split the trainable cases as cases.csv says; cases without a split are drawn, and the first of five folds validates.

    Args:
        data: the config's.
        seed: of the draw.
        label_counts: by case, to balance the classes of the splits; cases that are not in it count as empty.
        splits_file: the run's table of splits, which decides if it exists.

    Raises:
        DataError: train or val is empty, a group is in both, or the table was written for other cases.
    """
    all_cases = read_cases(data.path, data)
    cases = _trainable(all_cases)
    check_groups(all_cases)
    unassigned = [case for case in cases if case.split is None]
    folds = draw_folds(unassigned, FOLDS, seed, label_counts) if unassigned else {}
    split_of = read_splits(splits_file, cases) if splits_file and splits_file.exists() else assign_splits(cases, folds)
    train, val = (tuple(case for case in cases if split_of[case.name] == split) for split in ("train", "val"))
    for name, split in (("train", train), ("val", val)):
        if not split:
            raise DataError(
                "split_empty", f"no case with a reference has split {name!r}; training needs one in train and in val"
            )
    return Splits(train, val, folds)


def _trainable(cases: Sequence[Case]) -> tuple[Case, ...]:
    return tuple(case for case in cases if case.reference is not None and case.split != "test")
