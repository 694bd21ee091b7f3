"""Mean difference and its interval, also with few cases, ties and missing values."""

import math
from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.comparison.paired_difference import paired_difference
from evaluation.metrics.metric import Better

SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["a", "b", None])), min_size=1, max_size=12)


def test_differences_are_second_minus_first() -> None:
    difference = paired_difference([0.5, 0.6, 0.7, 0.5], [0.6, 0.5, 0.9, 0.9])
    assert difference.second_minus_first == pytest.approx((0.1, -0.1, 0.2, 0.4))
    assert difference.mean == pytest.approx(0.15)
    assert difference.means == pytest.approx((0.575, 0.725))
    assert difference.pairs == 4


def test_the_interval_holds_the_mean_and_repeats() -> None:
    random = np.random.default_rng(1)
    first = random.uniform(0.4, 0.6, 30)
    second = first + random.normal(0.05, 0.05, 30)
    difference = paired_difference(list(first), list(second))
    assert difference.interval is not None
    low, high = difference.interval
    assert low < difference.mean < high
    standard_error = np.std(second - first, ddof=1) / np.sqrt(30)
    assert high - low == pytest.approx(2 * 2.045 * standard_error, rel=0.1)  # 2.045: Student's t with 29 degrees of freedom
    assert paired_difference(list(first), list(second)) == difference
    assert paired_difference(list(second), list(first)).mean == pytest.approx(-difference.mean)


@pytest.mark.parametrize(
    ("first", "second", "pairs"),
    [([], [], 0), ([0.5], [0.6], 1), ([0.5, 0.6], [0.6, 0.9], 2), ([0.5, 0.6, nan, 0.1], [0.6, 0.9, 0.1, nan], 2)],
)
def test_too_few_cases_have_no_interval(first: list[float], second: list[float], pairs: int) -> None:
    difference = paired_difference(first, second)
    assert difference.interval is None
    assert difference.omitted == f"{pairs} of the needed 3 cases have a value for both"
    assert difference.pairs == pairs
    assert isnan(difference.mean) == (pairs == 0)


@pytest.mark.parametrize("step", [0.0, 0.1])
def test_ties_have_no_interval(step: float) -> None:
    difference = paired_difference([0.1, 0.2, 0.3, 0.4], [value + step for value in (0.1, 0.2, 0.3, 0.4)])
    assert difference.mean == pytest.approx(step)
    assert difference.interval is None
    assert "by the same amount" in (difference.omitted or "")


def test_cases_without_a_value_are_left_out_of_both_means() -> None:
    difference = paired_difference([0.5, 0.5, 0.5, 1.0], [0.6, 0.7, 0.8, nan])
    assert difference.means == pytest.approx((0.5, 0.7))
    assert isnan(difference.second_minus_first[3])


def test_one_case_that_differs_is_enough_for_numbers() -> None:
    difference = paired_difference([0.5] * 5, [0.5] * 4 + [0.6])
    assert (difference.interval is None) == (difference.omitted is not None)


def test_ten_thousand_cases_are_resampled_in_pieces() -> None:
    random = np.random.default_rng(0)
    difference = paired_difference([0.0] * 10_000, list(random.normal(0.1, 0.1, 10_000)))
    assert difference.interval is not None
    assert difference.interval == pytest.approx((difference.mean - 0.00196, difference.mean + 0.00196), abs=2e-4)


@given(SCORES)
def test_a_method_against_itself(scores: list[tuple[float, float, str | None]]) -> None:
    first, _, groups = zip(*scores, strict=True)
    difference = paired_difference(first, first, groups=groups)
    assert (difference.mean, difference.p_value, difference.interval) == (0, 1, None)
    assert (difference.wins, difference.ties, difference.losses) == (0, len(scores), 0)
    assert isnan(difference.cohens_dz)
    assert isnan(difference.rank_biserial)


