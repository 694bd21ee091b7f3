"""Result of a comparison of two or more methods: plain values with everything that a report shows.

Methods have numbers: their positions in `Comparison.methods`, from 0 on. A pair is always (first, second) with first < second,
and its differences are second minus first.
"""

import math
from dataclasses import dataclass
from typing import Literal

from configs.sections import ClassSection
from evaluation.comparison.bootstrap_interval import unit_means
from evaluation.comparison.measurement import Measurement
from evaluation.comparison.paired_difference import PairedDifference
from evaluation.comparison.threshold_baseline import ThresholdBaseline
from evaluation.comparison.verdict import Verdict
from evaluation.metrics.overlap import nan_mean
from evaluation.metrics.registry import METRICS
from evaluation.scoring.table import ScoreTable


@dataclass(frozen=True, kw_only=True)
class ComparedCase:
    """Case of a comparison.

    Args:
        name: the case's name in the data set.
        group: patient of the case; None where it is unknown.
        shape: shape of the image, in S order.
        empty: the reference has no foreground.
    """

    name: str
    group: str | None
    shape: tuple[int, ...]
    empty: bool

    @property
    def pixels(self) -> int:
        """Number of pixels (2D) or voxels (3D) of the image."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """What a bundle's manifest says of its training.

    Args:
        name: name of the training run.
        method: "unet" or "sliding_window".
        seed: seed of the training run.
        training_steps: steps of the training run.
        commit: commit of the code that trained it; None where it is unknown.
    """

    name: str
    method: str
    seed: int
    training_steps: int
    commit: str | None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of a bundle over all cases of a comparison.

    Args:
        measurement: seconds for each case, memory, and the machine.
        multiply_adds_per_pixel: multiply-adds as Overtile tiles these images, margins included; dense for a sliding window.
        patch_by_patch_per_pixel: multiply-adds if each pixel's window were run separately; None for a U-Net.
        patch_by_patch_seconds: seconds for all cases if each pixel's window were run separately, estimated from a sample of
            windows; None for a U-Net.
        parameters: number of trained weights.
        training_seconds: duration of the training run.
    """

    measurement: Measurement
    multiply_adds_per_pixel: float
    patch_by_patch_per_pixel: int | None
    patch_by_patch_seconds: float | None
    parameters: int
    training_seconds: float

    @property
    def seconds(self) -> float:
        """Time for all cases."""
        return math.fsum(self.measurement.seconds)

    @property
    def memory_bytes(self) -> int:
        """Memory of the GPU where one is used, else memory beyond the loaded bundle."""
        return self.measurement.compared_bytes


@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """One method of a comparison: a bundle, or a folder of masks that any tool wrote.

    Args:
        label: display name, different for each method of a comparison; also `table.method`.
        kind: whether the masks were made from a bundle or read from a folder.
        table: scores of every case, metric and class.
        bundle: facts of the bundle; None for a folder of masks.
        cost: cost of the bundle; None for a folder of masks, whose cost isn't known.
    """

    label: str
    kind: Literal["bundle", "masks"]
    table: ScoreTable
    bundle: BundleFacts | None
    cost: Cost | None

    def mean(self, metric: str) -> float:
        """Return the mean of a metric over the groups of cases, or over cases without groups; NaN where none has a value.

        Where zero is best, it is the mean of the absolute values.
        """
        by_case, groups = self.table.case_values(metric), self.table.groups
        values = [abs(value) if METRICS[metric].better == "zero" else value for value in by_case.values()]
        return nan_mean(unit_means(values, [groups[case] for case in by_case]))


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """Paired difference of two methods in one metric.

    Args:
        metric: name of the metric in the registry.
        first: number of the first method.
        second: number of the second method.
        difference: differences by case, interval, p-value and effect sizes, second minus first.
        corrected_p: the p-value with Holm's correction over all pairs of methods in the headline metric; None for other
            metrics, which are not in that family and describe only, and where there is no p-value.
    """

    metric: str
    first: int
    second: int
    difference: PairedDifference
    corrected_p: float | None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement of two methods' masks with each other, without the reference.

    Args:
        first: number of the first method.
        second: number of the second method.
        equal: share of the pixels of each case where both masks have the same class, in the order of the cases.
        dice: macro Dice between both masks of each case; NaN where both are background only.
        equal_pixels: share of all cases' pixels together where both masks have the same class.
    """

    first: int
    second: int
    equal: tuple[float, ...]
    dice: tuple[float, ...]
    equal_pixels: float

    @property
    def mean_dice(self) -> float:
        """Mean of the Dice over the cases that have one."""
        return nan_mean(self.dice)


@dataclass(frozen=True)
class PictureTile:
    """Picture in the row of a case: title, alternative text, and PNG."""

    title: str
    alt: str
    png: bytes


@dataclass(frozen=True)
class CasePicture:
    """Pictures of a case: name, why it is shown, where in the image they are, and the pictures."""

    name: str
    why: str
    where: str
    tiles: tuple[PictureTile, ...]


@dataclass(frozen=True, kw_only=True)
class ParetoPoint:
    """Quality and cost of a method for a picture of both.

    Args:
        method: number of the method.
        cost: seconds for all cases, or multiply-adds per pixel.
        quality: mean of the headline metric over cases.
        is_naive: the cost is that of a sliding window run patch by patch.
        is_on_front: no other point is at least as good in both and better in one.
    """

    method: int
    cost: float
    quality: float
    is_naive: bool
    is_on_front: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Result of a comparison of two or more methods over the same held-out cases.

    Args:
        data: name of the data set.
        split: split of the cases.
        dimensions: 2 or 3.
        classes: name and colour of each class, background first.
        spacing_um: spacing that the bundles were trained at; None where it wasn't given, and for folders of masks only.
        cases: the cases in the order of the data set.
        methods: two or more methods.
        headline: name of the metric that the verdict is about.
        metrics: names of all metrics, in the registry's order.
        pairs: every pair of methods in every metric, ordered by metric, then by first and second.
        agreements: every pair of methods, ordered by first and second.
        family: sentence that says which comparisons Holm's correction is over.
        baseline: scores of Otsu's threshold; None where it isn't defined.
        baseline_omitted: why there is no baseline; None where there is one.
        notes: limits of the comparison that a reader must know.
        pictures: pictures of the worst, the best, and the most disputed cases.
        verdict: sentence and remarks derived from the numbers.
    """

    data: str
    split: str
    dimensions: int
    classes: tuple[ClassSection, ...]
    spacing_um: tuple[float, ...] | None
    cases: tuple[ComparedCase, ...]
    methods: tuple[MethodResult, ...]
    headline: str
    metrics: tuple[str, ...]
    pairs: tuple[PairResult, ...]
    agreements: tuple[Agreement, ...]
    family: str
    baseline: ThresholdBaseline | None
    baseline_omitted: str | None
    notes: tuple[str, ...]
    pictures: tuple[CasePicture, ...]
    verdict: Verdict

    @property
    def pixels(self) -> int:
        """Number of pixels of all cases together."""
        return sum(case.pixels for case in self.cases)

    def pair(self, metric: str, first: int, second: int) -> PairResult:
        """Return the result of two methods in a metric, first < second.

        Raises:
            KeyError: there is no such pair or metric.
        """
        for pair in self.pairs:
            if (pair.metric, pair.first, pair.second) == (metric, first, second):
                return pair
        raise KeyError((metric, first, second))
