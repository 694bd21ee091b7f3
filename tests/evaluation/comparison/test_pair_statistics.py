"""Statistics of pairs of methods: the family of Holm's correction, groups, directions, and units that differ."""

from collections.abc import Mapping, Sequence
from math import isnan, nan

import numpy as np
import pytest

from evaluation.comparison.pair_statistics import check_units, compare_pairs, family_sentence
from evaluation.scoring.table import Score, ScoreTable
from imaging.errors import DataError


def table(method: str, metrics: Mapping[str, Sequence[float]], *, groups: Sequence[str] = (), unit: str = "") -> ScoreTable:
    """Return the scores of one class by metric; `groups` are those of the cases."""
    scores = [
        Score(f"case{index}", groups[index] if groups else None, metric, "nucleus", value, unit if metric == "hd95" else "")
        for metric, values in metrics.items()
        for index, value in enumerate(values)
    ]
    return ScoreTable(method, tuple(scores))


DRAWN = np.random.default_rng(3).uniform(0.4, 0.6, (3, 15)) + np.array([[0.0], [0.05], [0.3]])
TABLES = [table(name, {"dice": values.tolist(), "iou": values.tolist()}) for name, values in zip("abc", DRAWN, strict=True)]


def test_every_pair_in_every_metric_and_holm_over_the_headline() -> None:
    pairs = compare_pairs(TABLES, ("dice", "iou"), "iou")
    assert [(pair.metric, pair.first, pair.second) for pair in pairs] == [
        ("dice", 0, 1), ("dice", 0, 2), ("dice", 1, 2), ("iou", 0, 1), ("iou", 0, 2), ("iou", 1, 2),
    ]  # fmt: skip
    assert [pair.corrected_p for pair in pairs[:3]] == [None] * 3
    p_values = sorted(pair.difference.p_value or nan for pair in pairs[3:])
    corrected = sorted(pair.corrected_p or nan for pair in pairs[3:])
    assert corrected == pytest.approx([3 * p_values[0], max(3 * p_values[0], 2 * p_values[1]), p_values[2]])
    assert family_sentence(pairs, "iou").startswith(
        "The verdict is about IoU: its p-values are corrected by Holm's method over the 3"
    )


def test_one_pair_needs_no_correction() -> None:
    (pair,) = compare_pairs(TABLES[:2], ("dice",), "dice")
    assert pair.corrected_p == pair.difference.p_value
    assert "needs no correction" in family_sentence((pair,), "dice")


def test_groups_are_the_units_where_the_tables_name_them() -> None:
    groups = [f"patient{index // 5}" for index in range(15)]
    tables = [table(name, {"dice": values.tolist()}, groups=groups) for name, values in zip("ab", DRAWN, strict=False)]
    (pair,) = compare_pairs(tables, ("dice",), "dice")
    assert (pair.difference.unit, pair.difference.units) == ("group", 3)
    assert pair.difference.mean == pytest.approx(np.mean(DRAWN[1] - DRAWN[0]))


def test_cases_without_a_value_by_one_method_are_left_out() -> None:
    tables = [table("a", {"dice": [0.5, nan, 0.7]}), table("b", {"dice": [0.6, 0.6, nan]})]
    (pair,) = compare_pairs(tables, ("dice",), "dice")
    assert pair.difference.pairs == 1
    assert isnan(pair.difference.second_minus_first[1])


def test_shorter_distances_win() -> None:
    tables = [table("a", {"hd95": [5.0, 6.0]}), table("b", {"hd95": [4.0, 7.0]})]
    (pair,) = compare_pairs(tables, ("hd95",), "hd95")
    assert (pair.difference.wins, pair.difference.losses) == (1, 1)


def test_metrics_in_several_units_are_named_or_refused() -> None:
    tables = [table("a", {"dice": [0.5], "hd95": [5.0]}, unit="um"), table("b", {"dice": [0.5], "hd95": [5.0]}, unit="px")]
    comparable, notes = check_units(tables, "dice")
    assert comparable == ("dice",)
    assert notes == ("HD95 has several units (a: um; b: px), so that its values can't be compared.",)
    with pytest.raises(DataError, match="give the spacing of every case") as caught:
        check_units(tables, "hd95")
    assert caught.value.code == "units_differ"
