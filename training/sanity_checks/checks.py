"""The fourteen checks of a config, after "A Recipe for Training Neural Networks" (Karpathy 2019), and their outcomes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from imaging.errors import DataError
from training.errors import NumericError
from training.sanity_checks.data_checks import check_batches, check_cases
from training.sanity_checks.network_checks import (
    check_batch_independence,
    check_batch_sizes,
    check_bundle,
    check_filters,
    check_initial_loss,
)
from training.sanity_checks.result import CheckResult
from training.sanity_checks.subject import Subject
from training.sanity_checks.training_checks import (
    check_baselines,
    check_images_are_used,
    check_overfitting,
    check_progress,
    check_references_are_used,
    check_reproducibility,
    check_width,
)

State = Literal["pass", "fail", "not run"]


@dataclass(frozen=True)
class Check:
    """A check of a training config.

    Args:
        title: statement that is true when the check passes.
        run: function that makes the check.
        remedy: what to do if it fails.
        steps: duration in steps of a short training, for the progress bar.
    """

    title: str
    run: Callable[[Subject], CheckResult]
    remedy: str
    steps: int = 3


@dataclass(frozen=True)
class CheckOutcome:
    """The outcome of a check.

    Args:
        number: position of the check in CHECKS, from 1.
        check: the check.
        state: `not run` if there was no time for it, or it doesn't apply to this config.
        result: figure and pictures; None if the check has no result.
        reason: why there is no result.
        seconds: duration of the check.
        error: error that ended the check.
    """

    number: int
    check: Check
    state: State
    result: CheckResult | None = None
    reason: str = ""
    seconds: float = 0.0
    error: Exception | None = None

    @property
    def is_numeric_error(self) -> bool:
        """Return whether a loss was NaN or infinite."""
        return isinstance(self.error, NumericError)

    @property
    def is_data_error(self) -> bool:
        """Return whether the data can't be trained on."""
        return isinstance(self.error, DataError)

    @property
    def is_failure(self) -> bool:
        """Return whether the check failed, and isn't just advice."""
        return self.state == "fail" and not (self.result and self.result.advisory)

    @property
    def remedy(self) -> str:
        """Return what to do; empty if nothing failed, and after an error, whose message contains it."""
        if self.state != "fail" or self.result is None:
            return ""
        return self.result.remedy or self.check.remedy

    def __str__(self) -> str:
        figure = f"{self.result.measured} (limit: {self.result.limit})" if self.result else self.reason
        remedy = f"\n      what to do: {self.remedy}" if self.remedy else ""
        return f"{self.number:2d} {self.state}: {self.check.title}: {figure}{remedy}"


CHECKS: tuple[Check, ...] = (
    Check(
        "the cases can be used, and references match their images",
        check_cases,
        "look at the pictures: references that are shuffled, shifted or mirrored against their images spoil every training",
        10,
    ),
    Check(
        "the same seed gives the same losses",
        check_reproducibility,
        "something uses random numbers that run.seed doesn't set, or a GPU operation that sums in no fixed order",
        8,
    ),
    Check(
        "the initial loss has the value that its definition gives",
        check_initial_loss,
        "the loss is mis-scaled: look for a factor, a sum instead of a mean, or weights of the wrong classes",
    ),
    Check(
        "the network uses its images: the loss is higher with zeroed images",
        check_images_are_used,
        "the network learns nothing from its images: check normalise (overtile inspect shows the intensities) and check 8",
        200,
    ),
    Check(
        "a short training beats simple baselines",
        check_baselines,
        "try the optimizer.learning_rate that overtile find-rate suggests; if that doesn't help, a threshold may be enough for "
        "this task",
    ),
    Check(
        "the network can overfit two images",
        check_overfitting,
        "look at the masks: if they miss details, references may contradict each other, or the network is too small; otherwise "
        "try another optimizer.learning_rate (overtile find-rate)",
        100,
    ),
    Check(
        "a wider network fits the training data at least as well",
        check_width,
        "more weights should fit better: lower optimizer.learning_rate, or check model.init and model.norm",
        120,
    ),
    Check(
        "the batches that enter the network are valid",
        check_batches,
        "look at the pictures; check normalise, augment and the labels of the references",
    ),
    Check(
        "masks of validation images improve during training",
        check_progress,
        "the masks of validation images don't improve: look at the pictures, and try another optimizer.learning_rate",
    ),
    Check(
        "no image of a batch affects the output of another",
        check_batch_independence,
        "something mixes the items of a batch: a norm in training mode, or a reshape that confuses the batch with another axis",
    ),
    Check(
        "results are the same for every batch size",
        check_batch_sizes,
        "results must not depend on inference.batch_size: see check 10",
    ),
    Check(
        "the bundle gives the same masks as the validated network",
        check_bundle,
        "the bundle isn't the network that was trained: look for weights or settings that are not saved in it",
    ),
    Check(
        "the network learns from the references: the loss is higher with shuffled references",
        check_references_are_used,
        "the references fit no better than those of other cases: they may be shuffled already; see the pictures of check 1",
        100,
    ),
    Check(
        "the first filters learn structure, not noise",
        check_filters,
        "the first filters learn noise: check normalise, augment.noise and optimizer.learning_rate",
    ),
)
