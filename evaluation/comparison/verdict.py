"""Verdict of a comparison: one sentence and remarks, derived from the numbers by fixed rules.

A method is called better only where the 95% interval of the paired difference excludes 0, the permutation test's p-value is at
most 0.05 after Holm's correction, and at least 10 cases or groups were compared. With fewer, the sentence itself says that
nothing was shown.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evaluation.comparison.paired_difference import FEW_UNITS, PairedDifference
from evaluation.metrics.metric import Metric

LEVEL = 0.05  # of p-values
Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What the verdict needs to know of a method.

    Args:
        label: display name.
        method: "unet" or "sliding_window"; None for a folder of masks.
        mean: mean of the headline metric over all its cases, of absolute values where zero is best; NaN where no case has one.
        seconds: time for all cases; None for a folder of masks, like the other costs.
        memory_bytes: working memory, or the GPU's memory where one is used.
        multiply_adds: multiply-adds per output pixel.
    """

    label: str
    method: str | None
    mean: float
    seconds: float | None = None
    memory_bytes: int | None = None
    multiply_adds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Numbers that the verdict is derived from.

    Args:
        contenders: two or more methods.
        metric: the headline metric.
        unit: unit of its values, such as um; empty without one.
        cases: number of compared cases.
        differences: paired difference in the headline metric for each pair of numbers (first, second), first < second.
        corrected_p: p-value of each pair after Holm's correction; without the pairs that have none.
        baseline_dice: mean Dice of Otsu's threshold; None where there is no baseline or Dice isn't the headline.
    """

    contenders: tuple[Contender, ...]
    metric: Metric
    unit: str
    cases: int
    differences: Mapping[Pair, PairedDifference]
    corrected_p: Mapping[Pair, float]
    baseline_dice: float | None

    def value_text(self, value: float) -> str:
        """Return a value of the metric as text, with its unit."""
        return f"{value:.3f}" if not self.unit else f"{value:.3g} {self.unit}"

    def signed_text(self, value: float) -> str:
        """Return a difference as text, with its sign and its unit."""
        text = f"{value:+.3f}" if not self.unit else f"{value:+.3g} {self.unit}"
        return text.replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Verdict:
    """Sentence on which method is better, and remarks that limit what it means."""

    sentence: str
    remarks: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.sentence, *self.remarks))


def decide_verdict(evidence: Evidence) -> Verdict:
    """Decide which method is better, by how much, how certain that is, and at what cost."""
    sentence = _sentence_for_two(evidence) if len(evidence.contenders) == 2 else _sentence_for_several(evidence)
    return Verdict(_capital(sentence), tuple(_remarks(evidence)))


def better_index(difference: PairedDifference, corrected_p: float | None) -> int | None:
    """Return 0 if the first method is shown to be better and 1 if the second is; None where neither is."""
    if not difference.is_evidence or difference.interval is None or corrected_p is None or corrected_p > LEVEL:
        return None
    if difference.interval[0] <= 0 <= difference.interval[1]:
        return None
    return int((difference.mean > 0) == (difference.better == "higher"))


def _sentence_for_two(evidence: Evidence) -> str:
    difference, p_value = evidence.differences[0, 1], evidence.corrected_p.get((0, 1))
    better = better_index(difference, p_value)
    title = evidence.metric.title
    if difference.pairs == 0:
        return f"No verdict: in none of the {evidence.cases} cases do both methods have a {title}."
    first, second = evidence.contenders
    if difference.ties == difference.pairs:
        return f"No difference: {first.label} and {second.label} have the same {title} in every case{_cost(evidence, 0)}."
    means = (
        f"mean {title} is {evidence.value_text(difference.means[0])} for {first.label} and "
        f"{evidence.value_text(difference.means[1])} for {second.label}"
    )
    if difference.units < FEW_UNITS or difference.interval is None:
        interval = (
            f", and the {_interval_text(evidence, difference)} of the difference is no evidence" if difference.interval else ""
        )
        return f"{_too_little(difference)}; {means}{interval}{_cost(evidence, 0)}."
    if better is None:
        return f"No difference was shown: {means}; {_uncertainty(evidence, difference, p_value)}{_cost(evidence, 0)}."
    winner, loser = evidence.contenders[better], evidence.contenders[1 - better]
    word = "higher" if difference.better == "higher" else "lower"
    interval = _interval_text(evidence, difference, 1 if difference.mean > 0 else -1)
    return (
        f"{winner.label} is better than {loser.label}: mean {title} {evidence.value_text(difference.means[better])} against "
        f"{evidence.value_text(difference.means[1 - better])}, {evidence.value_text(abs(difference.mean))} {word} "
        f"({interval}, which excludes 0{_p_text(p_value)}, over {_units(evidence, difference.units)}){_cost(evidence, better)}."
    )


def _sentence_for_several(evidence: Evidence) -> str:
    """Return the sentence for three and more methods: which ones the best is shown to be better than."""
    contenders, title = evidence.contenders, evidence.metric.title
    sign = -1 if evidence.metric.better == "higher" else 1
    with_mean = [number for number, contender in enumerate(contenders) if not math.isnan(contender.mean)]
    ranked = sorted(with_mean, key=lambda number: sign * contenders[number].mean)
    if len(ranked) < 2:
        return f"No verdict: fewer than two of the {len(contenders)} methods have a {title}."
    means = ", ".join(f"{evidence.value_text(contenders[number].mean)} for {contenders[number].label}" for number in ranked)
    best = ranked[0]
    pairs = {other: (min(best, other), max(best, other)) for other in ranked[1:]}
    units = min(evidence.differences[pair].units for pair in pairs.values())
    if units < FEW_UNITS:
        fewest = min((evidence.differences[pair] for pair in pairs.values()), key=lambda difference: difference.units)
        return f"{_too_little(fewest)}; mean {title} is {means}."
    beaten = [
        other
        for other, pair in pairs.items()
        if better_index(evidence.differences[pair], evidence.corrected_p.get(pair)) == pair.index(best)
    ]
    if not beaten:
        return f"No method was shown to be better than another: mean {title} is {means}, over {_units(evidence, units)}."
    rest = [contenders[other].label for other in ranked[1:] if other not in beaten]
    not_shown = f", but it was not shown to be better than {_list(rest)}" if rest else ""
    gains = _list([_gain(evidence, best, other, pairs[other]) for other in beaten])
    return (
        f"{contenders[best].label} is better than {gains}{not_shown}; mean {title} is {means}, over {_units(evidence, units)}."
    )


def _gain(evidence: Evidence, best: int, other: int, pair: Pair) -> str:
    difference = evidence.differences[pair]
    sign = 1 if pair[1] == best else -1
    p_value = evidence.corrected_p.get(pair)
    return (
        f"{evidence.contenders[other].label} (by {evidence.signed_text(sign * difference.mean)}, "
        f"{_interval_text(evidence, difference, sign)}{_p_text(p_value)})"
    )


def _too_little(difference: PairedDifference) -> str:
    """Return why nothing was shown: too few cases or groups, or no interval."""
    if difference.unit == "group" and difference.units == 1:
        return "Nothing was shown: all cases come from one group, which is no evidence for others"
    if difference.units < FEW_UNITS:
        return (
            f"Nothing was shown: {_count(difference.units, difference.unit)} "
            f"{'is' if difference.units == 1 else 'are'} too few, at least {FEW_UNITS} are needed"
        )
    return f"Nothing was shown: {difference.omitted}"


def _uncertainty(evidence: Evidence, difference: PairedDifference, p_value: float | None) -> str:
    """Return which of the interval and the test shows no difference."""
    ends = difference.interval or (0.0, 0.0)
    interval = f"the {_interval_text(evidence, difference)} of the paired difference"
    shown = "includes 0" if ends[0] <= 0 <= ends[1] else "excludes 0, but the permutation test shows none"
    return f"{interval} {shown}{_p_text(p_value)}, over {_units(evidence, difference.units)}"


def _interval_text(evidence: Evidence, difference: PairedDifference, sign: int = 1) -> str:
    """Return the interval of a difference as text; sign -1: of the negated difference."""
    ends = sorted(sign * end for end in difference.interval or (math.nan, math.nan))
    return f"95% interval {evidence.signed_text(ends[0])} to {evidence.signed_text(ends[1])}"


def _p_text(p_value: float | None) -> str:
    return "" if p_value is None else f", p = {p_value:.2g}"


def _remarks(evidence: Evidence) -> Iterator[str]:
    """Yield the remarks on the U-Net, on costs of several methods, and on methods that do not beat the baseline."""
    contenders = evidence.contenders
    if len(contenders) == 2 and {contender.method for contender in contenders} == {"unet", "sliding_window"}:
        difference = evidence.differences[0, 1]
        better = better_index(difference, evidence.corrected_p.get((0, 1)))
        if better is None and difference.is_evidence:
            yield "Here the U-Net is not shown to be better than the sliding window."
        elif better is not None and contenders[better].method != "unet":
            yield "Here the U-Net is not better than the sliding window: it is worse."
    if len(contenders) > 2:
        seconds = [f"{each.label} {each.seconds:,.3g} s" for each in contenders if each.seconds is not None]
        if seconds:
            yield f"Time for all cases: {', '.join(seconds)}."
    baseline = evidence.baseline_dice
    for contender in contenders:
        if baseline is not None and contender.mean <= baseline:  # false where either is NaN
            scores = f"({contender.mean:.3f} against {baseline:.3f})"
            yield f"{_capital(contender.label)} doesn't beat Otsu's threshold {scores}: it isn't worth its cost."


def _cost(evidence: Evidence, index: int) -> str:
    """Describe the cost of method `index` relative to the other one; empty where a folder's cost is unknown."""
    this, other = evidence.contenders[index], evidence.contenders[1 - index]
    if this.seconds is None or other.seconds is None:
        return ""
    costs = [
        (this.seconds, other.seconds, "time"),
        (this.memory_bytes, other.memory_bytes, "working memory"),
        (this.multiply_adds, other.multiply_adds, "multiply-adds"),
    ]
    parts = [f"{_ratio(one / two)} the {name}" for one, two, name in costs if one and two]
    if not parts:
        return "; its cost wasn't measured"
    return f"; {this.label} takes {_list(parts)} of {other.label}"


def _ratio(ratio: float) -> str:
    if ratio < 0.995:
        return f"{ratio:.0%} of" if ratio >= 0.01 else "less than 1% of"
    return f"{ratio:.2f} times" if ratio < 10 else f"{ratio:,.0f} times"


def _list(texts: Sequence[str]) -> str:
    """Join texts with commas and an "and" before the last one."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _units(evidence: Evidence, count: int) -> str:
    """Return the number of units, and of cases where these are in groups."""
    if any(difference.unit == "group" for difference in evidence.differences.values()):
        return f"{_count(count, 'group')} of {_count(evidence.cases, 'case')}"
    return _count(count, "case")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
