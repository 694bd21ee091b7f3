"""As many runs as there are folds, each validated on another one, and the ensemble of their networks."""

import csv
import math
from collections.abc import Mapping, Sequence
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
from imaging.errors import DataError
from inference.compatibility import check_suitable
from inference.plan import plan_image
from inference.predictors.loading import sample_with_logits
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import Predictor, best_device
from inference.segment import bands
from models import bundle
from training.data.open_cases import open_labelled
from training.data.splitting import trainable_cases
from training.distributed import check_alone
from training.image_label_training import mean_scores
from training.objective.scoring import make_score
from training.resuming.lineage import claim, commit, versions
from training.resuming.run_lock import only_one
from training.run import SPLITS, train
from training.sweeps.parallel_runs import places, train_in_parallel

SCORES = "out_of_fold.csv"  # in the run's folder
SEEDS = 2**31  # `run.seed` is less


@dataclass(frozen=True)
class CaseScore:
    """A case, its fold, and its score by the network that hadn't seen it; NaN where the case says nothing."""

    case: str
    fold: int
    score: float


def train_folds(config: Config, console: Console, on_devices: Sequence[str | None] | None = None) -> Path:
    """Trains `trainer.folds` networks and gives the folder of their ensemble's bundle.

    All cases with a reference take part, whether cases.csv says train, val or nothing of them; those of the test never do.
    Each fold is a run of its own in `fold0`, `fold1` and so on of the run's folder, with the steps and minutes of the config
    and a seed of its own; the same command goes on where it was stopped, and leaves finished folds alone.

    Args:
        config: the run's.
        console: where to say how it goes.
        on_devices: values of CUDA_VISIBLE_DEVICES; a process each, at the same time. None: the GPUs there are, see `places`.

    Raises:
        ConfigError, DataError, NumericError, StorageError, Stopped: as `train` does.
        SystemExit: a process beside this one failed; the code is its own.
    """
    check_alone("trainer.folds")
    folder = config.run.folder / config.run.name
    folder.mkdir(parents=True, exist_ok=True)
    with only_one(folder):
        claim(folder, config)
        if (folder / "bundle").exists():
            console.print(f"{folder}: already trained; choose another run.name to train anew")
            return folder / "bundle"
        cases = trainable_cases(config.data)
        fold_of = _draw_once(config, cases, folder / SPLITS)
        runs = [_fold_config(config, number) for number in range(config.trainer.folds)]
        for number, run in enumerate(runs):
            _prepare(run, number, fold_of)
        _train_all(runs, console, places(config) if on_devices is None else on_devices)
        scored = _score(runs, cases, fold_of)
        publish(folder / SCORES, lambda part: _write_scores(part, scored))
        name = make_score(config).name
        _tell(scored, name, config, console)
        _publish(folder, config, runs, {name: _mean([each.score for each in scored])})
        return folder / "bundle"


def _draw_once(config: Config, cases: Sequence[Case], written: Path) -> dict[str, int]:
    """Each case's fold: as written, else drawn and written.

    Raises:
        DataError: what would spoil a training, too few groups, or the table was written for other cases.
    """
    if written.exists():
        read_splits(written, cases)
        with written.open(newline="", encoding="utf-8") as file:
            return {row["case"].removeprefix("'"): int(row["fold"]) for row in csv.DictReader(file)}
    check_groups([case for case in cases if case.split is not None])
    groups, folds = {case.patient for case in cases}, config.trainer.folds
    if len(groups) < folds:
        raise DataError(
            "groups_too_few",
            f"{folds} folds need as many groups, and the {len(cases)} cases come from {len(groups)}; "
            f"set trainer.folds to at most {len(groups)}, or add cases of other patients",
        )
    reports = examine_cases(cases, lambda image: check_suitable(image, config))
    counts = {report.case.name: report.label_counts or {} for report in reports}
    fold_of = draw_folds(cases, folds, config.run.seed, counts)
    check_trainable(
        examine_dataset(reports, {name: f"fold {number}" for name, number in fold_of.items()}, config.image_label.classes)
    )
    publish(written, lambda part: write_splits(part, dict.fromkeys(fold_of, UNDECIDED), fold_of))
    return fold_of


def _fold_config(config: Config, number: int) -> Config:
    """Of an ordinary run inside of the run's folder."""
    seed = (config.run.seed + number) % SEEDS
    run = {"folder": config.run.folder / config.run.name, "name": f"fold{number}", "seed": seed}
    return config.model_copy(
        update={
            "run": config.run.model_copy(update=run),
            "trainer": config.trainer.model_copy(update={"folds": 0}),
        }
    )


