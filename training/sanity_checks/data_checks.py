"""Checks of what enters a training: the cases themselves, and the patches after augmentation."""

import numpy as np
import torch

from evaluation.rendering import to_png
from models.heads import make_head
from training.data.training_patch import TrainingPatch
from training.monitoring.tensor_pictures import entering, weight_picture
from training.objective.encodings import IGNORED
from training.sanity_checks.alignment import Alignment, alignment_of
from training.sanity_checks.figures import bars, labels_of, outlines, sheet
from training.sanity_checks.image_parts import CaseCrop, case_crops
from training.sanity_checks.result import CheckPicture, CheckResult
from training.sanity_checks.subject import Subject

MOST_CASES = 12  # whose alignment is looked at
ALIGNED_PX = {2: (384, 384), 3: (32, 96, 96)}
PICTURES = 4
MOST_PATCHES = 8
LARGEST, LEAST_SPREAD, MOST_SPREAD = 1000.0, 0.01, 100.0  # of normalised values


def sound_data(subject: Subject) -> CheckResult:
    """Nothing that stops a training, and every reference lies on its image."""
    examination, splits, config = subject.examined.examination, subject.examined.splits, subject.config
    cases = (*splits.train, *splits.val)
    chosen = [cases[place] for place in np.unique(np.linspace(0, len(cases) - 1, MOST_CASES).round().astype(int))]
    views = case_crops(chosen, config, ALIGNED_PX[config.data.dimensions])
    found = f"{len(cases)} cases without a problem that stops, {len(examination.notes)} notes"
    pictures = outlines("References over their images.", views[:PICTURES], config)
    if make_head(config).gives_values:
        return CheckResult(True, found, "no problem", pictures)
    return _judged(alignment_of([_pair(view, subject) for view in views]), found, pictures)


def _judged(alignment: Alignment, found: str, pictures: tuple[CheckPicture, ...]) -> CheckResult:
    own, swapped = float(alignment.own.mean()), alignment.best_swap
    best = max(alignment.moved, key=lambda where: float(alignment.moved[where].mean()))
    values = {"at its place": own, best: float(alignment.moved[best].mean()), "another case's": swapped}
    drawn = bars("What grey values tell of the references, in nats.", values, "Mutual information, nats")
    measured = f"{found}; images tell {own:.3g} nats of their references, {swapped:.3g} of other cases'"
    limit = "more of the own reference, at its own place"
    if alignment.better:
        remedy = f"references fit their images better {alignment.better}: look at the pictures and at how they were exported"
        return CheckResult(False, f"{measured}, {values[best]:.3g} {best}", limit, (*pictures, drawn), remedy)
    return CheckResult(own > swapped, measured, limit, (*pictures, drawn))


def _pair(view: CaseCrop, subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    labels = labels_of(view.reference, subject.config).astype(np.int64)
    if subject.config.data.ignore_label is not None:
        labels[(view.reference == subject.config.data.ignore_label).any(axis=0)] = -1
    return view.image.pixels.mean(axis=0), labels


def exact_tensors(subject: Subject) -> CheckResult:
    """What the network and the loss get is finite, spread as networks like it, and of known labels, some of it foreground."""
    wrong = [words for words in map(_wrong_with, subject.pool, [subject] * len(subject.pool)) if words]
    images = torch.cat([batch.image.flatten() for batch in subject.pool])
    largest, spread = float(images.abs().max()), float(images.std())
    if not largest <= LARGEST:
        wrong.append(f"values reach {largest:.3g}")
    if not LEAST_SPREAD <= spread <= MOST_SPREAD:
        wrong.append(f"values deviate by {spread:.3g} only" if spread < LEAST_SPREAD else f"values deviate by {spread:.3g}")
    if not make_head(subject.config).gives_values and not any(_has_foreground(batch) for batch in subject.pool):
        wrong.append("no patch holds any foreground")
    patches = sum(len(batch.image) for batch in subject.pool)
    measured = f"{patches} patches, deviation {spread:.3g}, largest {largest:.3g}"
    return CheckResult(
        not wrong,
        "; ".join([*wrong, measured]),
        f"finite, up to {LARGEST:g}, deviation {LEAST_SPREAD:g} to {MOST_SPREAD:g}, known labels, some foreground",
        _drawn(subject),
    )


def _wrong_with(batch: TrainingPatch, subject: Subject) -> str | None:
    reference = batch.reference
    if not batch.image.isfinite().all():
        return "an image holds a value that is no number"
    if not batch.weights.isfinite().all() or (batch.weights < 0).any():
        return "a weight is no number, or below 0"
    if reference.is_floating_point():
        return "a reference is infinite" if reference.isinf().any() else None
    classes = 2 if subject.config.head.kind == "multi_label" else len(subject.config.data.classes)
    unknown = reference[(reference != IGNORED) & ((reference < 0) | (reference >= classes))]
    return f"a reference holds {int(unknown[0])}, labels are 0 .. {classes - 1}" if unknown.numel() else None


def _has_foreground(batch: TrainingPatch) -> bool:
    return bool(((batch.reference > 0) & (batch.reference != IGNORED)).any())


def _drawn(subject: Subject) -> tuple[CheckPicture, ...]:
    """The first patches with outlines, and the weights of their pixels where they have some."""
    batch, colours = subject.pool[0], [*(section.colour for section in subject.config.data.classes), "#ffffff"]
    count = min(MOST_PATCHES, len(batch.image))
    patches = [entering(batch.image[n].numpy(), batch.reference[n].numpy(), colours) for n in range(count)]
    shown = [
        CheckPicture("The first patches as the network gets them, with their references' outlines.", to_png(sheet(patches, 4)))
    ]
    if batch.weights.ndim > 2:
        weights = [weight_picture(batch.weights[n].numpy()) for n in range(count)]
        shown.append(CheckPicture("What is added to the weights of their pixels, white the most.", to_png(sheet(weights, 4))))
    return tuple(shown)
