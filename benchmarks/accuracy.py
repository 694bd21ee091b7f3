"""Accuracy of bundles, and of other tools' masks, on held-out cases; all are scored by the same code.

    PYTHONPATH=. .venv/bin/python benchmarks/accuracy.py DATA BUNDLE NAME=BUNDLE NAME=FOLDER ...
        [--split val] [--membranes] [--surface 2000] [--config CONFIG] [--set inference.object_sigma_px=3]

DATA is a data set whose cases.csv has a split. A bundle segments each case as `overtile predict` does. FOLDER holds another
tool's masks, one file per case, named like the case or its first image. The meaning of the labels is that of the first bundle's
config, or of `--config` without a bundle.

The metrics are Dice of each class and their mean; PQ and F1 at an IoU above .5 if references number objects, with the objects
of a mask as connected components and split by watershed; with `--membranes` V^Rand and V^Info of class 1; with `--surface` HD95
and the surface Dice at that tolerance in micrometres, or in pixels if cases have no spacing. Another tool's mask of numbered
objects is scored unchanged. Means and bootstrap intervals are over cases; differences are paired.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import schema
from configs.inference_section import InferenceSection
from configs.schema import Config
from datasets.cases import Case, open_case_image, prefix_errors
from datasets.references import open_reference
from evaluation.comparison.held_out import check_not_trained_on, group_note, select_held_out_cases
from evaluation.comparison.measurement import describe_machine
from evaluation.comparison.paired_difference import paired_difference
from evaluation.comparison.threshold_baseline import score_threshold_baseline
from evaluation.metrics.instances import match_objects
from evaluation.metrics.membranes import membrane_scores
from evaluation.metrics.object_pair import ObjectPair
from evaluation.metrics.overlap import confusion, nan_mean, overlaps_from_counts
from evaluation.metrics.surface_distance import StructurePair, hd95, nsd
from imaging.errors import DataError
from imaging.open import open_image, stem_of
from imaging.source import ImageSource
from inference.objects.find import number_objects
from inference.predictors.loading import load_predictor
from inference.segment import segment_array
from models import bundle
from models.bundle import Bundle

OBJECT_METHODS = ("components", "watershed")
LABEL_HEADS = ("softmax", "sigmoid", "ordinal")  # heads whose mask has one class per pixel

Array = NDArray[Any]
Groups = Sequence[str | None]  # of the cases


@dataclass(frozen=True)
class Contender:
    """Source of the masks that are scored: a bundle, or another tool if `bundle` is None."""

    name: str
    mask_of: Callable[[Case], Array]
    bundle: Bundle | None = None


@dataclass(frozen=True)
class ScoreOptions:
    """Metrics beyond Dice: `tolerance` of the surface Dice, None without it; `objects` says how a mask is split."""

    config: Config
    objects: InferenceSection
    membranes: bool
    tolerance: float | None


@dataclass(frozen=True)
class Scores:
    """Scores of one contender.

    `values` has one value per case for each metric, NaN if it isn't defined. `one_sided` is the number of structures that only
    the mask or only the reference has.
    """

    values: dict[str, list[float]]
    one_sided: int


def main() -> None:
    """Print two tables in Markdown: the scores, and the difference of each contender from the first."""
    arguments = _arguments()
    contenders = [_contender(text) for text in arguments.contenders]
    bundles = [contender.bundle for contender in contenders if contender.bundle]
    config = _config(arguments, bundles)
    split, cases = select_held_out_cases(arguments.data, arguments.split, config.data)
    if split == "test":
        check_not_trained_on(cases, bundles)
    options = ScoreOptions(config, config.inference, arguments.membranes, arguments.surface)
    scores = [scores_of(contender, cases, options) for contender in contenders]
    groups = [case.group for case in cases]
    print("\n".join([_introduction(arguments.data, split, cases, config), "", *table(contenders, scores, groups)]))
    if len(config.data.classes) == 2 and config.data.ignore_index is None:
        floor = score_threshold_baseline(cases)
        print(f"| Otsu's threshold, {floor.foreground} | | | {_mean(floor.dice, groups)} |{' |' * (len(scores[0].values) - 1)}")
    if len(contenders) > 1:
        print("\n".join(["", *differences(contenders, scores, groups)]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("contenders", nargs="+", metavar="[NAME=]FOLDER", help="bundles, and folders of other tools' masks")
    parser.add_argument("--split", help="split to score; by default test, or val if there is no test split")
    parser.add_argument("--membranes", action="store_true", help="score V^Rand and V^Info of the cells that class 1 separates")
    parser.add_argument("--surface", type=float, metavar="TOLERANCE", help="score HD95, and surface Dice at this (um)")
    parser.add_argument("--config", type=Path, help="meaning of the labels and settings of objects, instead of a bundle's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override of the config",
    )
    return parser.parse_args()


def _config(arguments: argparse.Namespace, bundles: Sequence[Bundle]) -> Config:
    """Return the config that says what labels mean and how masks are split into objects."""
    path = arguments.config or (bundles[0].folder / bundle.CONFIG if bundles else None)
    if path is None:
        raise SystemExit("the meaning of the labels is unknown; give a bundle, or --config CONFIG")
    config = schema.load(path, arguments.set)
    if config.head.kind not in LABEL_HEADS:
        raise SystemExit(f"head.kind {config.head.kind} has no labels to score; allowed are {', '.join(LABEL_HEADS)}")
    return config


def _contender(text: str) -> Contender:
    """Return the contender of an argument [NAME=]FOLDER: a bundle, or a folder of masks."""
    name, _, folder = text.rpartition("=")
    if not (Path(folder) / bundle.MANIFEST).exists():
        return Contender(name or Path(folder).name, lambda case: _mask_in(Path(folder), case))
    loaded = bundle.load(Path(folder))
    predictor = load_predictor(loaded)

    def segment_case(case: Case) -> Array:
        with open_case_image(case) as image:
            return segment_array(image, predictor)

    return Contender(name or loaded.manifest.name, segment_case, loaded)


def _mask_in(folder: Path, case: Case) -> Array:
    """Return another tool's mask of a case."""
    names = (case.name, stem_of(case.images[0]))
    masks = [path for path in sorted(folder.iterdir()) if path.is_file() and stem_of(path) in names]
    if len(masks) != 1:
        raise DataError("mask_missing", f"{folder} holds {len(masks)} masks named {' or '.join(names)}; one is needed")
    with open_image(masks[0], labels=True) as mask:
        return _pixels(mask)


