"""The interval's coverage on simulated comparisons, its symmetry, and samples that are too small for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.interval_coverage import coverages, draw_gain, draw_group_means
from evaluation.comparison.bootstrap_interval import bootstrap_interval, bootstrap_t_ends, mean_interval, unit_means


def test_95_percent_of_the_intervals_contain_the_mean() -> None:
    sets = draw_gain(np.random.default_rng(20), (20, 1000))
    assert 0.93 <= coverages(sets)[-1] <= 0.97


def test_so_do_those_over_groups_whose_cases_are_alike() -> None:
    sets = draw_group_means(np.random.default_rng(20), draw_gain, 20, 1000)
    assert 0.93 <= coverages(sets)[-1] <= 0.97


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=12))
def test_negated_values_have_the_negated_interval(values: list[float]) -> None:
    interval, omitted = bootstrap_interval(values)
    negated, also_omitted = bootstrap_interval([-value for value in values])
    assert omitted == also_omitted
    assert (interval is None) == (omitted is not None)
    if interval is not None:
        assert negated == (-interval[1], -interval[0])
        assert interval[0] <= np.mean(values) <= interval[1]


def test_many_sets_have_the_intervals_that_each_has_alone() -> None:
    sets = np.random.default_rng(1).normal(size=(15, 4))
    low, high = bootstrap_t_ends(sets)
    for index in range(4):
        assert bootstrap_interval(sets[:, index].tolist())[0] == pytest.approx((low[index], high[index]))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.1, 0.2], "2 of the needed 3 groups have a value for both"),
        ([0.1] * 4, "all groups differ by the same amount, so resampling them shows no spread"),
        ([0.0, 0.0, 0.1], "too few groups differ for the bootstrap"),
    ],
)
def test_without_enough_spread_there_is_a_reason(values: list[float], reason: str) -> None:
    assert bootstrap_interval(values, "group") == (None, reason)


def test_the_interval_of_a_mean_is_cut_to_the_limits_of_its_metric() -> None:
    values = [0.338, 0.99, 0.98, 0.97]
    interval, _ = bootstrap_interval(values)
    assert interval is not None
    assert interval[0] < 0
    assert mean_interval(values, (0.0, 1.0)) == (0.0, min(1.0, interval[1]))
    assert mean_interval(values, (-np.inf, np.inf)) == interval
    assert mean_interval([0.5, 0.6], (0.0, 1.0)) is None


def test_each_group_counts_once() -> None:
    values, groups = [0.2, 0.4, 0.9, np.nan, 0.5, 0.1], ["a", "a", "b", "b", None, None]
    assert unit_means(values, groups) == pytest.approx([0.3, 0.9, 0.5, 0.1])
