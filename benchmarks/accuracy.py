"""How good trained bundles are on cases they weren't trained on, beside other tools' masks, all scored by the same code.

    PYTHONPATH=. .venv/bin/python benchmarks/accuracy.py DATA BUNDLE NAME=BUNDLE NAME=FOLDER ...
        [--split val] [--membranes] [--surface 2000] [--config CONFIG] [--set inference.object_sigma_px=3]

DATA holds cases.csv with a split. A bundle segments each case as `overtile predict` does; FOLDER holds another tool's masks,
one file a case, named like the case or its first image. What labels mean is taken from the first bundle, or from `--config`
where there is none. Scored are Dice (of every class, and their mean); for references that number objects PQ and F1 at an IoU
above .5, with objects as connected pieces and split by watershed; with `--membranes` V^Rand and V^Info of class 1; with
`--surface` HD95 and the surface Dice at that tolerance in micrometres, in pixels where cases have no spacing. Another tool's
mask of numbered objects is taken as it is. Means are over cases, intervals bootstrapped over cases; differences are paired.
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
from configs.schema import Config
from configs.sections import InferenceSection
from datasets.cases import Case, about, open_case_image
from datasets.references import open_reference
from evaluation.comparison.held_out import check_unseen, group_note, held_out_cases
from evaluation.comparison.measurement import machine
from evaluation.comparison.paired_difference import difference_of
from evaluation.comparison.threshold_baseline import floor_of
from evaluation.metrics.instances import match
from evaluation.metrics.membranes import membrane_scores
from evaluation.metrics.overlap import confusion, mean_of, overlaps_of
from evaluation.metrics.surface_distance import surface_scores
from imaging.errors import DataError
from imaging.open import open_image, stem_of
from imaging.source import ImageSource
from inference.objects import objects_of
from inference.predictors.loading import load_predictor
from inference.segment import segment_array
from models import bundle
from models.bundle import Bundle

WAYS = ("components", "watershed")
LABELLED = ("softmax", "sigmoid", "ordinal")  # heads whose mask is one class a pixel

Array = NDArray[Any]


@dataclass(frozen=True)
class Contender:
    """Whose masks are scored; no `bundle`: another tool's."""

    name: str
    mask_of: Callable[[Case], Array]
    bundle: Bundle | None = None


@dataclass(frozen=True)
class Wishes:
    """What is scored, beyond Dice: `tolerance` of the surface Dice or None; `objects` how masks become objects."""

    config: Config
    objects: InferenceSection
    membranes: bool
    tolerance: float | None


@dataclass(frozen=True)
class Scores:
    """Of one contender: a value a case for each metric, NaN where there is none; structures that only one side has."""

    values: dict[str, list[float]]
    one_sided: int