def scores_of(contender: Contender, cases: Sequence[Case], options: ScoreOptions) -> Scores:
    """Return the scores of a contender's masks of all cases."""
    values: dict[str, list[float]] = {}
    one_sided = 0
    for case in cases:
        with prefix_errors(case):
            case_values, missed = _case_scores(contender.mask_of(case), case, options)
        one_sided += missed
        for metric, value in case_values.items():
            values.setdefault(metric, []).append(value)
    if any(len(of_cases) < len(cases) for of_cases in values.values()):
        raise SystemExit("some cases have a spacing and others have none; give spacing_um in cases.csv, or leave --surface out")
    return Scores(values, one_sided)


def _case_scores(mask: Array, case: Case, options: ScoreOptions) -> tuple[dict[str, float], int]:
    """Return all metrics of one case, and the number of structures that were missed or invented."""
    data = options.config.data
    numbered = mask if data.instances and mask.max(initial=0) > 1 else None
    labels = mask if numbered is None else (mask > 0).astype(np.uint8)
    with open_reference(case) as source:
        reference = _pixels(source)
    counts = confusion(labels, reference, len(data.classes), ignore_label=data.ignore_index)
    values = _dice(counts, [section.name for section in data.classes])
    is_scored = np.ones(reference.shape, bool) if data.ignore_index is None else reference != data.ignore_index
    if data.instances:
        with open_reference(case, numbered=True) as source:
            values |= _instances(labels, numbered, np.where(is_scored, _pixels(source), 0), is_scored, options.objects)
    if options.membranes:
        cells = membrane_scores(labels == 1, (reference == 1) | ~is_scored)
        values |= {"V^Rand": cells.rand, "V^Info": cells.info}
    if options.tolerance is None:
        return values, 0
    distances, missed = _surfaces(labels * is_scored, reference * is_scored, case, options)
    return values | distances, missed


def _dice(counts: NDArray[np.int64], names: Sequence[str]) -> dict[str, float]:
    overlaps = overlaps_from_counts(counts)
    each = {f"Dice, {name}": value for name, value in zip(names[1:], overlaps.dice, strict=True)}
    return {"Dice": overlaps.macro_dice} | (each if len(each) > 1 else {})


