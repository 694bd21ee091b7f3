"""Examination before a run's first step: every case is read once for problems, splits and digests of its files."""

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
from training.data.open_cases import ImageStatistics, open_labelled_image, open_training_image
from training.data.sampling import PatchSampler, index_labels
from training.data.splitting import Splits, split_cases, trainable_cases

Digests = Mapping[str, tuple[str, ...]]  # SHA-256 of a case's files, references last, by the case's name


@dataclass(frozen=True)
class ExaminedData:
    """The cases of a run after their examination.

    Args:
        splits: training and validation cases.
        digests: of each case's files.
        images: SHA-256 of all image files.
        examination: reports and problems of the cases.
    """

    splits: Splits
    digests: Digests
    images: tuple[str, ...]
    examination: Examination


def examine_data(config: Config, splits_file: Path, *, write: bool = True) -> ExaminedData:
    """Read every case of train and val, and split them as the run's table of splits says; write the table if it is missing.

    Args:
        config: the run's.
        splits_file: the table's path.
        write: whether this process, of several, writes the table.

    Raises:
        DataError: with all problems that prevent training.
    """
    cases = trainable_cases(config.data)
    reports = examine_cases(cases, lambda image: check_suitable(image, config))
    labels = config.image_label.classes
    check_trainable(examine_dataset(reports, {case.name: case.split for case in cases if case.split}, labels))
    counts = {report.case.name: report.label_counts or {} for report in reports}
    splits = split_cases(config.data, config.run.seed, counts, splits_file)
    examination = examine_dataset(reports, splits.by_case, labels)
    check_trainable(examination)
    _check_values(splits, config)
    if write and not splits_file.exists():
        publish(splits_file, lambda part: write_splits(part, splits.by_case, splits.folds))
    split_reports = {report.case.name: report for report in reports if report.case.name in splits.by_case}
    images = {name: report.facts.sha256 if report.facts else () for name, report in split_reports.items()}
    digests = {name: (*images[name], *_reference_digests(report, labels)) for name, report in split_reports.items()}
    image_digests = tuple(digest for case in (*splits.train, *splits.val) for digest in images[case.name])
    return ExaminedData(splits, digests, image_digests, examination)


def make_sampler(splits: Splits, config: Config) -> tuple[PatchSampler, dict[int, ImageStatistics]]:
    """Index the labels of the training cases; return a sampler and each image's statistics by the number of its case."""
    indices, statistics = [], {}
    for number, case in enumerate(splits.train):
        labelled = open_training_image(case, config)
        with labelled.image, labelled.reference, prefix_errors(case):
            seed = config.run.seed + number
            indices.append(index_labels(labelled.labels, len(config.data.classes), seed, config.data.ignore_index))
            statistics[number] = labelled.statistics
    return PatchSampler(indices, config), statistics


def _reference_digests(report: CaseReport, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the digests of a case's references, and its image label where the run trains on labels."""
    case = report.case
    references = tuple(sha256_of_path(path) for path in (case.reference, *case.other_references) if path is not None)
    return (*references, f"label {case.label}") if classes and case.label else references


def _check_values(splits: Splits, config: Config) -> None:
    """Read the validation references of heads that predict values once, which raises if a value is not allowed."""
    for case in splits.val if make_head(config).gives_values else ():
        labelled = open_labelled_image(case, config)
        with labelled.image, labelled.reference, prefix_errors(case):
            for _ in labelled.reference.blocks():
                pass
