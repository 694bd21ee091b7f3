"""Calibration of a bundle's manifest, for tests that need one and don't depend on its figures."""

from models.calibration import Calibration, Reliability


def reliability(ece: float) -> Reliability:
    """Reliability of 100 pixels in the last of 15 bins."""
    empty = (0.0,) * 14
    return Reliability(
        ece=ece, nll=0.3, brier=0.2, pixels=(0,) * 14 + (100,), confidence=(*empty, 0.9), accuracy=(*empty, 0.9 - ece)
    )


def calibration(temperature: float = 2.0, low_confidence: float | None = 0.6) -> Calibration:
    """Calibration with this temperature, fitted on 100 pixels of 3 cases."""
    return Calibration(
        temperature=temperature,
        low_confidence=low_confidence,
        cases=3,
        pixels=100,
        before=reliability(0.2),
        after=reliability(0.1),
    )
