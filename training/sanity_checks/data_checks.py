"""Checks of the data: the cases, and the batches that enter a training after augmentation."""

import numpy as np
import torch

from evaluation.rendering import to_png
from models.heads import make_head
from training.data.patch_dataset import TrainingPatch
from training.monitoring.tensor_pictures import input_picture, weight_picture
from training.objective.encodings import IGNORED
from training.sanity_checks.alignment import measure_alignment
from training.sanity_checks.figures import bars, labels_of, outlines, sheet
from training.sanity_checks.image_parts import case_crops
from training.sanity_checks.result import CheckPicture, CheckResult
from training.sanity_checks.subject import Subject

MOST_CASES = 12  # whose alignment is measured
ALIGNED_PX = {2: (384, 384), 3: (32, 96, 96)}
PICTURES = 4
MOST_PATCHES = 8  # in a picture
LARGEST, LEAST_DEVIATION, MOST_DEVIATION = 1000.0, 0.01, 100.0  # of normalised values


def check_cases(subject: Subject) -> CheckResult:
    """Check that the cases can be trained on, and that every reference is aligned with its image."""
    examination, splits, config = subject.examined.examination, subject.examined.splits, subject.config
    cases = (*splits.train, *splits.val)
    sample = [cases[place] for place in np.unique(np.linspace(0, len(cases) - 1, MOST_CASES).round().astype(int))]
    crops = case_crops(sample, config, ALIGNED_PX[config.data.dimensions])
    measured = f"{len(cases)} cases can be used, {len(examination.notes)} notes"
    pictures = outlines("References over their images.", crops[:PICTURES], config)
    if make_head(config).gives_values:
        return CheckResult(True, measured, "no problem", pictures)
    pairs = []
    for crop in crops:
        labels = labels_of(crop.reference, config).astype(np.int64)
        if config.data.ignore_index is not None:
            labels[(crop.reference == config.data.ignore_index).any(axis=0)] = -1
        pairs.append((crop.image.pixels.mean(axis=0), labels))
    alignment = measure_alignment(pairs)
    own, swapped = float(alignment.own.mean()), alignment.best_swap
    best = max(alignment.moved, key=lambda move: float(alignment.moved[move].mean()))
    information = {"own reference": own, best: float(alignment.moved[best].mean()), "another case's": swapped}
    plot = bars("Information of grey values about the references.", information, "Mutual information, nats")
    measured += f"; grey values have {own:.3g} nats of information about their reference, {swapped:.3g} about other cases'"
    limit = "most about the own reference, in its own position"
    if alignment.better:
        remedy = f"references fit their images better {alignment.better}: look at the pictures and at how they were exported"
        return CheckResult(False, f"{measured}, {information[best]:.3g} {best}", limit, (*pictures, plot), remedy)
    return CheckResult(own > swapped, measured, limit, (*pictures, plot))


def check_batches(subject: Subject) -> CheckResult:
    """Check that inputs of the network are finite and in range, and that references have known labels and foreground."""
    problems = [problem for problem in (_find_problem(batch, subject) for batch in subject.pool) if problem]
    images = torch.cat([batch.image.flatten() for batch in subject.pool])
    largest, deviation = float(images.abs().max()), float(images.std())
    if not largest <= LARGEST:
        problems.append(f"values reach {largest:.3g}")
    if not LEAST_DEVIATION <= deviation <= MOST_DEVIATION:
        problems.append(f"the standard deviation of values is {'only ' if deviation < LEAST_DEVIATION else ''}{deviation:.3g}")
    has_foreground = any(((batch.reference > 0) & (batch.reference != IGNORED)).any() for batch in subject.pool)
    if not make_head(subject.config).gives_values and not has_foreground:
        problems.append("no patch has any foreground")
    first, colours = subject.pool[0], [*(section.colour for section in subject.config.data.classes), "#ffffff"]
    numbers = range(min(MOST_PATCHES, len(first.image)))
    patches = [input_picture(first.image[n].numpy(), first.reference[n].numpy(), colours) for n in numbers]
    caption = "The first patches as they enter the network, with the outlines of their references."
    pictures = [CheckPicture(caption, to_png(sheet(patches, 4)))]
    if first.weights.ndim > 2:
        weights = [weight_picture(first.weights[n].numpy()) for n in numbers]
        pictures.append(CheckPicture("Weights added to the pixels, largest in white.", to_png(sheet(weights, 4))))
    count = sum(len(batch.image) for batch in subject.pool)
    measured = f"{count} patches, standard deviation {deviation:.3g}, largest value {largest:.3g}"
    return CheckResult(
        not problems,
        "; ".join([*problems, measured]),
        f"finite, up to {LARGEST:g}, deviation {LEAST_DEVIATION:g} to {MOST_DEVIATION:g}, known labels, some foreground",
        tuple(pictures),
    )


def _find_problem(batch: TrainingPatch, subject: Subject) -> str | None:
    reference = batch.reference
    if not batch.image.isfinite().all():
        return "an image has a value that is NaN or infinite"
    if not batch.weights.isfinite().all() or (batch.weights < 0).any():
        return "a weight is NaN, infinite or below 0"
    if reference.is_floating_point():
        return "a reference is infinite" if reference.isinf().any() else None
    classes = 2 if subject.config.head.kind == "multi_label" else len(subject.config.data.classes)
    unknown = reference[(reference != IGNORED) & ((reference < 0) | (reference >= classes))]
    return f"a reference has label {int(unknown[0])}, but labels are 0 to {classes - 1}" if unknown.numel() else None
