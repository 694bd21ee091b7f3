"""How a runtime answers a bundle's sample, and how long it takes for it, beside torch in float32."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from inference.predictors.predictor import Predictor
from inference.predictors.runtime import Pass, Runtime
from models.bundle import Sample
from models.heads import Head

ENOUGH_AGREEMENT = 0.999  # of the sample's pixels have the label that float32 gives them
ENOUGH_NEARNESS = 0.01  # of the values' range, where a network gives values
TIMED = 5  # passes over the sample, after the one that sets things up; the fastest counts, since others only ever slow one down


@dataclass(frozen=True)
class Trial:
    """What came of it.

    Args:
        name: the runtime's.
        agreement: the share of pixels with the label that torch gives in float32; None where there are values instead.
        difference: the largest one between probabilities, or between values as a share of their range.
        seconds: of a pass over the sample.
    """

    name: str
    agreement: float | None
    difference: float
    seconds: float

    @property
    def is_admitted(self) -> bool:
        """Whether its answers are as good as float32's, and numbers at all."""
        if not math.isfinite(self.difference):
            return False
        return self.difference <= ENOUGH_NEARNESS if self.agreement is None else self.agreement >= ENOUGH_AGREEMENT

    @property
    def text(self) -> str:
        """In a line."""
        agreement = "" if self.agreement is None else f"{self.agreement:.4%} of pixels alike, "
        return f"{self.name}: {agreement}off by {self.difference:.2g} at most, {1e3 * self.seconds:.3g} ms a pass"


def try_out(runtime: Runtime, predictor: Predictor, sample: Sample) -> Trial:
    """The runtime's trial: of several networks the one that it does worst, and the seconds of all.

    Args:
        runtime: to be tried.
        predictor: of the bundle, as torch runs it; stays so.
        sample: the bundle's.
    """
    asked = []
    for member, expected in zip(predictor.members, sample.logits, strict=True):
        by_torch = member.run
        member.run = runtime.load(by_torch)
        try:
            asked.append(_asked(member, sample.patches, expected))
        finally:
            member.run = by_torch
    return _worst(runtime.name, asked)


def check(predictor: Predictor, sample: Sample) -> Trial:
    """A predictor's trial as it is, with the runtime that was chosen for it.

    Args:
        predictor: of the bundle, loaded.
        sample: the bundle's.
    """
    members = zip(predictor.members, sample.logits, strict=True)
    return _worst(predictor.runtime, [_asked(member, sample.patches, expected) for member, expected in members])


class _Asked(NamedTuple):
    """How one network did."""

    agreement: float | None
    difference: float
    seconds: float


def _asked(member: Predictor, patches: torch.Tensor, expected: torch.Tensor) -> _Asked:
    patches = patches.to(member.device)
    with torch.inference_mode():
        logits = member.logits(patches).float().cpu()
        seconds = _seconds(member.run, patches)
    return _Asked(*_compared(member.head, logits.numpy()[0], expected.numpy()), seconds)


def _worst(name: str, asked: Sequence[_Asked]) -> Trial:
    """A difference that is no number is the worst of all."""
    agreements = [each.agreement for each in asked if each.agreement is not None]
    difference = float(np.max([each.difference for each in asked]))
    return Trial(name, min(agreements, default=None), difference, sum(each.seconds for each in asked))


def _seconds(run: Pass, patches: torch.Tensor) -> float:
    taken = []
    for _ in range(TIMED):
        began = time.perf_counter()
        run(patches)
        if patches.is_cuda:
            torch.cuda.synchronize(patches.device)
        taken.append(time.perf_counter() - began)
    return min(taken)


def _compared(head: Head, logits: NDArray[Any], expected: NDArray[Any]) -> tuple[float | None, float]:
    """Agreement of the labels (of values there is none), and the largest difference."""
    logits, expected = logits[: head.outputs], expected[: head.outputs]
    if head.gives_values:
        found, wanted = head.values(logits), head.values(expected)
        return None, float(np.abs(found - wanted).max() / max(np.ptp(wanted), np.finfo(np.float32).eps))
    agreement = float((head.mask(logits) == head.mask(expected)).mean())
    return agreement, float(np.abs(head.probabilities(logits) - head.probabilities(expected)).max())
