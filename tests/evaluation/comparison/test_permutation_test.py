"""P-values against enumeration by hand and by SciPy, and Holm's correction against typed-out values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evaluation.comparison.permutation_test import holm_corrected, sign_flip_p_value

DIFFERENCES = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [
        ([], 1.0),
        ([0.0, 0.0], 1.0),
        ([0.3], 1.0),
        ([0.1, 0.2, 0.3], 2 / 8),  # +++ and ---
        ([0.1, 0.2, 0.3, 0.0], 2 / 8),  # a tie has no sign
        ([-0.1, 0.2, 0.3], 4 / 8),  # totals at least 0.4 away from 0: +++, -++, +--, ---
        ([1.0] * 10, 2 / 2**10),
    ],
)
def test_small_samples_are_counted_exactly(differences: list[float], p_value: float) -> None:
    assert sign_flip_p_value(differences) == p_value


def test_exact_p_values_are_those_of_scipy() -> None:
    random = np.random.default_rng(5)
    for size in range(2, 10):
        values = random.normal(0.3, 1, size)
        expected = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip_p_value(values.tolist()) == pytest.approx(expected.pvalue, abs=1e-12)


def test_random_flips_are_near_the_t_test() -> None:
    values = np.random.default_rng(2).normal(0.3, 1, 60)
    expected = stats.ttest_1samp(values, 0).pvalue
    assert sign_flip_p_value(values.tolist()) == pytest.approx(expected, abs=0.01)
    assert sign_flip_p_value([1.0] * 100) == 1 / 10_000  # never 0


@given(DIFFERENCES)
def test_it_does_not_depend_on_direction_or_scale(differences: list[float]) -> None:
    p_value = sign_flip_p_value(differences)
    assert 0 < p_value <= 1
    assert sign_flip_p_value([-value for value in differences]) == p_value
    assert sign_flip_p_value([4 * value for value in differences]) == p_value


def test_holm_multiplies_the_smallest_by_the_number_of_tests() -> None:
    assert holm_corrected([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm_corrected([0.5, 0.9]) == [1.0, 1.0]
    assert holm_corrected([0.2]) == [0.2]
    assert holm_corrected([]) == []
