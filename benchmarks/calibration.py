"""Calibration of bundles on cases that it was not fitted on: error, likelihood and Brier score before and after.

    PYTHONPATH=. .venv/bin/python benchmarks/calibration.py BUNDLE [BUNDLE ...] --data DATA [--split test] [--pixels 200000]

Cases that training did not see are scored with the bundle's own temperature. Validation cases, on which that was fitted, are
halved by patient, and each half is scored with the temperature of the other. Pixels count as in training: those in and near the
reference's foreground, at most --pixels of a case, and all cases together.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from datasets.cases import Case
from datasets.fingerprint import sha256_of_path
from evaluation.calibration.temperature import count_reliability, fit_temperature, reliability_of
from evaluation.comparison.held_out import select_held_out_cases
from evaluation.metrics.calibration import CalibrationCounts
from inference.predictors.loading import load_predictor
from models import bundle
from models.bundle import Bundle
from models.head import Head
from training.calibration import CaseSample, sample_case


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split")
    parser.add_argument("--pixels", type=int, default=200_000, help="largest number of pixels of a case")
    arguments = parser.parse_args()
    print("| bundle | cases | fitted on | temperature | ECE before | after | NLL before | after | Brier before | after |")
    print("| --- | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for folder in arguments.bundles:
        print(row(bundle.load(folder), arguments.data, arguments.split, arguments.pixels), flush=True)


def row(loaded: Bundle, data: Path, split: str | None, pixels: int) -> str:
    """Return the line of a bundle."""
    predictor = load_predictor(loaded, runtime="torch")
    if not predictor.head.has_temperature:
        raise SystemExit(f"{loaded.manifest.name}: its head has no temperature")
    _, cases = select_held_out_cases(data, split, loaded.config.data)
    samples = [sample_case(case, predictor, pixels) for case in cases]
    raw, before, after = predictor.head.uncalibrated, CalibrationCounts(), CalibrationCounts()
    was_seen = any(sha256_of_path(path) in loaded.manifest.training_images for case in cases for path in case.images)
    parts = list(halves(cases)) if was_seen else [(range(len(cases)), range(0))]
    temperatures = []
    for scored, fitted in parts:
        head = fit([samples[number] for number in fitted], raw) if was_seen else predictor.head
        temperatures.append(head.temperature)
        for number in scored:
            for counts, each in ((before, raw), (after, head)):
                count_reliability(counts, each, samples[number].logits, samples[number].labels)
    figures = [
        f"{value:.4f}"
        for name in ("ece", "nll", "brier")
        for value in (getattr(reliability_of(counts), name) for counts in (before, after))
    ]
    fitted_on = "the other half" if was_seen else "validation"
    shown = ", ".join(f"{temperature:.2f}" for temperature in temperatures)
    return f"| {loaded.manifest.name} | {len(cases)} | {fitted_on} | {shown} | {' | '.join(figures)} |"


def halves(cases: Sequence[Case]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the numbers of the cases that are scored and of those that are fitted, each half once; no patient is in both."""
    patients = sorted({case.patient for case in cases})
    first = set(patients[::2])
    in_first = [number for number, case in enumerate(cases) if case.patient in first]
    in_second = [number for number, case in enumerate(cases) if case.patient not in first]
    yield in_first, in_second
    yield in_second, in_first


def fit(samples: Sequence[CaseSample], raw: Head) -> Head:
    """Return the head with the temperature that fits the samples."""
    logits, labels = (
        np.concatenate([getattr(sample, name) for sample in samples if sample.labels.size], axis=1)
        for name in ("logits", "labels")
    )
    return type(raw)(raw.classes, fit_temperature(raw, logits, labels))


if __name__ == "__main__":
    main()
