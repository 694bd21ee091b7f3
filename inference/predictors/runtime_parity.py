"""Runtime parity: difference of a runtime's outputs from float32 PyTorch on a bundle's sample, and its duration."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.predictors.predictor import Predictor
from inference.predictors.runtime import Pass, Runtime
from models.bundle import Sample
from models.head import Head

LEAST_AGREEMENT = 0.999  # share of the sample's pixels with the same label as in float32
MOST_DIFFERENCE = 0.01  # share of the values' range, for networks that give values
TIMED_PASSES = 5  # after a first one; the fastest counts, since other processes can only slow a pass


@dataclass(frozen=True)
class RuntimeParity:
    """Parity of one runtime with float32 PyTorch on a bundle's sample.

    Args:
        name: name of the runtime.
        agreement: share of pixels with the same label as torch in float32; None if the network gives values.
        difference: largest difference between probabilities, or between values as a share of their range.
        seconds: duration of a pass over the sample.
    """

    name: str
    agreement: float | None
    difference: float
    seconds: float

    @property
    def is_admitted(self) -> bool:
        """True if the outputs are finite and match those of float32."""
        if not math.isfinite(self.difference):
            return False
        return self.difference <= MOST_DIFFERENCE if self.agreement is None else self.agreement >= LEAST_AGREEMENT

    @property
    def text(self) -> str:
        """The parity in one line."""
        agreement = "" if self.agreement is None else f"{self.agreement:.4%} of pixels alike, "
        return f"{self.name}: {agreement}off by {self.difference:.2g} at most, {1e3 * self.seconds:.3g} ms a pass"


def measure_runtime(runtime: Runtime, predictor: Predictor, sample: Sample) -> RuntimeParity:
    """Return the parity of a runtime with float32 PyTorch.

    Args:
        runtime: runtime to measure.
        predictor: predictor of the bundle with torch as its runtime.
        sample: the bundle's sample.
    """
    networks = (replace(member, run=runtime.load(member.run)) for member in predictor.members)
    return _parity(runtime.name, networks, sample)


def measure_predictor(predictor: Predictor, sample: Sample) -> RuntimeParity:
    """Return the parity of a loaded predictor's own runtime with float32 PyTorch.

    Args:
        predictor: predictor of the bundle.
        sample: the bundle's sample.
    """
    return _parity(predictor.runtime, predictor.members, sample)


def _parity(name: str, networks: Iterable[Predictor], sample: Sample) -> RuntimeParity:
    """Return the lowest agreement and largest difference (NaN if one is) of the networks, and the sum of their seconds."""
    agreements, differences, seconds = [], [], 0.0
    patches = sample.patches
    for network, expected in zip(networks, sample.logits, strict=True):
        patches = patches.to(network.device)
        with torch.inference_mode():
            logits = network.logits(patches).float().cpu().numpy()[0]
            seconds += _seconds(network.run, patches)
        agreement, difference = _compare(network.head, logits, expected.numpy())
        differences.append(difference)
        if agreement is not None:
            agreements.append(agreement)
    return RuntimeParity(name, min(agreements, default=None), float(np.max(differences)), seconds)


def _seconds(run: Pass, patches: torch.Tensor) -> float:
    """Return the duration of the fastest of TIMED_PASSES passes."""
    durations = []
    for _ in range(TIMED_PASSES):
        start_s = time.perf_counter()
        run(patches)
        if patches.is_cuda:
            torch.cuda.synchronize(patches.device)
        durations.append(time.perf_counter() - start_s)
    return min(durations)


def _compare(head: Head, logits: NDArray[Any], expected: NDArray[Any]) -> tuple[float | None, float]:
    """Return the agreement of the labels, None for values, and the largest difference."""
    logits, expected = logits[: head.outputs], expected[: head.outputs]
    if head.gives_values:
        values, expected_values = head.values(logits), head.values(expected)
        value_range = max(np.ptp(expected_values), np.finfo(np.float32).eps)
        return None, float(np.abs(values - expected_values).max() / value_range)
    agreement = float((head.mask(logits) == head.mask(expected)).mean())
    return agreement, float(np.abs(head.probabilities(logits) - head.probabilities(expected)).max())
