"""Cross-validation: train a run per fold, validated on that fold, and publish the ensemble of their networks."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console

from configs.schema import Config
from datasets.case_checks import check_trainable, examine_cases, examine_dataset
from datasets.cases import Case, prefix_errors
from datasets.splits import UNDECIDED, check_groups, draw_folds, read_splits, write_splits
from disk.publish import publish
from evaluation.comparison.paired_difference import paired_difference
from evaluation.scoring.summary import pool
from imaging.errors import DataError
from inference.compatibility import check_suitable
from inference.plan import plan_image
from inference.predictors.loading import sample_with_logits
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import best_device
from inference.segment import bands
from models import bundle
from models.calibration import ensemble_calibration
from training.data.open_cases import open_labelled_image
from training.data.splitting import SPLITS_FILE, trainable_cases
from training.distributed import check_single_process
from training.image_label_training import mean_label_scores
from training.objective.scoring import make_score
from training.resuming.lineage import checkout_commit, package_versions
from training.resuming.run_folder import lock_run_folder, write_or_check_config
from training.run import train
from training.sweeps.parallel_runs import parallel_devices, train_in_parallel

SCORES = "out_of_fold.csv"  # in the run's folder
SEEDS = 2**31  # `run.seed` is less


@dataclass(frozen=True)
class CaseScore:
    """Score of a case by the network of its fold, which wasn't trained on it; NaN where the case has no score."""

    case: str
    fold: int
    score: float


def train_folds(config: Config, console: Console, on_devices: Sequence[str | None] | None = None) -> Path:
    """Train `trainer.folds` networks and return the folder of their ensemble's bundle.

    All cases with a reference take part, whether cases.csv assigns them to train, val or nothing; test cases never do. Each
    fold is an ordinary run in `fold0`, `fold1` and so on of the run's folder, with the config's steps and minutes and a seed
    of its own. The same command resumes where it was stopped, and skips finished folds.

    Args:
        config: config of the run.
        console: console for progress messages.
        on_devices: values of CUDA_VISIBLE_DEVICES; one process each, in parallel. None: as `parallel_devices` says.

    Raises:
        ConfigError, DataError, NumericError, StorageError, Stopped: as `train` does.
        SystemExit: a fold's process failed; the code is that of the process.
    """
    check_single_process("trainer.folds")
    folder = config.run.folder / config.run.name
    folder.mkdir(parents=True, exist_ok=True)
    with lock_run_folder(folder):
        write_or_check_config(folder, config)
        if (folder / "bundle").exists():
            console.print(f"{folder}: already trained; choose another run.name to train again")
            return folder / "bundle"
        cases = trainable_cases(config.data)
        fold_of = _read_or_draw_folds(config, cases, folder / SPLITS_FILE)
        runs = [_prepare_run(config, number, fold_of) for number in range(config.trainer.folds)]
        _train_unfinished(runs, console, parallel_devices(config) if on_devices is None else on_devices)
        scores = [score for number, run in enumerate(runs) for score in _score_fold(run, number, cases, fold_of)]
        publish(folder / SCORES, lambda part: _write_scores(part, scores))
        name = make_score(config).name
        for number in range(config.trainer.folds):
            console.print(f"fold {number}: {name} {_format_scores([each.score for each in scores if each.fold == number])}")
        console.print(f"out of fold: {name} {_format_scores([each.score for each in scores])}")
        _write_ensemble(folder / "bundle", config, runs, {name: _mean([each.score for each in scores])})
        return folder / "bundle"


def _read_or_draw_folds(config: Config, cases: Sequence[Case], table: Path) -> dict[str, int]:
    """Return the fold of each case from the table of splits, which is drawn and written if it doesn't exist.

    Raises:
        DataError: the cases can't be trained on, there are too few groups, or the table was written for other cases.
    """
    if table.exists():
        read_splits(table, cases)
        with table.open(newline="", encoding="utf-8") as file:
            return {row["case"].removeprefix("'"): int(row["fold"]) for row in csv.DictReader(file)}
    check_groups([case for case in cases if case.split is not None])
    groups, folds = {case.patient for case in cases}, config.trainer.folds
    if len(groups) < folds:
        raise DataError(
            "groups_too_few",
            f"{folds} folds need as many groups, but the {len(cases)} cases come from {len(groups)}; "
            f"set trainer.folds to at most {len(groups)}, or add cases of other patients",
        )
    reports = examine_cases(cases, lambda image: check_suitable(image, config))
    counts = {report.case.name: report.label_counts or {} for report in reports}
    fold_of = draw_folds(cases, folds, config.run.seed, counts)
    fold_names = {name: f"fold {number}" for name, number in fold_of.items()}
    check_trainable(examine_dataset(reports, fold_names, config.image_label.classes))
    publish(table, lambda part: write_splits(part, dict.fromkeys(fold_of, UNDECIDED), fold_of))
    return fold_of


