"""Strip figures: every case is a dot, and the mean and its interval lie where the numbers say."""

import re
from itertools import combinations
from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from score_samples import compare_tables, make_table
from skimage.color import rgb2lab

from evaluation.figures.axis import WIDTH, linear_axis
from evaluation.figures.difference_figure import difference_figure
from evaluation.figures.palette import DARK_METHODS, LIGHT_METHODS
from evaluation.figures.score_figures import best_of, case_figure, class_figure
from evaluation.figures.score_grid import ScoreGrid
from evaluation.figures.strips import STACK_PX, line_through, opacity_of, stack_dots
from evaluation.metrics.registry import METRICS
from evaluation.scoring.table import Score, ScoreTable

DICE = METRICS["dice"]


def points_of(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"M([\d.]+) (-?[\d.]+)h0", path)]


@given(st.lists(st.one_of(st.floats(0, 1), st.just(nan)), max_size=300))
def test_every_value_is_one_dot_at_its_position(values: list[float]) -> None:
    axis = linear_axis([0.0, 1.0])
    dots = stack_dots(values, axis, 23.0, [0] * len(values))
    points = [point for each in dots for point in points_of(each.path)]
    assert sorted(x for x, _ in points) == sorted(axis.position(value) for value in values if value == value)
    assert all(abs(y - 23) <= STACK_PX / 2 + 0.1 for _, y in points)


def test_dots_have_the_colour_of_their_method_and_do_not_hide_each_other() -> None:
    axis = linear_axis([0.0, 1.0])
    first, second = stack_dots([0.5, 0.5, 0.9], axis, 23.0, [1, 4, 4])
    assert (first.method, second.method) == (1, 4)
    assert len(set(points_of(first.path) + points_of(second.path))) == 3


def test_lines_have_gaps_where_a_method_has_no_value() -> None:
    axis = linear_axis([0.0, 1.0], (0.0, 1.0))
    assert line_through([0.0, 0.5, nan, 1.0], axis, 10) == "M0 5L500 15M1000 35"
    assert line_through([nan, 0.5], axis, 10) == "M500 15"
    assert opacity_of(1) > opacity_of(100) > opacity_of(1000) > 0


def test_the_best_value_follows_the_metric() -> None:
    assert best_of([0.5, 0.7, nan], DICE) == 1
    assert best_of([3.0, 2.0, 2.0], METRICS["hd95"]) == 1
    assert best_of([nan, nan], DICE) is None
    zero = next((metric for metric in METRICS.values() if metric.better == "zero"), None)
    if zero:
        assert best_of([-5.0, 2.0], zero) == 1


@pytest.mark.parametrize("methods", [1, 2, 6])
def test_a_figure_has_a_row_for_each_method(methods: int) -> None:
    grid = ScoreGrid(tuple(make_table(12, f"method {number}", seed=number) for number in range(methods)))
    figure = case_figure(grid, DICE)
    assert len(figure.rows) == methods
    assert len(figure.lines) == (12 if methods > 1 else 0)
    for number, row in enumerate(figure.rows):
        assert row.mean == figure.axis.position(grid.summary("dice", number).mean)
        assert row.interval is not None
        assert row.interval[0] < (row.mean or 0) < row.interval[1]
        assert sum(len(points_of(dots.path)) for dots in row.dots) == 12


def test_intervals_that_reach_beyond_the_cases_lie_on_the_axis() -> None:
    values = [0.50, 0.51, 0.52, 0.53, 0.90]
    table = ScoreTable("one", tuple(Score(f"case{number}", None, "dice", "a", value) for number, value in enumerate(values)))
    grid = ScoreGrid((table,))
    ends = grid.mean_interval("dice", 0)
    assert ends is not None
    assert ends[0] < 0.48
    figure = case_figure(grid, DICE)
    assert figure.rows[0].interval is not None
    assert 0 < figure.rows[0].interval[0] < figure.axis.position(0.5)
    assert figure.axis.high <= 1


def test_rows_by_class_and_a_limit() -> None:
    figure = class_figure(ScoreGrid((make_table(4),)), DICE)
    assert figure is not None
    assert [row.label for row in figure.rows] == ["nucleus", "stroma", "vessel"]
    assert class_figure(ScoreGrid((make_table(4, classes=["one"]),)), DICE) is None
    assert class_figure(ScoreGrid((make_table(2, classes=[f"class {n}" for n in range(100)]),)), DICE) is None


def test_swapping_two_methods_mirrors_their_differences() -> None:
    tables = [make_table(9, f"method {number}", seed=number) for number in range(2)]
    for metric in METRICS.values():
        there = difference_figure(compare_tables(tables), metric, "").rows[0]
        back = difference_figure(compare_tables(tables[::-1]), metric, "")
        assert there.mean is not None
        assert back.rows[0].mean is not None
        assert there.mean + back.rows[0].mean == pytest.approx(WIDTH, abs=0.2)
        assert back.sides == tuple(f"method {number} is better" for number in ((1, 0) if metric.better == "higher" else (0, 1)))


# Simulation of colour vision at full severity, on linear RGB (Machado et al. 2009).
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}


def linear_rgb(colour: str) -> np.ndarray:
    share = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    low, high = sorted(float(linear_rgb(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("methods", "page"), [(LIGHT_METHODS, "#ffffff"), (DARK_METHODS, "#14171a")], ids=["light", "dark"])
def test_six_methods_are_told_apart_with_any_colour_vision(methods: tuple, page: str, vision: str) -> None:
    assert len(methods) == 6
    seen = []
    for method in methods:
        linear = np.clip(VISION[vision] @ linear_rgb(method.fill), 0, 1)
        shares = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        seen.append(rgb2lab(shares[None, None])[0, 0])
        assert contrast(method.fill, page) >= 3
        assert contrast(method.fill, method.ink) >= 4.5
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 20
