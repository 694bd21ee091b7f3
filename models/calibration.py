"""Calibration: the temperature of a bundle's probabilities, and how reliable they were before and after it."""

from collections.abc import Sequence
from math import exp, log
from statistics import fmean
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Reliability(BaseModel):
    """Reliability of probabilities: how often the likeliest class is right, by how probable it was said to be.

    The bins divide the confidence, the probability of the likeliest class, from 0 to 1 into equal parts.

    Args:
        ece: expected calibration error, the mean distance of confidence and accuracy over the pixels of all bins.
        nll: mean negative log-likelihood of the reference, in nats.
        brier: mean of the squared distances between the probabilities and the reference, summed over the classes.
        pixels: number of pixels in each bin.
        confidence: mean confidence in each bin, 0 in an empty one.
        accuracy: share of right pixels in each bin, 0 in an empty one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ece: Share
    nll: NonNegative
    brier: NonNegative
    pixels: tuple[Annotated[int, Field(ge=0)], ...]
    confidence: tuple[Share, ...]
    accuracy: tuple[Share, ...]


class Calibration(BaseModel):
    """Temperature that was fitted on the logits of validation cases (Guo et al. 2017, arXiv:1706.04599).

    Probabilities and uncertainty are computed from the logits divided by the temperature. Masks do not depend on it.

    Args:
        temperature: above 1 where the network is too certain, below 1 where it is not certain enough.
        low_confidence: mean confidence over an image's foreground below which the image gets the remark `low_confidence`;
            None without a threshold.
        cases: number of validation cases that it was fitted on.
        pixels: number of pixels that it was fitted on, in and around the foreground of the references.
        before: reliability of the probabilities with temperature 1.
        after: reliability with the fitted temperature, on the same pixels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    low_confidence: Share | None = None
    cases: Annotated[int, Field(ge=1)]
    pixels: Annotated[int, Field(ge=1)]
    before: Reliability
    after: Reliability

    @property
    def text(self) -> str:
        """Temperature and errors in one line."""
        return (
            f"probabilities calibrated by temperature {self.temperature:.3g}: calibration error {self.before.ece:.3f} before, "
            f"{self.after.ece:.3f} after, on {self.pixels:,} pixels of {self.cases} validation cases"
        )


def ensemble_calibration(members: Sequence[Calibration]) -> Calibration:
    """Return the calibration of an ensemble of networks, each of which was calibrated on cases that it was not trained on.

    No case is unknown to all networks of a cross-validation, so that nothing can be fitted on their mean. The temperature is
    the geometric mean of theirs, and the threshold the lowest one. The reliability is that of the networks one by one.
    """
    thresholds = [member.low_confidence for member in members if member.low_confidence is not None]
    return Calibration(
        temperature=exp(fmean(log(member.temperature) for member in members)),
        low_confidence=min(thresholds) if len(thresholds) == len(members) else None,
        cases=sum(member.cases for member in members),
        pixels=sum(member.pixels for member in members),
        before=_pooled_reliability([member.before for member in members]),
        after=_pooled_reliability([member.after for member in members]),
    )


def _pooled_reliability(parts: Sequence[Reliability]) -> Reliability:
    """Return the reliability of all pixels together."""
    pixels = np.array([part.pixels for part in parts])  # (M, bins)
    weights, in_bins = pixels.sum(axis=1), pixels.sum(axis=0)
    confidence, accuracy = (
        (pixels * np.array(shares)).sum(axis=0) / np.maximum(in_bins, 1)
        for shares in ([part.confidence for part in parts], [part.accuracy for part in parts])
    )
    return Reliability(
        ece=float((in_bins * np.abs(accuracy - confidence)).sum() / in_bins.sum()),
        nll=float(np.average([part.nll for part in parts], weights=weights)),
        brier=float(np.average([part.brier for part in parts], weights=weights)),
        pixels=tuple(in_bins.tolist()),
        confidence=tuple(confidence.clip(0, 1).tolist()),
        accuracy=tuple(accuracy.clip(0, 1).tolist()),
    )
