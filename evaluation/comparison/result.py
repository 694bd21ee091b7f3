"""What a comparison found: plain values, all that the report shows; `compare` makes it and `write_report` draws it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from configs.sections import ClassSection
from evaluation.comparison.measurement import Measured
from evaluation.comparison.paired_difference import Difference
from evaluation.comparison.threshold_baseline import Floor
from evaluation.comparison.verdict import Verdict
from evaluation.metrics.overlap import Overlaps, mean_of


@dataclass(frozen=True)
class CaseResult:
    """One case under both methods; pairs are (first, second).

    Args:
        name: of cases.csv.
        group: of cases.csv, or None.
        shape: the image's, S order.
        overlaps: with the reference.
        agreement: share of pixels where the two masks have the same label.
        agreement_dice: macro Dice between the two masks; NaN where both hold background only.
        empty: the reference has no foreground at all.
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
        """Difference of the macro Dice; NaN where either has none."""
        return self.overlaps[1].macro_dice - self.overlaps[0].macro_dice


@dataclass(frozen=True)
class MethodResult:
    """One bundle: what it is, what it scored over all cases, what it took.

    Args:
        label: what the report calls it.
        name: the run's.
        method: "unet" or "sliding_window".
        seed: the run's.
        parameters: trained weights.
        training_steps: of the manifest.
        training_seconds: of the manifest.
        commit: of the manifest.
        pooled: overlaps of all cases' pixels together.
        measured: seconds, memory, machine.
        multiply_adds_per_pixel: as Overtile tiles these images, margins included.
        patch_by_patch_per_pixel: if each pixel's window went through the network alone; None for a U-Net.
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
    measured: Measured
    multiply_adds_per_pixel: float
    patch_by_patch_per_pixel: int | None

    @property
    def seconds(self) -> float:
        """For all cases."""
        return math.fsum(self.measured.seconds)


@dataclass(frozen=True)
class PictureTile:
    """One picture of a row: a title, what it shows in words, and the PNG."""

    title: str
    alt: str
    png: bytes


@dataclass(frozen=True)
class CasePicture:
    """A row of pictures of one case; `why` it was chosen, `where` in the image it lies."""

    name: str
    why: str
    where: str
    tiles: tuple[PictureTile, ...]


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same held-out cases.

    Args:
        data: the data set's folder name.
        split: of the cases.
        dimensions: 2 or 3.
        classes: background first.
        spacing_um: that both were trained at.
        methods: first and second.
        cases: in the order of cases.csv.
        difference: of the macro Dice, second minus first.
        floor: Otsu's threshold; None where it isn't defined, and then `floor_omitted` says why.
        notes: what a reader must know beside the numbers.
        pictures: up to six cases.
        verdict: made from the numbers by fixed rules.
    """

    data: str
    split: str
    dimensions: int
    classes: tuple[ClassSection, ...]
    spacing_um: tuple[float, ...] | None
    methods: tuple[MethodResult, MethodResult]
    cases: tuple[CaseResult, ...]
    difference: Difference
    floor: Floor | None
    floor_omitted: str | None
    notes: tuple[str, ...]
    pictures: tuple[CasePicture, ...]
    verdict: Verdict

    @property
    def pixels(self) -> int:
        """Of all cases together."""
        return sum(math.prod(case.shape) for case in self.cases)

    @property
    def agreement(self) -> float:
        """Share of all pixels where the two masks have the same label; NaN without cases."""
        same = math.fsum(case.agreement * math.prod(case.shape) for case in self.cases)
        return same / self.pixels if self.pixels else math.nan

    @property
    def agreement_dice(self) -> float:
        """Mean over cases of the macro Dice between the two masks."""
        return mean_of(case.agreement_dice for case in self.cases)

    def mean_dice(self, index: int) -> float:
        """Macro Dice of method 0 or 1, mean over the cases that have one."""
        return mean_of(case.overlaps[index].macro_dice for case in self.cases)

    def mean_iou(self, index: int) -> float:
        """Macro IoU of method 0 or 1, mean over the cases that have one."""
        return mean_of(case.overlaps[index].macro_iou for case in self.cases)

    def class_dice(self, index: int, label: int) -> float:
        """Dice of one label (from 1 on) by method 0 or 1, mean over the cases that have one."""
        return mean_of(case.overlaps[index].dice[label - 1] for case in self.cases)

    def empty_cases(self, index: int) -> int:
        """Cases without a Dice: neither the reference nor the method's mask has foreground."""
        return sum(math.isnan(case.overlaps[index].macro_dice) for case in self.cases)

    def invented(self, index: int) -> int:
        """Cases without foreground in the reference in which the method sees some."""
        return sum(case.empty and not math.isnan(case.overlaps[index].macro_dice) for case in self.cases)

    @property
    def empty_references(self) -> int:
        """Cases whose reference has no foreground."""
        return sum(case.empty for case in self.cases)


def labels_for(methods: Sequence[str], names: Sequence[str]) -> tuple[str, str]:
    """What the two are called: by method where these differ, else by run, else by order."""
    words = {"unet": "U-Net", "sliding_window": "sliding window"}
    if methods[0] != methods[1]:
        return words[methods[0]], words[methods[1]]
    if names[0] != names[1]:
        return names[0], names[1]
    return f"{names[0]} (first)", f"{names[1]} (second)"
