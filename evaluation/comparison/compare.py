"""Comparison of two bundles on the same held-out cases: which is better, by how much, how certain that is, at what cost."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datasets.cases import Case, prefix_errors
from datasets.references import open_reference
from evaluation.comparison.cost import multiply_adds_patch_by_patch, multiply_adds_per_pixel
from evaluation.comparison.held_out import (
    check_case,
    check_comparable,
    check_exclusive_classes,
    check_not_trained_on,
    group_note,
    select_held_out_cases,
    training_note,
)
from evaluation.comparison.measurement import Measurement, SegmentationJob, measure
from evaluation.comparison.pair_result import CaseResult, Comparison, MethodResult, method_labels
from evaluation.comparison.paired_difference import paired_difference
from evaluation.comparison.panels import draw_case_pictures
from evaluation.comparison.threshold_baseline import score_threshold_baseline
from evaluation.comparison.verdict import Evidence, decide_verdict
from evaluation.metrics.overlap import Counts, confusion, nan_mean, overlaps_from_counts, pooled_overlaps
from inference.predictors.counting import shape_only_predictor
from inference.segment import Progress
from models import bundle
from models.architectures import count_parameters
from models.bundle import Bundle

Pair = tuple[Bundle, Bundle]
Shapes = Sequence[tuple[int, ...]]
MaskPaths = tuple[tuple[Path, ...], tuple[Path, ...]]


def compare(
    bundles: tuple[Path, Path], data: Path, split: str | None = None, on_progress: Progress | None = None
) -> Comparison:
    """Compare two bundles on the same held-out cases, each in a process of its own, one after the other.

    A script that calls this needs `if __name__ == "__main__":`, see `measure`.

    Args:
        bundles: bundle folders of the first and the second method.
        data: folder with cases.csv.
        split: split of the cases; None takes `test`, or else `val`.
        on_progress: called with the tiles done and the tiles in all, over both bundles.

    Raises:
        DataError: the comparison would not be fair (classes, channels, spacing or dimensions differ, or training saw a
            case), or a case can't be read or doesn't suit the bundles; the message names the case.
        BundleError: a bundle is broken or missing.
        ConfigError: a bundle's config is invalid.
    """
    pair = bundle.load(bundles[0]), bundle.load(bundles[1])
    check_exclusive_classes(pair)
    check_comparable(pair[0].manifest, pair[1].manifest)
    split, cases = select_held_out_cases(data, split, pair[0].config.data)
    check_not_trained_on(cases, pair)
    shapes, trained_shapes = zip(*(check_case(case, pair[0].config) for case in cases), strict=True)
    with tempfile.TemporaryDirectory(prefix="overtile-compare-") as folder:
        # numbered, because a case's name need not be a valid file name
        first, second = (tuple(Path(folder, f"{method}_{index}.npy") for index in range(len(cases))) for method in (0, 1))
        measurements = _measure_both(pair, cases, trained_shapes, (first, second), on_progress)
        run = _FinishedRun(pair, cases, shapes, trained_shapes, (first, second), measurements)
        comparison = _compare_masks(run, data.resolve().name, split)
    notes = [group_note(cases), training_note(pair[0].manifest, pair[1].manifest)]
    if split != "test":
        notes.append(f"The cases are of the split {split}: scores are too good where that split was used to make choices.")
    return replace(comparison, notes=tuple(note for note in notes if note))


@dataclass(frozen=True)
class _FinishedRun:
    """Masks of both bundles on disk, and what they were made from; pairs are (first method, second method)."""

    pair: Pair
    cases: tuple[Case, ...]
    shapes: Shapes  # of the images as stored
    trained_shapes: Shapes  # of the images at the spacing of training
    masks: MaskPaths
    measurements: tuple[Measurement, Measurement]


def _measure_both(
    pair: Pair, cases: Sequence[Case], shapes: Shapes, masks: MaskPaths, on_progress: Progress | None
) -> tuple[Measurement, Measurement]:
    grids = [shape_only_predictor(bundle.config).grid for bundle in pair]
    tiles = [sum(len(grid(shape)) for shape in shapes) for grid in grids]
    report = on_progress or (lambda done, total: None)
    first = measure(SegmentationJob(pair[0].folder, tuple(cases), masks[0]), lambda done: report(done, sum(tiles)))
    second = measure(SegmentationJob(pair[1].folder, tuple(cases), masks[1]), lambda done: report(tiles[0] + done, sum(tiles)))
    return first, second


def _compare_masks(run: _FinishedRun, data: str, split: str) -> Comparison:
    """Score the masks of both bundles; `data` and `split` are names for the report."""
    manifest = run.pair[0].manifest
    counts = [[_confusion(run, method, index) for index in range(len(run.cases))] for method in (0, 1)]
    methods = _method_result(run, 0, counts[0]), _method_result(run, 1, counts[1])
    results = tuple(_case_result(run, index, (counts[0][index], counts[1][index])) for index in range(len(run.cases)))
    dice = [[result.overlaps[method].macro_dice for result in results] for method in (0, 1)]
    difference = paired_difference(dice[0], dice[1])
    binary = len(manifest.classes) == 2
    baseline = score_threshold_baseline(run.cases) if binary else None
    first, second = methods
    evidence = Evidence(
        labels=(first.label, second.label),
        methods=(first.method, second.method),
        cases=len(results),
        difference=difference,
        seconds=(first.seconds, second.seconds),
        memory_bytes=(first.measurement.compared_bytes, second.measurement.compared_bytes),
        multiply_adds=(first.multiply_adds_per_pixel, second.multiply_adds_per_pixel),
        means=(nan_mean(dice[0]), nan_mean(dice[1])),
        baseline_dice=baseline.mean_dice if baseline else None,
    )
    return Comparison(
        data=data,
        split=split,
        dimensions=manifest.dimensions,
        classes=manifest.classes,
        spacing_um=manifest.spacing_um,
        methods=methods,
        cases=results,
        difference=difference,
        baseline=baseline,
        baseline_omitted=None if binary else f"one threshold makes two classes, and there are {len(manifest.classes)}",
        notes=(),
        pictures=draw_case_pictures(run.cases, run.masks, difference, manifest.classes, _labels(run.pair)),
        verdict=decide_verdict(evidence),
    )


def _confusion(run: _FinishedRun, method: int, index: int) -> Counts:
    """Count the pixels of one case by reference and mask, block by block, so that a slide is never in memory as a whole."""
    mask = np.load(run.masks[method][index], mmap_mode="r")
    case, classes = run.cases[index], len(run.pair[0].manifest.classes)
    counts = np.zeros((classes, classes), np.int64)
    first_row = 0
    with prefix_errors(case), open_reference(case) as reference:
        for block in reference.blocks():
            rows = block[0]  # (rows, *rest)
            mask_rows = mask[first_row : first_row + len(rows)]
            counts += confusion(mask_rows, rows, classes, ignore_label=case.ignore_label)
            first_row += len(rows)
    return counts


def _case_result(run: _FinishedRun, index: int, counts: tuple[Counts, Counts]) -> CaseResult:
    masks = [np.load(paths[index], mmap_mode="r") for paths in run.masks]
    between = confusion(masks[1], masks[0], len(run.pair[0].manifest.classes))
    return CaseResult(
        name=run.cases[index].name,
        group=run.cases[index].group,
        shape=run.shapes[index],
        overlaps=(overlaps_from_counts(counts[0]), overlaps_from_counts(counts[1])),
        agreement=int(between.trace()) / int(between.sum()),
        agreement_dice=overlaps_from_counts(between).macro_dice,
        empty=not counts[0][1:].any(),
    )


def _method_result(run: _FinishedRun, method: int, counts: Sequence[Counts]) -> MethodResult:
    bundle = run.pair[method]
    patch_by_patch = multiply_adds_patch_by_patch(bundle.config)
    return MethodResult(
        label=_labels(run.pair)[method],
        name=bundle.manifest.name,
        method=bundle.manifest.method,
        seed=bundle.config.run.seed,
        parameters=sum(map(count_parameters, bundle.networks)),
        training_steps=bundle.manifest.training_steps,
        training_seconds=bundle.manifest.training_seconds,
        commit=bundle.manifest.commit,
        pooled=pooled_overlaps(counts),
        measurement=run.measurements[method],
        multiply_adds_per_pixel=len(bundle.networks) * multiply_adds_per_pixel(bundle.config, run.trained_shapes),
        patch_by_patch_per_pixel=patch_by_patch and len(bundle.networks) * patch_by_patch,
    )


def _labels(pair: Pair) -> tuple[str, str]:
    return method_labels([bundle.manifest.method for bundle in pair], [bundle.manifest.name for bundle in pair])