def _instances(
    labels: Array, numbered: Array | None, reference: Array, is_scored: NDArray[np.bool_], section: InferenceSection
) -> dict[str, float]:
    values: dict[str, float] = {}
    for method in OBJECT_METHODS:
        objects = number_objects(labels, section.model_copy(update={"objects": method})) if numbered is None else numbered
        matches = match_objects(ObjectPair(np.where(is_scored, objects, 0), reference))
        values |= {f"PQ, {method}": matches.pq, f"F1, {method}": matches.f1}
    return values


def _surfaces(labels: Array, reference: Array, case: Case, options: ScoreOptions) -> tuple[dict[str, float], int]:
    """Return the distance metrics of one case, means over classes, and the number of missed or invented structures."""
    with open_case_image(case) as image:
        spacing_um = image.spacing_um
    classes = range(1, len(options.config.data.classes))
    tolerance = options.tolerance or 0.0
    pairs = [StructurePair(labels == label, reference == label, spacing_um, tolerance) for label in classes]
    unit = pairs[0].unit
    values = {
        f"HD95, {unit}": nan_mean(map(hd95, pairs)),
        f"surface Dice at {tolerance:g} {unit}": nan_mean(map(nsd, pairs)),
    }
    return values, sum(pair.is_one_sided for pair in pairs)


def table(contenders: Sequence[Contender], scores: Sequence[Scores], groups: Groups) -> list[str]:
    """Return the table of scores: per contender the duration of its training, and the mean of each metric with its interval.

    In means and intervals each group of cases counts once.
    """
    metrics = list(scores[0].values)
    lines = _head(["", "training, min", "steps", *metrics])
    for contender, score in zip(contenders, scores, strict=True):
        manifest = contender.bundle.manifest if contender.bundle else None
        cost = [f"{manifest.training_seconds / 60:.1f}", f"{manifest.training_steps:,}"] if manifest else ["", ""]
        missed = f", {score.one_sided} missed or invented" if score.one_sided else ""
        cells = [_mean(score.values[metric], groups) + (missed if metric.startswith("HD95") else "") for metric in metrics]
        lines.append(_row([contender.name, *cost, *cells]))
    return lines


def differences(contenders: Sequence[Contender], scores: Sequence[Scores], groups: Groups) -> list[str]:
    """Return the table of paired differences of each other contender from the first."""
    metrics = list(scores[0].values)
    lines = _head([f"minus {contenders[0].name}", *metrics])
    for contender, score in zip(contenders[1:], scores[1:], strict=True):
        pairs = [paired_difference(scores[0].values[metric], score.values[metric], groups=groups) for metric in metrics]
        lines.append(_row([contender.name, *[_value_text(pair.mean, pair.interval, "+") for pair in pairs]]))
    return lines


def _mean(values: Sequence[float], groups: Groups) -> str:
    """Return the mean over the cases that have a value, with its interval, and the number of cases without one."""
    mean = paired_difference([0.0] * len(values), values, groups=groups)  # the values themselves, resampled alike
    empty = sum(math.isnan(value) for value in values)
    return _value_text(mean.mean, mean.interval) + (f", {empty} empty" if empty else "")


def _value_text(mean: float, interval: tuple[float, float] | None, sign: str = "") -> str:
    form = f"{sign}.3f" if abs(mean) < 10 else f"{sign},.1f"
    ends = f" ({interval[0]:{form}} to {interval[1]:{form}})" if interval else ""
    return f"{mean:{form}}{ends}"


def _head(cells: Sequence[str]) -> list[str]:
    return [_row(cells), _row(["---"] + ["---:"] * (len(cells) - 1))]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _introduction(data: Path, split: str, cases: Sequence[Case], config: Config) -> str:
    """Return a line about the data, the machine and the versions, with notes that a reader needs for the scores."""
    ran_on = describe_machine()
    versions = ", ".join(f"{name} {version}" for name, version in ran_on.versions.items())
    objects = f" Watershed's sigma {config.inference.object_sigma_px:g} px." if config.data.instances else ""
    notes = [note for note in (group_note(cases),) if note and split == "test"]
    if split != "test":
        notes.append("These cases chose the checkpoints: the numbers are better than on unseen cases.")
    return (
        f"{data.resolve().name}, {len(cases)} cases of split {split}; mean over cases, 95% bootstrap interval over cases. "
        f"{ran_on.processor}, {ran_on.cores} cores, {ran_on.device}, {versions}.{objects} {' '.join(notes)}".rstrip()
    )


def _pixels(source: ImageSource) -> Array:
    return np.concatenate([block[0] for block in source.blocks()])  # (*S)


if __name__ == "__main__":
    main()
