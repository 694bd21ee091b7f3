"""Rules of the verdict, one test for each."""

from collections.abc import Sequence
from itertools import combinations
from math import nan
from typing import Any

import pytest

from evaluation.comparison.paired_difference import paired_difference
from evaluation.comparison.permutation_test import holm_corrected
from evaluation.comparison.verdict import Contender, Evidence, Verdict, better_index, decide_verdict
from evaluation.metrics.overlap import nan_mean
from evaluation.metrics.registry import METRICS

LOW = [0.50, 0.52, 0.54, 0.51, 0.53, 0.50, 0.52, 0.54, 0.51, 0.53, 0.55, 0.56]
HIGH = [0.60, 0.63, 0.66, 0.60, 0.64, 0.62, 0.61, 0.66, 0.60, 0.65, 0.64, 0.66]
LABELS = ("U-Net", "sliding window", "other tool")
METHODS = ("unet", "sliding_window", None)


def judge(*scores: Sequence[float], metric: str = "dice", groups: Sequence[str] | None = None, **changes: Any) -> Verdict:
    """Return the verdict on methods with these scores; `changes` are those of all contenders or of the evidence."""
    better = METRICS[metric].better
    differences = {
        (first, second): paired_difference(scores[first], scores[second], groups=groups, better=better)
        for first, second in combinations(range(len(scores)), 2)
    }
    p_values = {pair: difference.p_value for pair, difference in differences.items() if difference.p_value is not None}
    costs = {"seconds": (2.0, 8.0, None), "memory_bytes": (300, 100, None), "multiply_adds": (1e6, 219e3, None)}
    facts = {"label": LABELS, "method": METHODS, "mean": [nan_mean(values) for values in scores]} | costs
    facts |= {name: changes.pop(name) for name in list(changes) if name in facts}
    evidence: dict[str, Any] = {
        "contenders": tuple(
            Contender(**{name: values[index] for name, values in facts.items()}) for index in range(len(scores))
        ),
        "metric": METRICS[metric],
        "unit": "um" if METRICS[metric].unit == "distance" else "",
        "cases": len(scores[0]),
        "differences": differences,
        "corrected_p": dict(zip(p_values, holm_corrected(list(p_values.values())), strict=True)),
        "baseline_dice": None,
    }
    return decide_verdict(Evidence(**(evidence | changes)))


def test_the_first_is_better() -> None:
    assert judge(HIGH, LOW) == Verdict(
        "U-Net is better than sliding window: mean Dice 0.631 against 0.526, 0.105 higher (95% interval +0.096 to +0.114, "
        "which excludes 0, p = 0.00049, over 12 cases); U-Net takes 25% of the time, 3.00 times the working memory and 4.57 "
        "times the multiply-adds of sliding window.",
        (),
    )


def test_the_second_is_better_and_the_unet_is_said_to_be_worse() -> None:
    verdict = judge(LOW, HIGH)
    assert verdict.sentence.startswith("Sliding window is better than U-Net: mean Dice 0.631 against 0.526, 0.105 higher (95%")
    assert "sliding window takes 4.00 times the time, 33% of the working memory and 22% of the" in verdict.sentence
    assert verdict.remarks == ("Here the U-Net is not better than the sliding window: it is worse.",)


def test_shorter_distances_are_better() -> None:
    verdict = judge([10 * value for value in HIGH], [10 * value for value in LOW], metric="hd95")
    assert verdict.sentence.startswith(
        "Sliding window is better than U-Net: mean HD95 5.26 um against 6.31 um, 1.05 um lower (95% interval "
    )


def test_an_interval_with_zero_shows_no_difference() -> None:
    verdict = judge(LOW, [value + (0.02 if index % 2 else -0.02) for index, value in enumerate(LOW)])
    assert verdict.sentence.startswith(
        "No difference was shown: mean Dice is 0.526 for U-Net and 0.526 for sliding window; the 95%"
    )
    assert "of the paired difference includes 0, p = 1, over 12 cases; U-Net takes 25% of the time" in verdict.sentence
    assert verdict.remarks == ("Here the U-Net is not shown to be better than the sliding window.",)


def test_the_interval_alone_does_not_decide() -> None:
    verdict = judge(HIGH, LOW, corrected_p={(0, 1): 0.06})
    assert verdict.sentence.startswith("No difference was shown: ")
    assert "excludes 0, but the permutation test shows none, p = 0.06" in verdict.sentence


@pytest.mark.parametrize(("count", "words"), [(1, "1 case is"), (2, "2 cases are"), (9, "9 cases are")])
def test_too_few_cases_are_said_in_the_sentence(count: int, words: str) -> None:
    verdict = judge(HIGH[:count], LOW[:count])
    assert verdict.sentence.startswith(f"Nothing was shown: {words} too few, at least 10 are needed; mean Dice is 0.6")
    assert ("of the difference is no evidence; U-Net takes" in verdict.sentence) == (count == 9)
    assert verdict.remarks == ()


def test_cases_of_one_group_show_nothing_and_few_groups_neither() -> None:
    one = judge(HIGH, LOW, groups=["right half"] * 12)
    assert one.sentence.startswith(
        "Nothing was shown: all cases come from one group, which is no evidence for others; mean Dice"
    )
    few = judge(HIGH, LOW, groups=["a", "b", "c", "d"] * 3)
    assert few.sentence.startswith("Nothing was shown: 4 groups are too few, at least 10 are needed; mean Dice is 0.631 for")
    many = judge(HIGH, LOW, groups=[*"abcdefghij", "j", "j"])
    assert "over 10 groups of 12 cases" in many.sentence


