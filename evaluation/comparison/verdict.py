"""Verdict of a comparison: one sentence and remarks, derived from the numbers by fixed rules."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.comparison.bootstrap_interval import FEWEST_UNITS
from evaluation.comparison.paired_difference import FEW_UNITS, PairedDifference


@dataclass(frozen=True)
class Evidence:
    """Numbers that the verdict is derived from; pairs are (first method, second method).

    Args:
        labels: display name of each method.
        methods: "unet" or "sliding_window".
        cases: number of compared cases.
        difference: paired difference of the macro Dice.
        seconds: time for all cases.
        memory_bytes: working memory, or the GPU's memory where one is used.
        multiply_adds: multiply-adds per output pixel.
        means: mean Dice of each method over all its cases.
        baseline_dice: mean Dice of Otsu's threshold; None where there is no baseline.
    """

    labels: tuple[str, str]
    methods: tuple[str, str]
    cases: int
    difference: PairedDifference
    seconds: tuple[float, float]
    memory_bytes: tuple[int, int]
    multiply_adds: tuple[float, float]
    means: tuple[float, float]
    baseline_dice: float | None


@dataclass(frozen=True)
class Verdict:
    """Sentence on which method is better, and remarks that limit what it means."""

    sentence: str
    remarks: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.sentence, *self.remarks))


def decide_verdict(evidence: Evidence) -> Verdict:
    """Decide which method is better, by how much, how certain that is, and at what cost.

    A method is called better only where the 95% interval of the paired difference excludes 0.
    """
    return Verdict(_sentence(evidence), tuple(_remarks(evidence)))


def better_index(difference: PairedDifference) -> int | None:
    """Return 0 if the first method is better and 1 if the second is; None where the interval is missing or includes 0."""
    if difference.interval is None or difference.interval[0] <= 0 <= difference.interval[1]:
        return None
    return int(difference.mean > 0)


def _sentence(evidence: Evidence) -> str:
    """Return the verdict's sentence for an interval that excludes 0, includes 0, or is missing."""
    difference, better = evidence.difference, better_index(evidence.difference)
    if difference.pairs == 0:
        return f"No verdict: in none of the {evidence.cases} cases do both methods have a Dice."
    if difference.interval is None:
        return _sentence_without_interval(evidence)
    first, second = evidence.labels
    low, high = difference.interval
    if better is None:
        return (
            f"No difference was shown: mean Dice is {difference.means[0]:.3f} for {first} and {difference.means[1]:.3f} for "
            f"{second}, and the 95% interval of the paired difference ({_signed(low)} to {_signed(high)}) includes 0, "
            f"over {_cases(difference.pairs)}; {_cost(evidence, 0)}."
        )
    ends = sorted((abs(low), abs(high)))
    return (
        f"{_capital(evidence.labels[better])} is better than {evidence.labels[1 - better]}: "
        f"mean Dice {difference.means[better]:.3f} "
        f"against {difference.means[1 - better]:.3f}, {abs(difference.mean):.3f} higher (95% interval {ends[0]:.3f} to "
        f"{ends[1]:.3f}, which excludes 0), over {_cases(difference.pairs)}; {_cost(evidence, better)}."
    )


def _sentence_without_interval(evidence: Evidence) -> str:
    difference = evidence.difference
    first, second = evidence.labels
    means = f"mean Dice is {difference.means[0]:.3f} for {first} and {difference.means[1]:.3f} for {second}"
    if difference.pairs < FEWEST_UNITS:
        return f"No verdict: only {_cases(difference.pairs)} can be compared, at least {FEWEST_UNITS} are needed; {means}."
    if all(math.isnan(value) or abs(value) < 1e-12 for value in difference.second_minus_first):
        return f"No difference: {first} and {second} have the same Dice in every case; {_cost(evidence, 0)}."
    return f"No verdict: {means}, but {difference.omitted}; {_cost(evidence, 0)}."


def _remarks(evidence: Evidence) -> Iterator[str]:
    """Yield the remarks on the U-Net, on few cases, and on methods that do not beat the baseline."""
    difference, better = evidence.difference, better_index(evidence.difference)
    if set(evidence.methods) == {"unet", "sliding_window"} and difference.interval is not None:
        if better is None:
            yield "Here the U-Net is not better than the sliding window."
        elif evidence.methods[better] != "unet":
            yield "Here the U-Net is not better than the sliding window: it is worse."
    if difference.interval is not None and difference.pairs < FEW_UNITS:
        yield f"With only {_cases(difference.pairs)} the interval is too narrow: take it as a hint."
    baseline = evidence.baseline_dice
    for label, mean in zip(evidence.labels, evidence.means, strict=True):
        if baseline is not None and mean <= baseline:  # false where either is NaN
            scores = f"({mean:.3f} against {baseline:.3f})"
            yield f"{_capital(label)} doesn't beat Otsu's threshold {scores}: it isn't worth its cost."


def _cost(evidence: Evidence, index: int) -> str:
    """Describe the cost of method `index` relative to the other method."""
    costs = [
        (evidence.seconds, "time"),
        (evidence.memory_bytes, "working memory"),
        (evidence.multiply_adds, "multiply-adds"),
    ]
    parts = [f"{_ratio(pair[index] / pair[1 - index])} the {name}" for pair, name in costs if min(pair) > 0]
    if not parts:
        return "its cost wasn't measured"
    words = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{evidence.labels[index]} takes {words} of {evidence.labels[1 - index]}"


def _ratio(ratio: float) -> str:
    if ratio < 0.995:
        return f"{ratio:.0%} of" if ratio >= 0.01 else "less than 1% of"
    return f"{ratio:.2f} times" if ratio < 10 else f"{ratio:,.0f} times"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
