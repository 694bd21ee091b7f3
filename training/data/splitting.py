"""Which of a data set's cases train and which validate, for one run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from configs.sections import DataSection
from datasets.cases import Case, read_cases
from datasets.splits import LabelCounts, assign_splits, check_groups, draw_folds, read_splits
from imaging.errors import DataError

FOLDS = 5  # where cases.csv has no split; the first one validates


@dataclass(frozen=True)
class Splits:
    """Which cases train and which validate; no group is in both."""

    train: tuple[Case, ...]
    val: tuple[Case, ...]
    folds: Mapping[str, int] = field(default_factory=dict)  # by case, of those that were drawn

    @property
    def by_case(self) -> dict[str, str]:
        """Each case's split, train or val, by its name."""
        return {case.name: split for split, cases in (("train", self.train), ("val", self.val)) for case in cases}


def trainable_cases(data: DataSection) -> tuple[Case, ...]:
    """The cases with a reference that aren't kept for the test."""
    return _trainable(read_cases(data.path, data))


def split_cases(data: DataSection, seed: int, label_counts: LabelCounts | None = None, written: Path | None = None) -> Splits:
    """The trainable cases by their `split`; where none is given, the first of five folds validates.

    Args:
        data: the config's.
        seed: of the draw.
        label_counts: by case, so that both splits hold alike; cases that aren't in it count as empty.
        written: the run's table of splits, which decides if it exists.

    Raises:
        DataError: train or val is empty, a group is in both, or the table was written for other cases.
    """
    every = read_cases(data.path, data)
    cases = _trainable(every)
    check_groups(every)
    drawn_from = [case for case in cases if case.split is None]
    folds = draw_folds(drawn_from, FOLDS, seed, label_counts) if drawn_from else {}
    assigned = read_splits(written, cases) if written and written.exists() else assign_splits(cases, folds)
    train, val = (tuple(case for case in cases if assigned[case.name] == split) for split in ("train", "val"))
    splits = Splits(train, val, folds)
    _check_splits(splits)
    return splits


def _trainable(cases: Sequence[Case]) -> tuple[Case, ...]:
    return tuple(case for case in cases if case.reference is not None and case.split != "test")


def _check_splits(splits: Splits) -> None:
    for name, cases in (("train", splits.train), ("val", splits.val)):
        if not cases:
            raise DataError(
                "split_empty", f"no case with a reference has split {name!r}; training needs one in train and in val"
            )
