"""Result of a comparison of two bundles: plain values with everything that its page shows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from configs.sections import ClassSection
from evaluation.comparison.measurement import Measurement
from evaluation.comparison.paired_difference import PairedDifference
from evaluation.comparison.threshold_baseline import ThresholdBaseline
from evaluation.comparison.verdict import Verdict
from evaluation.metrics.overlap import Overlaps, nan_mean


@dataclass(frozen=True)
class CaseResult:
    """Scores of both methods on one case; pairs are (first method, second method).

    Args:
        name: the case's name in cases.csv.
        group: the case's group in cases.csv; None where it has none.
        shape: shape of the image, in S order.
        overlaps: Dice and IoU of each method's mask with the reference.
        agreement: share of pixels where the two masks have the same label.
        agreement_dice: macro Dice between the two masks; NaN where both are background only.
        empty: the reference has no foreground.
    """

    name: str
    group: str | None
    shape: tuple[int, ...]
    overlaps: tuple[Overlaps, Overlaps]
    agreement: float
    agreement_dice: float
    empty: bool

    @property
    def second_minus_first(self) -> float:
        """Difference of the macro Dice; NaN where either method has none."""
        return self.overlaps[1].macro_dice - self.overlaps[0].macro_dice


@dataclass(frozen=True)
class MethodResult:
    """Description, scores and cost of one bundle over all cases.

    Args:
        label: display name in the report.
        name: name of the training run.
        method: "unet" or "sliding_window".
        seed: seed of the training run.
        parameters: number of trained weights.
        training_steps: steps of the training run.
        training_seconds: duration of the training run.
        commit: commit of the code that trained it; None where it is unknown.
        pooled: overlaps of all cases' pixels together.
        measurement: time, memory and machine.
        multiply_adds_per_pixel: multiply-adds as Overtile tiles these images, margins included.
        patch_by_patch_per_pixel: multiply-adds if each pixel's window were run separately; None for a U-Net.
    """

    label: str
    name: str
    method: str
    seed: int
    parameters: int
    training_steps: int
    training_seconds: float
    commit: str | None
    pooled: Overlaps
    measurement: Measurement
    multiply_adds_per_pixel: float
    patch_by_patch_per_pixel: int | None

    @property
    def seconds(self) -> float:
        """Time for all cases."""
        return math.fsum(self.measurement.seconds)


@dataclass(frozen=True)
class PictureTile:
    """Picture in the row of a case: title, alternative text, and PNG."""

    title: str
    alt: str
    png: bytes


@dataclass(frozen=True)
class CasePicture:
    """Row of pictures of one case: `why` the case was selected, and `where` in the image the pictures lie."""

    name: str
    why: str
    where: str
    tiles: tuple[PictureTile, ...]


@dataclass(frozen=True)
class Comparison:
    """Comparison of two methods on the same held-out cases.

    Args:
        data: name of the data set's folder.
        split: split of the cases.
        dimensions: 2 or 3.
        classes: classes, background first.
        spacing_um: spacing that both methods were trained at.
        methods: first and second method.
        cases: results in the order of cases.csv.
        difference: paired difference of the macro Dice, second minus first.
        baseline: scores of Otsu's threshold; None where it isn't defined.
        baseline_omitted: why there is no baseline; None where there is one.
        notes: limits of the comparison that a reader must know.
        pictures: pictures of up to six cases.
        verdict: sentence and remarks derived from the numbers.
    """

    data: str
    split: str
    dimensions: int
    classes: tuple[ClassSection, ...]
    spacing_um: tuple[float, ...] | None
    methods: tuple[MethodResult, MethodResult]
    cases: tuple[CaseResult, ...]
    difference: PairedDifference
    baseline: ThresholdBaseline | None
    baseline_omitted: str | None
    notes: tuple[str, ...]
    pictures: tuple[CasePicture, ...]
    verdict: Verdict

    @property
    def pixels(self) -> int:
        """Number of pixels of all cases together."""
        return sum(math.prod(case.shape) for case in self.cases)

    @property
    def agreement(self) -> float:
        """Share of all pixels where the two masks have the same label; NaN without cases."""
        same = math.fsum(case.agreement * math.prod(case.shape) for case in self.cases)
        return same / self.pixels if self.pixels else math.nan

    @property
    def agreement_dice(self) -> float:
        """Mean over cases of the macro Dice between the two masks."""
        return nan_mean(case.agreement_dice for case in self.cases)

    def mean_dice(self, index: int) -> float:
        """Return the macro Dice of method 0 or 1, mean over the cases that have one."""
        return nan_mean(case.overlaps[index].macro_dice for case in self.cases)

    def mean_iou(self, index: int) -> float:
        """Return the macro IoU of method 0 or 1, mean over the cases that have one."""
        return nan_mean(case.overlaps[index].macro_iou for case in self.cases)

    def class_dice(self, index: int, label: int) -> float:
        """Return the Dice of one label (from 1 on) of method 0 or 1, mean over the cases that have one."""
        return nan_mean(case.overlaps[index].dice[label - 1] for case in self.cases)

    def score_rows(self) -> list[tuple[str, tuple[float, float], float | None]]:
        """Return the scores by name: both methods' values, and the baseline's where it has that score."""
        baseline = self.baseline
        pooled = self.methods[0].pooled.macro_dice, self.methods[1].pooled.macro_dice
        rows: list[tuple[str, tuple[float, float], float | None]] = [
            ("Dice, mean over cases", (self.mean_dice(0), self.mean_dice(1)), baseline.mean_dice if baseline else None),
            ("IoU, mean over cases", (self.mean_iou(0), self.mean_iou(1)), None),
            ("Dice, all pixels pooled", pooled, baseline.pooled_dice if baseline else None),
        ]
        if len(self.classes) > 2:
            for label, section in enumerate(self.classes[1:], start=1):
                rows.append((f"Dice of {section.name}", (self.class_dice(0, label), self.class_dice(1, label)), None))
        return rows

    def empty_cases(self, index: int) -> int:
        """Count the cases without a Dice: neither the reference nor the mask of method 0 or 1 has foreground."""
        return sum(math.isnan(case.overlaps[index].macro_dice) for case in self.cases)

    def false_alarms(self, index: int) -> int:
        """Count the cases without foreground in the reference where the mask of method 0 or 1 has some."""
        return sum(case.empty and not math.isnan(case.overlaps[index].macro_dice) for case in self.cases)

    @property
    def empty_references(self) -> int:
        """Number of cases whose reference has no foreground."""
        return sum(case.empty for case in self.cases)


def method_labels(methods: Sequence[str], names: Sequence[str]) -> tuple[str, str]:
    """Return the display names of two methods: by method where these differ, else by run, else by order."""
    display_names = {"unet": "U-Net", "sliding_window": "sliding window"}
    if methods[0] != methods[1]:
        return display_names[methods[0]], display_names[methods[1]]
    if names[0] != names[1]:
        return names[0], names[1]
    return f"{names[0]} (first)", f"{names[1]} (second)"