@given(SCORES, st.sampled_from(["higher", "lower", "zero"]))
def test_swapping_two_methods_flips_every_sign(scores: list[tuple[float, float, str | None]], better: Better) -> None:
    first, second, groups = zip(*scores, strict=True)
    one = paired_difference(first, second, groups=groups, better=better)
    other = paired_difference(second, first, groups=groups, better=better)
    assert other.second_minus_first == tuple(-value for value in one.second_minus_first)
    assert other.mean == -one.mean
    assert other.means == one.means[::-1]
    assert other.interval == (one.interval and (-one.interval[1], -one.interval[0]))
    assert other.p_value == one.p_value
    np.testing.assert_array_equal((other.cohens_dz, other.rank_biserial), (-one.cohens_dz, -one.rank_biserial))
    assert (other.wins, other.ties, other.losses) == (one.losses, one.ties, one.wins)


def test_each_group_counts_once() -> None:
    difference = paired_difference([0.0] * 6, [0.1, 0.3, 0.4, 0.1, 0.6, nan], groups=["a", "a", "b", None, None, "c"])
    assert (difference.unit, difference.units) == ("group", 4)
    assert difference.means == pytest.approx((0, (0.2 + 0.4 + 0.1 + 0.6) / 4))
    assert difference.mean == pytest.approx(0.325)
    assert difference.p_value == 2 / 2**4
    assert difference.wins == 5  # of cases


def test_groups_of_one_case_are_cases() -> None:
    first, second = [0.5, 0.6, 0.7, 0.9], [0.6, 0.5, 0.9, 0.9]
    by_case = paired_difference(first, second)
    assert paired_difference(first, second, groups=["a", "b", "c", "d"]) == replace(by_case, unit="group")
    assert paired_difference(first, second, groups=[None] * 4) == by_case


@pytest.mark.parametrize(("better", "wins", "losses"), [("higher", 2, 1), ("lower", 1, 2), ("zero", 1, 2)])
def test_wins_follow_the_metrics_direction(better: Better, wins: int, losses: int) -> None:
    difference = paired_difference([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 4.0], better=better)
    assert (difference.wins, difference.ties, difference.losses) == (wins, 1, losses)


def test_where_zero_is_best_the_sign_of_a_score_does_not_matter() -> None:
    difference = paired_difference([-3.0, 2.0], [1.0, -2.0], better="zero")
    assert difference.second_minus_first == (-2.0, 0.0)
    assert (difference.wins, difference.ties) == (1, 1)


def test_effect_sizes() -> None:
    difference = paired_difference([0.0] * 4, [0.1, 0.2, 0.3, -0.2])
    assert difference.cohens_dz == pytest.approx(0.1 / np.std([0.1, 0.2, 0.3, -0.2], ddof=1))
    assert difference.rank_biserial == pytest.approx((1 + 2.5 + 4 - 2.5) / 10)  # ranks of 0.1, 0.2, 0.3 and -0.2


@pytest.mark.parametrize(("count", "is_evidence"), [(9, False), (10, True)])
def test_fewer_than_ten_units_are_no_evidence(count: int, *, is_evidence: bool) -> None:
    scores = list(np.random.default_rng(0).uniform(0.1, 0.2, count))
    assert paired_difference([0.0] * count, scores).is_evidence == is_evidence
    assert not paired_difference([0.0] * count, scores, groups=["one patient"] * count).is_evidence


def test_an_interval_is_cut_to_the_differences_of_possible_scores() -> None:
    first, second = [0.0, 0.1, 0.2, 0.3], [0.9, 0.12, 0.23, 0.35]
    whole = paired_difference(first, second).interval
    assert whole is not None
    assert whole[1] > 1
    assert paired_difference(first, second, limits=(0.0, 1.0)).interval == (whole[0], 1.0)
    assert paired_difference(second, first, limits=(0.0, 1.0)).interval == (-1.0, -whole[0])
    assert paired_difference(first, second, limits=(0.0, math.inf)).interval == whole
