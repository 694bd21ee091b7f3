"""Time, work and accuracy of a U-Net, the dense sliding window, and the sliding window patch by patch.

    PYTHONPATH=. .venv/bin/python benchmarks/tradeoff.py DATA UNET_BUNDLE SLIDING_WINDOW_BUNDLE [--split val] [--repeats 3]

Seconds, multiply-adds and Dice are measured on the held-out images by the same code, in turns. Patch by patch gives the same
logits as the dense evaluation, which is checked at SAMPLE_PIXELS random pixels of each image. It is timed on these pixels with
its fastest batch size and scaled to the image, since the whole image would take hours.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dense_sliding_window import patch_by_patch
from numpy.typing import NDArray

from datasets.cases import Case, open_case_image
from datasets.references import open_reference
from evaluation.comparison.cost import multiply_adds_patch_by_patch, multiply_adds_per_pixel
from evaluation.comparison.held_out import select_held_out_cases
from evaluation.comparison.measurement import describe_machine
from evaluation.comparison.paired_difference import paired_difference
from evaluation.metrics.overlap import confusion, overlaps_from_counts
from imaging.source import ImageSource
from inference.plan import plan_image
from inference.predictors.loading import load_predictor
from inference.predictors.methods import SlidingWindowPredictor
from inference.predictors.predictor import Predictor
from inference.segment import bands, segment_array
from models import bundle
from transforms import normalise

SAMPLE_PIXELS = 256
BATCH_SIZES = (1, 8, 64)
CPU = torch.device("cpu")

Masks = list[NDArray[np.uint8]]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("unet", type=Path)
    parser.add_argument("sliding_window", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    unet, window = (bundle.load(folder) for folder in (arguments.unet, arguments.sliding_window))
    split, cases = select_held_out_cases(arguments.data, arguments.split, unet.config.data)
    predictors = {
        "U-Net, default runtime": load_predictor(unet, CPU, "auto"),
        "U-Net, torch in float32": load_predictor(unet, CPU, "torch"),
        "sliding window, dense": load_predictor(window, CPU, "torch"),
    }
    seconds, masks = time_predictors(predictors, cases, arguments.repeats)
    patches_s, difference = time_patch_by_patch(predictors["sliding window, dense"], cases)
    shapes = [mask.shape for mask in masks["U-Net, default runtime"]]
    pixels = sum(int(np.prod(shape)) for shape in shapes)
    ran_on = describe_machine(CPU)
    print(
        f"{ran_on.processor}, {ran_on.cores} cores, {ran_on.threads} threads, torch {ran_on.versions['torch']}; {len(cases)} "
        f"cases ({split}), {pixels:,} pixels, medians of {arguments.repeats}\n"
    )
    print("| method | s per image | ratio to the U-Net | multiply-adds per pixel | Dice |")
    print("| --- | ---: | ---: | ---: | ---: |")
    references = [reference_of(case) for case in cases]
    first = seconds["U-Net, default runtime"]
    for name, method_masks in masks.items():
        config = predictors[name].config
        score = dice(method_masks, references, len(config.data.classes))
        row(name, seconds[name] / len(cases), first / len(cases), multiply_adds_per_pixel(config, shapes), score)
    row(
        "sliding window, patch by patch (scaled)",
        patches_s / len(cases),
        first / len(cases),
        multiply_adds_patch_by_patch(window.config) or 0,
        dice(masks["sliding window, dense"], references, len(window.config.data.classes)),
    )
    print(f"\ndense logits and those patch by patch differ by {difference:.1e} at most")


def row(name: str, seconds: float, first: float, operations: float, score: str) -> None:
    """Print a row of the table."""
    print(f"| {name} | {seconds:.3g} | {seconds / first:.3g} | {operations / 1e3:,.0f} thousand | {score} |")


def time_predictors(
    predictors: dict[str, Predictor], cases: Sequence[Case], repeats: int
) -> tuple[dict[str, float], dict[str, Masks]]:
    """Return the median seconds of each predictor for all cases, and its masks."""
    durations: dict[str, list[float]] = {name: [] for name in predictors}
    masks: dict[str, Masks] = {}
    for _ in range(repeats + 1):  # the first turn is left out
        for name, predictor in predictors.items():
            start_s = time.perf_counter()
            masks[name] = [on_case(case, lambda image, by=predictor: segment_array(image, by)) for case in cases]
            durations[name].append(time.perf_counter() - start_s)
    return {name: statistics.median(each[1:]) for name, each in durations.items()}, masks


def time_patch_by_patch(predictor: Predictor, cases: Sequence[Case]) -> tuple[float, float]:
    """Return the seconds that all cases would take patch by patch, and the largest difference from the dense logits."""
    if not isinstance(predictor, SlidingWindowPredictor):
        raise SystemExit("the second bundle isn't a sliding window")
    results = [on_case(case, lambda image: time_one_image(image, predictor)) for case in cases]
    return sum(seconds for seconds, _ in results), max(difference for _, difference in results)


def time_one_image(image: ImageSource, predictor: SlidingWindowPredictor) -> tuple[float, float]:
    """Return the seconds of one image patch by patch, and the largest difference from the dense logits."""
    network: Any = predictor.network
    before, after = network.window // 2, network.window - 1 - network.window // 2
    normalised = normalise.fit(predictor.config.normalise, image.channels, image.blocks())
    pixels = normalised(image.read(tuple(slice(0, size) for size in image.shape)))
    padded = torch.from_numpy(np.pad(pixels, ((0, 0), (before, after), (before, after)), mode="reflect"))[None]
    sample = np.random.default_rng(0).integers(0, image.shape, (SAMPLE_PIXELS, 2)).tolist()
    dense = np.concatenate([band.logits for band in bands(plan_image(image, predictor))], axis=1)
    rows, columns = zip(*sample, strict=True)
    durations = []
    with torch.inference_mode():
        for batch_size in BATCH_SIZES:
            patch_by_patch(network, padded, sample[:64], batch_size)
            start_s = time.perf_counter()
            logits = patch_by_patch(network, padded, sample, batch_size)
            durations.append(time.perf_counter() - start_s)
    difference = np.abs(dense[:, rows, columns] - logits.numpy() - predictor.shift.numpy().reshape(-1, 1)).max()
    return min(durations) * float(np.prod(image.shape)) / SAMPLE_PIXELS, float(difference)


def on_case(case: Case, use: Callable[[ImageSource], Any]) -> Any:
    """Return what the function returns for the case's image."""
    with open_case_image(case) as image:
        return use(image)


def reference_of(case: Case) -> NDArray[Any]:
    """Return the reference (*S) of a case."""
    with open_reference(case) as source:
        return np.concatenate([block[0] for block in source.blocks()])


def dice(masks: Masks, references: Sequence[NDArray[Any]], classes: int) -> str:
    """Return the mean Dice over cases with its bootstrap interval."""
    pairs = zip(masks, references, strict=True)
    scores = [overlaps_from_counts(confusion(mask, reference, classes)).macro_dice for mask, reference in pairs]
    mean = paired_difference([0.0] * len(scores), scores)  # differences from 0 are the values themselves
    low, high = mean.interval or (mean.mean, mean.mean)
    return f"{mean.mean:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
