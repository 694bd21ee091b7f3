"""Rules of the verdict, one test for each."""

from collections.abc import Sequence
from math import nan
from typing import Any

import pytest

from evaluation.comparison.paired_difference import paired_difference
from evaluation.comparison.verdict import Evidence, Verdict, better_index, decide_verdict

LOW = [0.50, 0.52, 0.54, 0.51, 0.53, 0.50, 0.52, 0.54, 0.51, 0.53, 0.55, 0.56]
HIGH = [0.60, 0.63, 0.66, 0.60, 0.64, 0.62, 0.61, 0.66, 0.60, 0.65, 0.64, 0.66]


def judge(first: Sequence[float], second: Sequence[float], **changes: Any) -> Verdict:
    facts: dict[str, Any] = {
        "labels": ("U-Net", "sliding window"),
        "methods": ("unet", "sliding_window"),
        "cases": len(first),
        "difference": paired_difference(first, second),
        "seconds": (2.0, 8.0),
        "memory_bytes": (300, 100),
        "multiply_adds": (1e6, 219e3),
        "means": (0.6, 0.7),
        "baseline_dice": None,
    }
    return decide_verdict(Evidence(**(facts | changes)))


def test_the_first_is_better() -> None:
    assert judge(HIGH, LOW) == Verdict(
        "U-Net is better than sliding window: mean Dice 0.631 against 0.526, 0.105 higher (95% interval 0.096 to 0.114, "
        "which excludes 0), over 12 cases; U-Net takes 25% of the time, 3.00 times the working memory and 4.57 times the "
        "multiply-adds of sliding window.",
        (),
    )


def test_the_second_is_better_and_the_unet_is_said_to_be_worse() -> None:
    verdict = judge(LOW, HIGH)
    assert verdict.sentence.startswith("Sliding window is better than U-Net: mean Dice 0.631 against 0.526, 0.105 higher")
    assert "sliding window takes 4.00 times the time, 33% of the working memory and 22% of the" in verdict.sentence
    assert verdict.remarks == ("Here the U-Net is not better than the sliding window: it is worse.",)


def test_an_interval_with_zero_shows_no_difference() -> None:
    verdict = judge(LOW, [value + (0.02 if index % 2 else -0.02) for index, value in enumerate(LOW)])
    assert verdict.sentence.startswith("No difference was shown: mean Dice is 0.526 for U-Net and 0.526 for sliding window")
    assert "includes 0, over 12 cases; U-Net takes 25% of the time" in verdict.sentence
    assert verdict.remarks == ("Here the U-Net is not better than the sliding window.",)


@pytest.mark.parametrize(("count", "words"), [(1, "only 1 case can"), (2, "only 2 cases can")])
def test_too_few_cases(count: int, words: str) -> None:
    verdict = judge(HIGH[:count], LOW[:count])
    assert verdict.sentence.startswith(f"No verdict: {words} be compared, at least 3 are needed; mean Dice is 0.6")
    assert verdict.remarks == ()


@pytest.mark.parametrize("values", [[], [nan, nan]])
def test_no_values(values: list[float]) -> None:
    verdict = judge(values, values)
    assert verdict.sentence == f"No verdict: in none of the {len(values)} cases do both methods have a Dice."


def test_equal_everywhere() -> None:
    verdict = judge(LOW, LOW)
    assert verdict.sentence.startswith("No difference: U-Net and sliding window have the same Dice in every case; U-Net takes")


def test_the_same_step_everywhere() -> None:
    verdict = judge([0.5] * 4, [0.75] * 4)
    assert verdict.sentence.startswith("No verdict: mean Dice is 0.500 for U-Net and 0.750 for sliding window, but all cases")


def test_few_cases_are_a_hint() -> None:
    assert judge(HIGH[:9], LOW[:9]).remarks == ("With only 9 cases the interval is too narrow: take it as a hint.",)


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
    remarks = judge(HIGH, LOW, means=means, baseline_dice=baseline).remarks
    assert len(remarks) == len(losers)
    assert all(remark.startswith(loser) for remark, loser in zip(remarks, losers, strict=True))


def test_two_bundles_of_one_method_have_no_remark_on_the_unet() -> None:
    assert judge(LOW, HIGH, methods=("unet", "unet"), labels=("a", "b")).remarks == ()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [((1.0, 1000.0), "less than 1% of the time"), ((1000.0, 1.0), "1,000 times the time"), ((1.0, 1.0), "1.00 times the time")],
)
def test_ratios_in_words(seconds: tuple[float, float], words: str) -> None:
    assert f"U-Net takes {words}" in judge(HIGH, LOW, seconds=seconds).sentence


def test_a_cost_that_was_not_measured_is_left_out() -> None:
    assert "U-Net takes 25% of the time and 4.57 times the multiply-adds of" in judge(HIGH, LOW, memory_bytes=(0, 5)).sentence
    nothing = judge(HIGH, LOW, memory_bytes=(0, 0), seconds=(0.0, 0.0), multiply_adds=(0.0, 0.0))
    assert nothing.sentence.endswith("; its cost wasn't measured.")


def test_better_index() -> None:
    assert better_index(paired_difference(HIGH, LOW)) == 0
    assert better_index(paired_difference(LOW, HIGH)) == 1
    assert better_index(paired_difference(LOW, LOW)) is None


def test_a_verdict_as_text() -> None:
    assert str(Verdict("One.", ("Two.", "Three."))) == "One. Two. Three."
