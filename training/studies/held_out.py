"""Cases of a study: those that its runs train and validate on, and those that neither training nor validation sees."""

from dataclasses import dataclass

from configs.schema import Config
from datasets.cases import Case, read_cases
from datasets.splits import check_groups, draw_folds
from imaging.errors import DataError
from training.data.splitting import FOLDS

UNUSED = "unused"  # in a run's table of splits: cases that it neither trains nor validates on


@dataclass(frozen=True)
class StudyCases:
    """Cases of a study; no group is in two of the three parts.

    Args:
        train: cases that runs are trained on.
        val: cases by which a run selects its best weights.
        held_out: cases that all methods are scored on.
        origin: sentence that says where the parts come from.
    """

    train: tuple[Case, ...]
    val: tuple[Case, ...]
    held_out: tuple[Case, ...]
    origin: str

    def splits(self, train: tuple[Case, ...] | None = None) -> dict[str, str]:
        """Return the split of each case that a run may use by name; `train` replaces the training cases by some of them."""
        used = {case.name: "train" for case in (self.train if train is None else train)}
        used |= {case.name: "val" for case in self.val}
        trainable = (case for case in (*self.train, *self.val, *self.held_out) if case.split != "test")
        return {case.name: used.get(case.name, UNUSED) for case in trainable}


def divide_cases(config: Config) -> StudyCases:
    """Divide the cases of a config's data set, so that scores are of cases that no run has seen.

    The split `test` is held out. Without it, the split `val` is, and a fifth of the training groups validates instead; without
    any splits, a fifth of the groups is held out and another fifth validates.

    Raises:
        DataError: the data can't be read, a group is in several splits, or there are fewer than three groups.
    """
    cases = tuple(case for case in read_cases(config.data.path, config.data) if case.reference is not None)
    check_groups(cases)
    names = {case.split for case in cases}
    if "test" in names:
        held_out_name, origin = "test", "The cases of the split test are held out."
    elif "val" in names:
        held_out_name = "val"
        origin = "The cases of the split val are held out, and a fifth of the training groups validates instead."
    else:
        folds = _draw_folds(cases, config)
        held_out = tuple(case for case in cases if folds[case.name] == 0)
        val = tuple(case for case in cases if folds[case.name] == 1)
        train = tuple(case for case in cases if folds[case.name] > 1)
        return StudyCases(train, val, held_out, "A random fifth of the groups is held out, and another fifth validates.")
    held_out = tuple(case for case in cases if case.split == held_out_name)
    rest = tuple(case for case in cases if case.split != held_out_name)
    if held_out_name == "test" and any(case.split == "val" for case in rest):
        val = tuple(case for case in rest if case.split == "val")
    else:
        folds = _draw_folds(rest, config)
        val = tuple(case for case in rest if folds[case.name] == 0)
    val_names = {case.name for case in val}
    return StudyCases(tuple(case for case in rest if case.name not in val_names), val, held_out, origin)


def _draw_folds(cases: tuple[Case, ...], config: Config) -> dict[str, int]:
    """Return the fold of each case by name.

    Raises:
        DataError: `groups_too_few`.
    """
    groups = {case.patient for case in cases}
    if len(groups) < 3:
        raise DataError(
            "groups_too_few",
            f"a study trains, validates and scores on different groups, and the {len(cases)} cases to divide come from "
            f"{len(groups)}; add cases of other patients, or give the cases splits with: overtile cases",
        )
    return draw_folds(cases, FOLDS, config.run.seed)
