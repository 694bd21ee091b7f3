"""Every case read once before a run's first step: all that is wrong with them, their splits, and which bytes they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.schema import Config
from datasets.case_checks import Examination, check_trainable, examine_cases, examine_dataset
from datasets.cases import prefix_errors
from datasets.fingerprint import sha256_of_path
from datasets.problems import CaseReport
from datasets.splits import write_splits
from disk.publish import publish
from inference.compatibility import check_suitable
from models.heads import make_head
from training.data.open_cases import Statistics, open_case, open_labelled
from training.data.sampling import PatchSampler, take_census
from training.data.splitting import Splits, split_cases, trainable_cases

Digests = Mapping[str, tuple[str, ...]]  # SHA-256 of a case's files, the reference last, by the case's name


@dataclass(frozen=True)
class Examined:
    """What a run trains on.

    Args:
        splits: which cases train and which validate.
        digests: of each case's files.
        images: SHA-256 of all image files.
        examination: what was found in them.
    """

    splits: Splits
    digests: Digests
    images: tuple[str, ...]
    examination: Examination


def examine(config: Config, written: Path, *, write: bool = True) -> Examined:
    """Reads every case of train and val, and splits them as the table says; it is written where there is none.

    Args:
        config: the run's.
        written: the table's path.
        write: of several processes only the first does.

    Raises:
        DataError: all that would spoil a training.
    """
    cases = trainable_cases(config.data)
    reports = examine_cases(cases, lambda image: check_suitable(image, config))
    labels = config.image_label.classes
    check_trainable(examine_dataset(reports, {case.name: case.split for case in cases if case.split}, labels))
    counts = {report.case.name: report.label_counts or {} for report in reports}
    splits = split_cases(config.data, config.run.seed, counts, written)
    examination = examine_dataset(reports, splits.by_case, labels)
    check_trainable(examination)
    _check_values(splits, config)
    if write and not written.exists():
        publish(written, lambda part: write_splits(part, splits.by_case, splits.folds))
    used = {report.case.name: report for report in reports if report.case.name in splits.by_case}
    images = {name: report.facts.sha256 if report.facts else () for name, report in used.items()}
    digests = {name: (*images[name], *_reference_digests(report), *_label(report, labels)) for name, report in used.items()}
    ordered = (*splits.train, *splits.val)
    return Examined(splits, digests, tuple(digest for case in ordered for digest in images[case.name]), examination)


def make_sampler(splits: Splits, config: Config) -> tuple[PatchSampler, dict[int, Statistics]]:
    """What says where patches are cut, and each training image's statistics, so that no image is read for them again."""
    censuses, statistics = [], {}
    for number, case in enumerate(splits.train):
        labelled = open_case(case, config)
        with labelled.image, labelled.reference, prefix_errors(case):
            seed = config.run.seed + number
            censuses.append(take_census(labelled.labels, len(config.data.classes), seed, config.data.ignore_label))
            statistics[number] = labelled.statistics
    return PatchSampler(censuses, config), statistics


def _reference_digests(report: CaseReport) -> tuple[str, ...]:
    case = report.case
    return tuple(sha256_of_path(path) for path in (case.reference, *case.other_references) if path is not None)


def _label(report: CaseReport, classes: Sequence[str]) -> tuple[str, ...]:
    """What stands in the table and decides what the run comes to, too."""
    return (f"label {report.case.label}",) if classes and report.case.label else ()


def _check_values(splits: Splits, config: Config) -> None:
    """Values to validate by are read once, since those that don't suit are told when they are read."""
    for case in splits.val if make_head(config).gives_values else ():
        labelled = open_labelled(case, config)
        with labelled.image, labelled.reference, prefix_errors(case):
            for _ in labelled.reference.blocks():
                pass
