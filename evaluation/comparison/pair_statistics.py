"""Paired statistics of all pairs of methods in all metrics, with Holm's correction over the pairs in the headline metric."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from evaluation.comparison.paired_difference import paired_difference
from evaluation.comparison.permutation_test import holm_corrected
from evaluation.comparison.result import PairResult
from evaluation.metrics.registry import METRICS
from evaluation.scoring.table import ScoreTable
from imaging.errors import DataError


def compare_pairs(tables: Sequence[ScoreTable], metrics: Sequence[str], headline: str) -> tuple[PairResult, ...]:
    """Return the paired difference of every pair of methods in every metric, ordered by metric, first and second.

    A case's value is the mean over its classes. The units are groups where groups are known, otherwise cases.

    Args:
        tables: scores of the methods, over the same cases.
        metrics: names of the metrics.
        headline: name of the metric whose p-values are corrected: its pairs are the family of tests.
    """
    groups = list(tables[0].groups.values())
    pairs = []
    for name in metrics:
        values = [list(table.case_values(name).values()) for table in tables]
        for first, second in combinations(range(len(tables)), 2):
            metric = METRICS[name]
            difference = paired_difference(
                values[first], values[second], groups=groups, better=metric.better, limits=metric.limits
            )
            pairs.append(PairResult(metric=name, first=first, second=second, difference=difference, corrected_p=None))
    in_headline = {index: pair.difference.p_value for index, pair in enumerate(pairs) if pair.metric == headline}
    family = {index: p_value for index, p_value in in_headline.items() if p_value is not None}
    for index, p_value in zip(family, holm_corrected(list(family.values())), strict=True):
        pairs[index] = replace(pairs[index], corrected_p=p_value)
    return tuple(pairs)


def family_sentence(pairs: Sequence[PairResult], headline: str) -> str:
    """Return which comparisons Holm's correction is over."""
    count = sum(pair.metric == headline for pair in pairs)
    title = METRICS[headline].title
    if count == 1:
        return (
            f"The verdict is about {title}, in one comparison, whose p-value needs no correction; other metrics describe only."
        )
    return (
        f"The verdict is about {title}: its p-values are corrected by Holm's method over the {count} pairs of methods. "
        "Other metrics describe only."
    )


def check_units(tables: Sequence[ScoreTable], headline: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the metrics that all methods have in one unit, and a note on each of the others.

    Raises:
        DataError: `units_differ`: the headline metric is in several units, such as micrometres and pixels.
    """
    comparable, notes = [], []
    for name in tables[0].metrics:
        units = [table.unit_of(name) for table in tables]
        if len(set(units)) == 1 and "/" not in units[0]:
            comparable.append(name)
            continue
        listed = "; ".join(f"{table.method}: {unit or 'none'}" for table, unit in zip(tables, units, strict=True))
        text = f"{METRICS[name].title} has several units ({listed}), so that its values can't be compared"
        if name == headline:
            raise DataError(
                "units_differ",
                f"{text}; give the spacing of every case in cases.csv (spacing_um), or another --headline",
            )
        notes.append(f"{text}.")
    return tuple(comparable), tuple(notes)
