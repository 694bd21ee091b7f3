"""Tables of scores and comparisons with random numbers, for the tests and the benchmark of reports."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from math import nan

import numpy as np

from configs.sections import ClassSection
from evaluation.comparison.measurement import Machine, Measurement
from evaluation.comparison.paired_difference import paired_difference
from evaluation.comparison.result import Agreement, BundleFacts, ComparedCase, Comparison, Cost, MethodResult, PairResult
from evaluation.comparison.threshold_baseline import ThresholdBaseline
from evaluation.comparison.verdict import Verdict
from evaluation.metrics.metric import Metric
from evaluation.metrics.registry import METRICS
from evaluation.scoring.table import Score, ScoreTable

CLASSES = ("nucleus", "stroma", "vessel")
COLOURS = ("#000000", "#d6249f", "#0a9e73", "#0072b2")
MACHINE = Machine("Some CPU", 2, 2, "CPU", "Linux x86_64", {"Python": "3.11", "torch": "2.13"})


def make_table(
    cases: int, method: str = "glands", *, classes: Sequence[str] = CLASSES, seed: int = 0, groups: bool = False
) -> ScoreTable:
    """Return a table with every metric; the third class is often without a value, and the second is sometimes one-sided.

    Args:
        cases: number of cases.
        method: name of the method.
        classes: names of the classes.
        seed: seed of the scores. The quality of each case is the same for all seeds.
        groups: three cases each are of one patient.
    """
    random = np.random.default_rng(seed)
    quality = np.random.default_rng(99).beta(8, 2, cases)
    scores = []
    for case in range(cases):
        group = f"patient {case // 3}" if groups else None
        for metric in METRICS.values():
            for label, name in enumerate(classes_of(metric, classes)):
                share = float(np.clip(quality[case] - 0.05 * label + random.normal(0, 0.05), 0, 1))
                value = nan if label == 2 and case % 4 else value_of(metric, share)
                remark = "one_sided" if label == 1 and case % 9 == 3 and metric.unit == "distance" else ""
                unit = "um" if metric.unit == "distance" else metric.unit
                scores.append(Score(f"case {case:04d}", group, metric.name, name, value, unit, remark))
    return ScoreTable(method, tuple(scores))


def classes_of(metric: Metric, classes: Sequence[str]) -> Sequence[str]:
    """Return the classes that a metric has scores for."""
    if metric.kind in ("overlap", "structure"):
        return classes
    return classes[:1] if metric.kind in ("objects", "membranes") else ("",)


def value_of(metric: Metric, share: float) -> float:
    """Return the value of a metric for a share of 1 where everything is right."""
    if metric.better == "higher":
        return share
    scale = {"distance": 80.0, "%": 100.0, "": 1.0}[metric.unit]
    return scale * (0.8 - share if metric.better == "zero" else 1 - share)


def make_result(table: ScoreTable, cases: int, number: int) -> MethodResult:
    """Return the result of a bundle; odd numbers are sliding windows."""
    is_window = number % 2 == 1
    seconds = tuple(np.random.default_rng(number).uniform(0.2, 0.6, cases) * (1 + 3 * number))
    return MethodResult(
        label=table.method,
        kind="bundle",
        table=table,
        bundle=BundleFacts(
            name=f"run of {table.method}",
            method="sliding_window" if is_window else "unet",
            seed=number,
            training_steps=2000,
            commit=None,
        ),
        cost=Cost(
            measurement=Measurement(seconds, (500 + 100 * number) * 2**20, 300 * 2**20, None, MACHINE),
            multiply_adds_per_pixel=218_896.0 * (1 + number),
            patch_by_patch_per_pixel=121_464_592 if is_window else None,
            patch_by_patch_seconds=20.0 * cases if is_window else None,
            parameters=31_030_658 // (1 + 9 * number),
            training_seconds=754.0 + 100 * number,
        ),
    )


def compare_tables(tables: Sequence[ScoreTable]) -> Comparison:
    """Return the comparison of methods by their tables, with every statistic but the verdict."""
    names = tables[0].cases
    cases = [ComparedCase(name=name, group=tables[0].groups[name], shape=(100, 200), empty=False) for name in names]
    numbers = list(combinations(range(len(tables)), 2))
    pairs = []
    for metric in METRICS.values():
        for first, second in numbers:
            one, other = (list(tables[number].case_values(metric.name).values()) for number in (first, second))
            groups = [case.group for case in cases]
            difference = paired_difference(one, other, groups=groups, better=metric.better)
            corrected = difference.p_value if metric.name == "dice" else None
            pairs.append(
                PairResult(metric=metric.name, first=first, second=second, difference=difference, corrected_p=corrected)
            )
    shares = (0.75,) * len(cases)
    classes = tuple(dict.fromkeys(score.class_name for score in tables[0].scores if score.class_name))
    return Comparison(
        data="a data set",
        split="test",
        dimensions=2,
        classes=tuple(
            ClassSection(name=name[:100], colour=colour)
            for name, colour in zip(("background", *classes), COLOURS[: 1 + len(classes)], strict=True)
        ),
        spacing_um=(0.5, 0.5),
        cases=tuple(cases),
        methods=tuple(make_result(table, len(cases), number) for number, table in enumerate(tables)),
        headline="dice",
        metrics=tuple(METRICS),
        pairs=tuple(pairs),
        agreements=tuple(
            Agreement(first=first, second=second, equal=shares, dice=shares, equal_pixels=0.91) for first, second in numbers
        ),
        family="Holm's correction is over all pairs of methods in Dice.",
        baseline=ThresholdBaseline("darker", (0.4,) * len(cases), (None,) * len(cases), 0.4),
        baseline_omitted=None,
        notes=("A note.",),
        pictures=(),
        verdict=Verdict("The sentence.", ("A remark.",)),
    )


def as_masks(result: MethodResult) -> MethodResult:
    """Return the result as that of a folder of masks, which has no bundle and no cost."""
    return replace(result, kind="masks", bundle=None, cost=None)
