"""Two bundles, the same held-out cases, the same flow: which is better, by how much, how surely, and at what cost."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.cases import Case, about
from datasets.references import open_reference
from evaluation.comparison.cost import multiply_adds_patch_by_patch, multiply_adds_per_pixel
from evaluation.comparison.held_out import (
    check_case,
    check_comparable,
    check_one_class_a_pixel,
    check_unseen,
    group_note,
    held_out_cases,
    training_note,
)
from evaluation.comparison.measurement import Job, Measured, measure
from evaluation.comparison.paired_difference import Difference, difference_of
from evaluation.comparison.panels import case_pictures
from evaluation.comparison.result import CaseResult, Comparison, MethodResult, labels_for
from evaluation.comparison.threshold_baseline import Floor, floor_of
from evaluation.comparison.verdict import Evidence, verdict_of
from evaluation.metrics.overlap import Counts, confusion, mean_of, overlaps_of, pooled
from inference.predictors.counting import shape_only_predictor
from models import bundle
from models.architectures import count_parameters
from models.bundle import Bundle

Pair = tuple[Bundle, Bundle]
Shapes = Sequence[tuple[int, ...]]
Progress = Callable[[int, int], None]
MaskPaths = tuple[tuple[Path, ...], tuple[Path, ...]]


def compare(
    bundles: tuple[Path, Path], data: Path, split: str | None = None, on_progress: Progress | None = None
) -> Comparison:
    """Both bundles over the same held-out cases, each in a process of its own, one after the other.

    Needs `if __name__ == "__main__":` in a script, see `measure`.

    Args:
        bundles: two bundle folders, the first and the second method.
        data: a folder with cases.csv.
        split: which cases; None takes `test`, or else `val`.
        on_progress: called with tiles done and tiles in all, over both bundles.

    Raises:
        DataError: the comparison wouldn't be honest (other classes, channels, spacing or dimensions; a case that training
            saw), or a case can't be read or doesn't fit; the message names the case.
        BundleError: a bundle that is broken or missing.
        ConfigError: a bundle's config isn't valid.
    """
    pair = bundle.load(bundles[0]), bundle.load(bundles[1])
    check_one_class_a_pixel(pair)
    check_comparable(pair[0].manifest, pair[1].manifest)
    split, cases = held_out_cases(data, split, pair[0].config.data)
    check_unseen(cases, pair)
    shapes, seen = zip(*(check_case(case, pair[0].config) for case in cases), strict=True)
    with tempfile.TemporaryDirectory(prefix="overtile-compare-") as folder:
        masks = _mask_paths(Path(folder), len(cases))
        measured = _measure_both(pair, cases, seen, masks, on_progress)
        return _compared(
            _Run(data.resolve().name, split, pair, cases, shapes, seen, masks, measured), _notes(pair, cases, split)
        )


@dataclass(frozen=True)
class _Run:
    """Both bundles have run, their masks are on disk."""

    data: str
    split: str
    pair: Pair
    cases: tuple[Case, ...]
    shapes: Shapes
    seen: Shapes  # at the trained spacing
    masks: MaskPaths
    measured: tuple[Measured, Measured]


def _compared(run: _Run, notes: tuple[str, ...]) -> Comparison:
    counts = _confusions(run, 0), _confusions(run, 1)
    methods = _method_result(run, 0, counts[0]), _method_result(run, 1, counts[1])
    results = tuple(_case_result(run, index, (counts[0][index], counts[1][index])) for index in range(len(run.cases)))
    dice = [[result.overlaps[index].macro_dice for result in results] for index in (0, 1)]
    difference = difference_of(dice[0], dice[1])
    floor, floor_omitted = _floor(run)
    return Comparison(
        data=run.data,
        split=run.split,
        dimensions=run.pair[0].manifest.dimensions,
        classes=run.pair[0].manifest.classes,
        spacing_um=run.pair[0].manifest.spacing_um,
        methods=methods,
        cases=results,
        difference=difference,
        floor=floor,
        floor_omitted=floor_omitted,
        notes=notes,
        pictures=case_pictures(run.cases, run.masks, difference, run.pair[0].manifest.classes, _labels(run.pair)),
        verdict=verdict_of(_evidence(methods, difference, (mean_of(dice[0]), mean_of(dice[1])), floor)),
    )


def _mask_paths(folder: Path, count: int) -> MaskPaths:
    """Numbered, since a case's name needn't be a file's."""
    first, second = (tuple(folder / f"{method}_{index}.npy" for index in range(count)) for method in (0, 1))
    return first, second


