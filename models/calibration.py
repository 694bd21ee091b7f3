"""Calibration: the temperature of a bundle's probabilities, and how reliable they were before and after it."""

from typing import Annotated

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