def main() -> None:
    """Prints two tables in Markdown: the scores, and what each contender differs by from the first."""
    arguments = _arguments()
    contenders = [_contender(text) for text in arguments.contenders]
    bundles = [contender.bundle for contender in contenders if contender.bundle]
    config = _config(arguments, bundles)
    split, cases = held_out_cases(arguments.data, arguments.split, config.data)
    if split == "test":
        check_unseen(cases, bundles)
    wishes = Wishes(config, config.inference, arguments.membranes, arguments.surface)
    scores = [scores_of(contender, cases, wishes) for contender in contenders]
    print("\n".join([_introduction(arguments.data, split, cases, config), "", *table(contenders, scores)]))
    if len(config.data.classes) == 2 and config.data.ignore_label is None:
        floor = floor_of(cases)
        print(f"| Otsu's threshold, {floor.foreground} | | | {_mean(floor.dice)} |{' |' * (len(scores[0].values) - 1)}")
    if len(contenders) > 1:
        print("\n".join(["", *differences(contenders, scores)]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("contenders", nargs="+", metavar="[NAME=]FOLDER", help="bundles, and folders of other tools' masks")
    parser.add_argument("--split", help="which cases; test where there is one, else val")
    parser.add_argument("--membranes", action="store_true", help="V^Rand and V^Info of the cells between class 1")
    parser.add_argument("--surface", type=float, metavar="TOLERANCE", help="HD95, and surface Dice at this tolerance in um")
    parser.add_argument("--config", type=Path, help="what labels mean and how objects are made, where no bundle says it")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as inference.object_sigma_px=3")
    return parser.parse_args()


def _config(arguments: argparse.Namespace, bundles: Sequence[Bundle]) -> Config:
    """What labels mean, and how masks become objects."""
    path = arguments.config or (bundles[0].folder / bundle.CONFIG if bundles else None)
    if path is None:
        raise SystemExit("nothing says what labels mean; give a bundle, or --config CONFIG")
    config = schema.load(path, arguments.set)
    if config.head.kind not in LABELLED:
        raise SystemExit(f"head.kind {config.head.kind} has no labels to score; allowed are {', '.join(LABELLED)}")
    return config


def _contender(text: str) -> Contender:
    """A bundle, or a folder of masks, with a name or without one."""
    name, _, folder = text.rpartition("=")
    if not (Path(folder) / bundle.MANIFEST).exists():
        return Contender(name or Path(folder).name, lambda case: _mask_in(Path(folder), case))
    loaded = bundle.load(Path(folder))
    predictor = load_predictor(loaded)

    def segmented(case: Case) -> Array:
        with open_case_image(case) as image:
            return segment_array(image, predictor)

    return Contender(name or loaded.manifest.name, segmented, loaded)


def _mask_in(folder: Path, case: Case) -> Array:
    """The other tool's mask of a case."""
    names = (case.name, stem_of(case.images[0]))
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and stem_of(path) in names]
    if len(found) != 1:
        raise DataError("mask_missing", f"{folder} holds {len(found)} masks named {' or '.join(names)}; one is needed")
    with open_image(found[0], labels=True) as mask:
        return _pixels(mask)


def scores_of(contender: Contender, cases: Sequence[Case], wishes: Wishes) -> Scores:
    """Every case through the contender, one after the other."""
    values: dict[str, list[float]] = {}
    one_sided = 0
    for case in cases:
        with about(case):
            found, missed = _case_scores(contender.mask_of(case), case, wishes)
        one_sided += missed
        for metric, value in found.items():
            values.setdefault(metric, []).append(value)
    if any(len(of_cases) < len(cases) for of_cases in values.values()):
        raise SystemExit("some cases have a spacing and others have none; give spacing_um in cases.csv, or leave --surface out")
    return Scores(values, one_sided)


def _case_scores(mask: Array, case: Case, wishes: Wishes) -> tuple[dict[str, float], int]:
    """Every metric of one case, and how many structures were missed or invented."""
    data = wishes.config.data
    numbered = mask if data.instances and mask.max(initial=0) > 1 else None
    labels = mask if numbered is None else (mask > 0).astype(np.uint8)
    with open_reference(case) as source:
        reference = _pixels(source)
    counts = confusion(labels, reference, len(data.classes), ignore_label=data.ignore_label)
    found = _dice(counts, [section.name for section in data.classes])
    kept = np.ones(reference.shape, bool) if data.ignore_label is None else reference != data.ignore_label
    if data.instances:
        with open_reference(case, numbered=True) as source:
            found |= _instances(labels, numbered, np.where(kept, _pixels(source), 0), kept, wishes.objects)
    if wishes.membranes:
        cells = membrane_scores(labels == 1, (reference == 1) | ~kept)
        found |= {"V^Rand": cells.rand, "V^Info": cells.info}
    if wishes.tolerance is None:
        return found, 0
    distances, missed = _surfaces(labels * kept, reference * kept, case, wishes)
    return found | distances, missed


def _dice(counts: NDArray[np.int64], names: Sequence[str]) -> dict[str, float]:
    overlaps = overlaps_of(counts)
    each = {f"Dice, {name}": value for name, value in zip(names[1:], overlaps.dice, strict=True)}
    return {"Dice": overlaps.macro_dice} | (each if len(each) > 1 else {})


def _instances(
    labels: Array, numbered: Array | None, reference: Array, kept: NDArray[np.bool_], section: InferenceSection
) -> dict[str, float]:
    found: dict[str, float] = {}
    for way in WAYS:
        objects = objects_of(labels, section.model_copy(update={"objects": way})) if numbered is None else numbered
        matches = match(np.where(kept, objects, 0), reference)
        found |= {f"PQ, {way}": matches.pq, f"F1, {way}": matches.f1}
    return found


def _surfaces(labels: Array, reference: Array, case: Case, wishes: Wishes) -> tuple[dict[str, float], int]:
    """Mean over classes of what each class has."""
    with open_case_image(case) as image:
        spacing_um = image.spacing_um
    classes = range(1, len(wishes.config.data.classes))
    tolerance = wishes.tolerance or 0.0
    found = [surface_scores(labels == label, reference == label, spacing_um, tolerance=tolerance) for label in classes]
    unit = found[0].unit
    values = {
        f"HD95, {unit}": mean_of(scores.hd95 for scores in found),
        f"surface Dice at {tolerance:g} {unit}": mean_of(scores.nsd for scores in found),
    }
    return values, sum(scores.one_sided for scores in found)


def table(contenders: Sequence[Contender], scores: Sequence[Scores]) -> list[str]:
    """A row a contender: what it took to train, and the mean of each metric with its interval."""
    metrics = list(scores[0].values)
    lines = _head(["", "training, min", "steps", *metrics])
    for contender, found in zip(contenders, scores, strict=True):
        manifest = contender.bundle.manifest if contender.bundle else None
        cost = [f"{manifest.training_seconds / 60:.1f}", f"{manifest.training_steps:,}"] if manifest else ["", ""]
        missed = f", {found.one_sided} missed or invented" if found.one_sided else ""
        cells = [_mean(found.values[metric]) + (missed if metric.startswith("HD95") else "") for metric in metrics]
        lines.append(_row([contender.name, *cost, *cells]))
    return lines


def differences(contenders: Sequence[Contender], scores: Sequence[Scores]) -> list[str]:
    """A row for each contender but the first: its value minus the first's, case by case."""
    metrics = list(scores[0].values)
    lines = _head([f"minus {contenders[0].name}", *metrics])
    for contender, found in zip(contenders[1:], scores[1:], strict=True):
        pairs = [difference_of(scores[0].values[metric], found.values[metric]) for metric in metrics]
        lines.append(_row([contender.name, *[_shown(pair.mean, pair.interval, "+") for pair in pairs]]))
    return lines


def _mean(values: Sequence[float]) -> str:
    """The mean over the cases that have a value, its interval, and how many have none."""
    found = difference_of([0.0] * len(values), values)  # from nothing: the values themselves, resampled alike
    empty = sum(math.isnan(value) for value in values)
    return _shown(found.mean, found.interval) + (f", {empty} empty" if empty else "")


def _shown(mean: float, interval: tuple[float, float] | None, sign: str = "") -> str:
    form = f"{sign}.3f" if abs(mean) < 10 else f"{sign},.1f"
    ends = f" ({interval[0]:{form}} to {interval[1]:{form}})" if interval else ""
    return f"{mean:{form}}{ends}"


def _head(cells: Sequence[str]) -> list[str]:
    return [_row(cells), _row(["---"] + ["---:"] * (len(cells) - 1))]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _introduction(data: Path, split: str, cases: Sequence[Case], config: Config) -> str:
    """What was run, where, and what a reader must know beside the numbers."""
    ran = machine()
    versions = ", ".join(f"{name} {version}" for name, version in ran.versions.items())
    objects = f" Watershed's sigma {config.inference.object_sigma_px:g} px." if config.data.instances else ""
    notes = [note for note in (group_note(cases),) if note and split == "test"]
    if split != "test":
        notes.append("These cases chose the checkpoints: the numbers look better than on cases nobody has seen.")
    return (
        f"{data.resolve().name}, {len(cases)} cases of split {split}; mean over cases, 95% bootstrap interval over cases. "
        f"{ran.processor}, {ran.cores} cores, {ran.device}, {versions}.{objects} {' '.join(notes)}".rstrip()
    )


def _pixels(source: ImageSource) -> Array:
    return np.concatenate([block[0] for block in source.blocks()])  # (*S)


if __name__ == "__main__":
    main()