def _measure_both(
    pair: Pair, cases: Sequence[Case], seen: Shapes, masks: MaskPaths, on_progress: Progress | None
) -> tuple[Measured, Measured]:
    grids = [shape_only_predictor(bundle.config).grid for bundle in pair]
    tiles = [sum(len(grid(shape)) for shape in seen) for grid in grids]
    report = on_progress or (lambda done, total: None)
    first = measure(Job(pair[0].folder, tuple(cases), masks[0]), lambda done: report(done, sum(tiles)))
    second = measure(Job(pair[1].folder, tuple(cases), masks[1]), lambda done: report(tiles[0] + done, sum(tiles)))
    return first, second


def _confusions(run: _Run, method: int) -> list[Counts]:
    return [_confusion(run, method, index) for index in range(len(run.cases))]


def _confusion(run: _Run, method: int, index: int) -> Counts:
    """Reference (rows) against mask (columns), block by block, so that a slide needs no memory of its size."""
    mask = np.load(run.masks[method][index], mmap_mode="r")
    classes, row = len(run.pair[0].manifest.classes), 0
    counts = np.zeros((classes, classes), np.int64)
    with about(run.cases[index]), open_reference(run.cases[index]) as reference:
        for block in reference.blocks():
            rows = block[0]  # (rows, *rest)
            ignored = run.cases[index].ignore_label
            counts += confusion(mask[row : row + len(rows)], rows, classes, ignore_label=ignored)
            row += len(rows)
    return counts


def _case_result(run: _Run, index: int, counts: tuple[Counts, Counts]) -> CaseResult:
    masks = [np.load(paths[index], mmap_mode="r") for paths in run.masks]
    between = confusion(masks[1], masks[0], len(run.pair[0].manifest.classes))
    return CaseResult(
        name=run.cases[index].name,
        group=run.cases[index].group,
        shape=run.shapes[index],
        overlaps=(overlaps_of(counts[0]), overlaps_of(counts[1])),
        agreement=int(between.trace()) / int(between.sum()),
        agreement_dice=overlaps_of(between).macro_dice,
        empty=not counts[0][1:].any(),
    )


def _method_result(run: _Run, method: int, counts: Sequence[Counts]) -> MethodResult:
    bundle = run.pair[method]
    alone = multiply_adds_patch_by_patch(bundle.config)
    return MethodResult(
        label=_labels(run.pair)[method],
        name=bundle.manifest.name,
        method=bundle.manifest.method,
        seed=bundle.config.run.seed,
        parameters=sum(map(count_parameters, bundle.networks)),
        training_steps=bundle.manifest.training_steps,
        training_seconds=bundle.manifest.training_seconds,
        commit=bundle.manifest.commit,
        pooled=pooled(counts),
        measured=run.measured[method],
        multiply_adds_per_pixel=len(bundle.networks) * multiply_adds_per_pixel(bundle.config, run.seen),
        patch_by_patch_per_pixel=alone and len(bundle.networks) * alone,
    )


def _labels(pair: Pair) -> tuple[str, str]:
    return labels_for([bundle.manifest.method for bundle in pair], [bundle.manifest.name for bundle in pair])


def _floor(run: _Run) -> tuple[Floor | None, str | None]:
    classes = len(run.pair[0].manifest.classes)
    if classes != 2:
        return None, f"one threshold makes two classes, and there are {classes}"
    return floor_of(run.cases), None


def _evidence(
    methods: tuple[MethodResult, MethodResult], difference: Difference, means: tuple[float, float], floor: Floor | None
) -> Evidence:
    first, second = methods
    return Evidence(
        labels=(first.label, second.label),
        methods=(first.method, second.method),
        cases=len(difference.second_minus_first),
        difference=difference,
        seconds=(first.seconds, second.seconds),
        memory_bytes=(first.measured.spent_bytes, second.measured.spent_bytes),
        multiply_adds=(first.multiply_adds_per_pixel, second.multiply_adds_per_pixel),
        means=means,
        floor_dice=floor.mean_dice if floor else None,
    )


def _notes(pair: Pair, cases: Sequence[Case], split: str) -> tuple[str, ...]:
    notes = [group_note(cases), training_note(pair[0].manifest, pair[1].manifest)]
    if split != "test":
        notes.append(f"The cases are of the split {split}: choices that were made on them make these numbers look better.")
    return tuple(note for note in notes if note)