def _prepare_run(config: Config, number: int, fold_of: Mapping[str, int]) -> Config:
    """Return the config of a fold's run, and create its folder with the config and the table of splits."""
    seed = (config.run.seed + number) % SEEDS
    section = {"folder": config.run.folder / config.run.name, "name": f"fold{number}", "seed": seed}
    trainer = config.trainer.model_copy(update={"folds": 0})
    run = config.model_copy(update={"run": config.run.model_copy(update=section), "trainer": trainer})
    folder = run.run.folder / run.run.name
    folder.mkdir(exist_ok=True)
    write_or_check_config(folder, run)
    if not (folder / SPLITS_FILE).exists():
        splits = {case: "val" if fold == number else "train" for case, fold in fold_of.items()}
        publish(folder / SPLITS_FILE, lambda part: write_splits(part, splits, fold_of))
    return run


def _train_unfinished(runs: Sequence[Config], console: Console, on_devices: Sequence[str | None]) -> None:
    unfinished = [run for run in runs if not _bundle_folder(run).exists()]
    for run in runs:
        if run not in unfinished:
            console.print(f"{run.run.name}: already finished")
    if on_devices:
        train_in_parallel(unfinished, on_devices, console)
        return
    for run in unfinished:
        train(run, console)


def _bundle_folder(run: Config) -> Path:
    return run.run.folder / run.run.name / "bundle"


def _score_fold(run: Config, number: int, cases: Sequence[Case], fold_of: Mapping[str, int]) -> Iterator[CaseScore]:
    """Yield the score of each of the fold's cases by the fold's network, as validations compute it."""
    member = bundle.load(_bundle_folder(run))
    predictor = make_predictor(member.config, member.network, member.manifest.class_prior, best_device())
    for case in cases:
        if fold_of[case.name] != number:
            continue
        score = make_score(predictor.config)
        labelled = open_labelled_image(case, predictor.config)
        with labelled.image as image, labelled.reference as reference, prefix_errors(case), torch.inference_mode():
            for band in bands(plan_image(image, predictor)):
                rows = slice(band.start, band.start + band.logits.shape[1])
                score.add(band.logits, reference.read((rows, *(slice(0, size) for size in image.shape[1:]))))
        yield CaseScore(case.name, number, score.value())


def _write_scores(path: Path, scores: Sequence[CaseScore]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("case", "fold", "score"))
        table.writerows((each.case, each.fold, repr(each.score)) for each in scores)


def _format_scores(scores: Sequence[float]) -> str:
    """Return the mean over cases, its interval and the number of cases as text."""
    interval = paired_difference([0.0] * len(scores), scores).interval  # the interval of a difference from 0
    interval_text = f", 95% interval {interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
    return f"{_mean(scores):.3f}{interval_text}, {len(scores)} cases"


def _mean(scores: Sequence[float]) -> float:
    """Return the mean of the scores that aren't NaN, NaN if all are."""
    valid = [score for score in scores if not math.isnan(score)]
    return math.fsum(valid) / len(valid) if valid else math.nan


def _write_ensemble(folder: Path, config: Config, runs: Sequence[Config], validation: Mapping[str, float]) -> None:
    """Write the ensemble's bundle: common facts from the first fold, steps and seconds summed over the folds."""
    members = [bundle.load(_bundle_folder(run)) for run in runs]
    manifests = [member.manifest for member in members]
    priors = [manifest.class_prior for manifest in manifests]
    networks = zip([member.network for member in members], priors, strict=True)
    predictors = [make_predictor(config, network, prior, best_device()) for network, prior in networks]
    calibrations = [manifest.calibration for manifest in manifests if manifest.calibration]
    bundle.write_ensemble(
        folder,
        members,
        config,
        sample=sample_with_logits(members[0].sample.patches, predictors) if members[0].sample else None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        margin_px=manifests[0].margin_px,
        class_prior=tuple(math.fsum(shares) / len(priors) for shares in zip(*priors, strict=True)),
        validation={**validation, **mean_label_scores([manifest.validation for manifest in manifests])},
        metrics=pool([member.metrics for member in members if member.metrics], config.run.name),
        calibration=ensemble_calibration(calibrations) if len(calibrations) == len(members) else None,
        training_steps=sum(manifest.training_steps for manifest in manifests),
        training_seconds=round(sum(manifest.training_seconds for manifest in manifests), 1),
        training_images=tuple(dict.fromkeys(image for manifest in manifests for image in manifest.training_images)),
        versions=package_versions(),
        commit=checkout_commit(),
        intended_use=manifests[0].intended_use,
    )