def _prepare(run: Config, number: int, fold_of: Mapping[str, int]) -> None:
    """The fold's folder with its config, and with its table of splits, which an ordinary run goes by."""
    folder = run.run.folder / run.run.name
    folder.mkdir(exist_ok=True)
    claim(folder, run)
    if not (folder / SPLITS).exists():
        splits = {case: "val" if fold == number else "train" for case, fold in fold_of.items()}
        publish(folder / SPLITS, lambda part: write_splits(part, splits, fold_of))


def _train_all(runs: Sequence[Config], console: Console, on_devices: Sequence[str | None]) -> None:
    waiting = [run for run in runs if not _bundle_of(run).exists()]
    for run in runs:
        if run not in waiting:
            console.print(f"{run.run.name}: finished before")
    if on_devices:
        train_in_parallel(waiting, on_devices, console)
        return
    for run in waiting:
        train(run, console)


def _bundle_of(run: Config) -> Path:
    return run.run.folder / run.run.name / "bundle"


def _score(runs: Sequence[Config], cases: Sequence[Case], fold_of: Mapping[str, int]) -> list[CaseScore]:
    """Every case through the network of its own fold, as validations do it."""
    scored = []
    for number, run in enumerate(runs):
        member = bundle.load(_bundle_of(run))
        predictor = make_predictor(member.config, member.network, member.manifest.class_prior, best_device())
        inside = [case for case in cases if fold_of[case.name] == number]
        scored += [CaseScore(case.name, number, _score_of(case, predictor)) for case in inside]
    return scored


def _score_of(case: Case, predictor: Predictor) -> float:
    score = make_score(predictor.config)
    labelled = open_labelled(case, predictor.config)
    with labelled.image as image, labelled.reference as reference, prefix_errors(case), torch.inference_mode():
        for band in bands(plan_image(image, predictor)):
            rows = slice(band.start, band.start + band.logits.shape[1])
            score.add(band.logits, reference.read((rows, *(slice(0, size) for size in image.shape[1:]))))
    return score.value()


def _write_scores(path: Path, scored: Sequence[CaseScore]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("case", "fold", "score"))
        table.writerows((each.case, each.fold, repr(each.score)) for each in scored)


def _tell(scored: Sequence[CaseScore], name: str, config: Config, console: Console) -> None:
    """A line a fold, and one over all."""
    for number in range(config.trainer.folds):
        console.print(f"fold {number}: {name} {_described([each.score for each in scored if each.fold == number])}")
    console.print(f"out of fold: {name} {_described([each.score for each in scored])}")


def _described(scores: Sequence[float]) -> str:
    """The mean over cases and its interval."""
    interval = paired_difference([0.0] * len(scores), scores).interval  # of a difference from nothing
    shown = f", 95% interval {interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
    return f"{_mean(scores):.3f}{shown}, {len(scores)} cases"


def _mean(scores: Sequence[float]) -> float:
    """Over the cases that say something."""
    known = [score for score in scores if not math.isnan(score)]
    return math.fsum(known) / len(known) if known else math.nan


def _publish(folder: Path, config: Config, runs: Sequence[Config], validation: Mapping[str, float]) -> None:
    """The ensemble: what folds have in common is the first one's, steps and seconds are those of all together."""
    members = [bundle.load(_bundle_of(run)) for run in runs]
    manifests = [member.manifest for member in members]
    priors = [manifest.class_prior for manifest in manifests]
    networks = zip([member.network for member in members], priors, strict=True)
    predictors = [make_predictor(config, network, prior, best_device()) for network, prior in networks]
    bundle.write_ensemble(
        folder / "bundle",
        members,
        config,
        sample=sample_with_logits(members[0].sample.patches, predictors) if members[0].sample else None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        margin_px=manifests[0].margin_px,
        class_prior=tuple(math.fsum(shares) / len(priors) for shares in zip(*priors, strict=True)),
        validation={**validation, **mean_scores([manifest.validation for manifest in manifests])},
        training_steps=sum(manifest.training_steps for manifest in manifests),
        training_seconds=round(sum(manifest.training_seconds for manifest in manifests), 1),
        training_images=tuple(dict.fromkeys(image for manifest in manifests for image in manifest.training_images)),
        versions=versions(),
        commit=commit(),
        intended_use=manifests[0].intended_use,
    )