@pytest.mark.parametrize("values", [[], [nan, nan]])
def test_no_values(values: list[float]) -> None:
    verdict = judge(values, values)
    assert verdict.sentence == f"No verdict: in none of the {len(values)} cases do both methods have a Dice."


def test_equal_everywhere() -> None:
    verdict = judge(LOW, LOW)
    assert verdict.sentence.startswith("No difference: U-Net and sliding window have the same Dice in every case; U-Net takes")


def test_the_same_step_everywhere() -> None:
    verdict = judge([0.5] * 12, [0.75] * 12)
    assert verdict.sentence.startswith(
        "Nothing was shown: all cases differ by the same amount, so resampling them shows no spread"
    )


@pytest.mark.parametrize(
    ("means", "baseline", "losers"),
    [
        ((0.6, 0.7), 0.5, []),
        ((0.6, 0.7), 0.65, ["U-Net doesn't beat Otsu's threshold (0.600 against 0.650)"]),
        ((0.6, 0.7), 0.7, ["U-Net doesn't", "Sliding window doesn't beat Otsu's threshold (0.700 against 0.700)"]),
        ((0.6, nan), 0.5, []),
        ((0.6, 0.7), nan, []),
    ],
)
def test_the_baseline(means: tuple[float, float], baseline: float, losers: list[str]) -> None:
    remarks = judge(HIGH, LOW, mean=means, baseline_dice=baseline).remarks
    assert len(remarks) == len(losers)
    assert all(remark.startswith(loser) for remark, loser in zip(remarks, losers, strict=True))


def test_two_bundles_of_one_method_have_no_remark_on_the_unet() -> None:
    assert judge(LOW, HIGH, method=("unet", "unet"), label=("a", "b")).remarks == ()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [((1.0, 1000.0), "less than 1% of the time"), ((1000.0, 1.0), "1,000 times the time"), ((1.0, 1.0), "1.00 times the time")],
)
def test_ratios_in_words(seconds: tuple[float, float], words: str) -> None:
    assert f"U-Net takes {words}" in judge(HIGH, LOW, seconds=seconds).sentence


def test_costs_that_are_not_known_are_left_out() -> None:
    assert "U-Net takes 25% of the time and 4.57 times the multiply-adds of" in judge(HIGH, LOW, memory_bytes=(0, 5)).sentence
    nothing = judge(HIGH, LOW, memory_bytes=(0, 0), seconds=(0.0, 0.0), multiply_adds=(0.0, 0.0))
    assert nothing.sentence.endswith("; its cost wasn't measured.")
    assert judge(HIGH, LOW, seconds=(2.0, None)).sentence.endswith("over 12 cases).")


MIDDLE = [(2 * low + high) / 3 for low, high in zip(LOW, HIGH, strict=True)]


def test_the_best_of_three_beats_both_others() -> None:
    verdict = judge(LOW, HIGH, MIDDLE)
    assert verdict.sentence.startswith("Sliding window is better than other tool (by +0.070, 95% interval +0.0")
    assert (
        " and U-Net (by +0.105, 95% interval +0.096 to +0.114, p = 0.0015); mean Dice is 0.631 for sliding" in verdict.sentence
    )
    assert verdict.sentence.endswith("0.561 for other tool, 0.526 for U-Net, over 12 cases.")
    assert verdict.remarks == ("Time for all cases: U-Net 2 s, sliding window 8 s.",)


def test_the_best_of_three_beats_one_of_the_others() -> None:
    like_high = [value + (0.011 if index % 2 else -0.012) for index, value in enumerate(HIGH)]
    verdict = judge(LOW, HIGH, like_high)
    assert verdict.sentence.startswith("Sliding window is better than U-Net (by +0.105")
    assert ", but it was not shown to be better than other tool; mean Dice is 0.631 for sliding window" in verdict.sentence


def test_none_of_three_is_shown_to_be_best() -> None:
    like_low = [value + (0.02 if index % 2 else -0.02) for index, value in enumerate(LOW)]
    assert judge(LOW, like_low, LOW).sentence.startswith(
        "No method was shown to be better than another: mean Dice is 0.526 for"
    )
    assert judge(LOW[:4], HIGH[:4], MIDDLE[:4]).sentence.startswith(
        "Nothing was shown: 4 cases are too few, at least 10 are needed;"
    )
    assert judge([nan], [nan], [0.5]).sentence == "No verdict: fewer than two of the 3 methods have a Dice."


def test_the_lowest_distance_of_three_is_the_best() -> None:
    scaled = [[10 * value for value in values] for values in (HIGH, LOW, MIDDLE)]
    assert judge(*scaled, metric="hd95").sentence.startswith(
        "Sliding window is better than other tool (by \N{MINUS SIGN}0.35 um"
    )


def test_better_index() -> None:
    assert better_index(paired_difference(HIGH, LOW), 0.01) == 0
    assert better_index(paired_difference(LOW, HIGH), 0.01) == 1
    assert better_index(paired_difference(LOW, HIGH, better="lower"), 0.01) == 0
    assert better_index(paired_difference(LOW, HIGH), 0.2) is None
    assert better_index(paired_difference(LOW, LOW), 1.0) is None
    assert better_index(paired_difference(LOW[:9], HIGH[:9]), 0.01) is None


def test_a_verdict_as_text() -> None:
    assert str(Verdict("One.", ("Two.", "Three."))) == "One. Two. Three."
