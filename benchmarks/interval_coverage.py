"""Coverage of intervals of the mean paired difference, and false findings of the permutation test, on simulated comparisons.

    PYTHONPATH=. .venv/bin/python benchmarks/interval_coverage.py [--sets 1000]

A set is the differences of two methods over cases, or over groups of 1 and more cases (geometric, 5 on average) that share half
of their variance. Differences are normal; or those of two Dice scores around the difficulty of a common case; or skewed, as
where one method gains most on difficult cases. The true mean is 0. Overtile's interval is bootstrap-t over cases, or over the
means of groups.
"""

import argparse
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evaluation.comparison.bootstrap_interval import RESAMPLES, bootstrap_t_ends
from evaluation.comparison.permutation_test import sign_flip_p_value

Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Values]
TAILS = np.array([0.025, 0.975])
SHARED_VARIANCE = 0.5
MEAN_GROUP_SIZE = 5
SIZES = (10, 20, 50)
DICE, GAIN = (8.0, 2.0), (6.0, 1.5)  # Beta distributions of the Dice of a case
SHARPNESS = 40  # of a method's Dice around that of the case


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=1000)
    sets = parser.parse_args().sets
    print(f"{sets:,} sets, share whose 95% interval contains the true mean; share with p below .05.\n")
    print("| units | differences | number | percentile | BCa | Student's t | bootstrap-t (Overtile) | false findings |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for unit in ("cases", "groups"):
        for name, draw in (("normal", draw_normal), ("of two Dice", draw_dice), ("skewed", draw_gain)):
            for units in SIZES:
                random = np.random.default_rng(units)
                values = draw(random, (units, sets)) if unit == "cases" else draw_group_means(random, draw, units, sets)
                coverage = " | ".join(f"{share:.3f}" for share in coverages(values))
                findings = np.mean([sign_flip_p_value(column) < 0.05 for column in values.T.tolist()])
                print(f"| {unit} | {name} | {units} | {coverage} | {findings:.3f} |", flush=True)


def draw_normal(random: np.random.Generator, shape: tuple[int, ...]) -> Values:
    """Return normal differences."""
    return random.normal(0, 0.05, shape)


def draw_dice(random: np.random.Generator, shape: tuple[int, ...]) -> Values:
    """Return differences of two Dice scores around that of a common case."""
    dice = SHARPNESS * random.beta(*DICE, shape)
    return random.beta(dice, SHARPNESS - dice) - random.beta(dice, SHARPNESS - dice)


def draw_gain(random: np.random.Generator, shape: tuple[int, ...]) -> Values:
    """Return gains of a uniform share of what lacks to a Dice of 1, minus their mean."""
    lack = GAIN[1] / sum(GAIN)
    return (1 - random.beta(*GAIN, shape)) * random.uniform(0, 1, shape) - lack / 2


def draw_group_means(random: np.random.Generator, draw: Draw, units: int, sets: int) -> Values:
    """Return the mean difference of each group (units, sets), of cases that are alike within a group."""
    sizes = random.geometric(1 / MEAN_GROUP_SIZE, (units, sets))
    in_group = np.arange(sizes.max())[:, None, None] < sizes  # (most cases, units, sets)
    means = (draw(random, in_group.shape) * in_group).sum(axis=0) / sizes
    return math.sqrt(SHARED_VARIANCE) * draw(random, sizes.shape) + math.sqrt(1 - SHARED_VARIANCE) * means


def coverages(sets: Values) -> list[float]:
    """Return the share of sets (units, N) whose percentile, BCa, Student's and bootstrap-t interval contains 0."""
    means, errors = sets.mean(axis=0), stats.sem(sets, axis=0)
    reach = stats.t.ppf(TAILS[1], len(sets) - 1) * errors
    intervals = [*bootstrap_ends(sets), (means - reach, means + reach), bootstrap_t_ends(sets)]
    return [float(np.mean((low <= 0) & (high >= 0))) for low, high in intervals]


def bootstrap_ends(sets: Values) -> list[tuple[Values, Values]]:
    """Return the ends of the percentile and of the BCa intervals (Efron 1987) of each set (units, N)."""
    units = len(sets)
    drawn = np.random.default_rng(0).multinomial(units, [1 / units] * units, RESAMPLES)
    means = np.sort(drawn @ sets / units, axis=0)  # (resamples, N)
    centred = sets - sets.mean(axis=0)
    acceleration = (centred**3).sum(axis=0) / (6 * (centred**2).sum(axis=0) ** 1.5)
    bias = stats.norm.ppf((means < sets.mean(axis=0)).mean(axis=0))
    levels = bias + stats.norm.ppf(TAILS)[:, None]  # (2, N)
    corrected = stats.norm.cdf(bias + levels / (1 - acceleration * levels))
    low, high = (
        np.take_along_axis(means, np.round(share * (RESAMPLES - 1)).astype(int)[None], axis=0)[0] for share in corrected
    )
    percentiles = np.quantile(means, TAILS, axis=0)
    return [(percentiles[0], percentiles[1]), (low, high)]


if __name__ == "__main__":
    main()
