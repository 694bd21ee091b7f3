"""Checks by short trainings: reproducibility, altered data, simple baselines, overfitting two images, and a wider network."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_collate

from configs.network_sections import UNetSection
from configs.schema import Config
from evaluation.comparison.threshold_baseline import BINS, otsu_threshold
from evaluation.metrics.overlap import nan_mean
from evaluation.rendering import overlay, to_png
from models.architectures import Network
from models.heads import make_head
from training.data.patch_dataset import PatchDataset, TrainingPatch
from training.data.stream import PatchBatchSampler
from training.monitoring.tensor_pictures import channel_pictures
from training.objective.encodings import IGNORED
from training.objective.levels import crop_reference
from training.objective.scoring import SCORES, make_score
from training.sanity_checks.figures import bars, curves, mask_sheet, sheet
from training.sanity_checks.image_parts import CaseCrop
from training.sanity_checks.result import CLEAR, ERRORS, CheckPicture, CheckResult, NotApplicable, clear_gap
from training.sanity_checks.subject import STEPS, Subject, without_augmentation

TWICE_STEPS = 4
WIDER_STEPS, WIDER_DRAWS = 40, 3
OVERFIT_STEPS, OVERFIT_EVERY = 400, 10
OVERFIT_SCORE = {"classes": 0.99, "values": 0.9}
OVERFIT_WINDOWS = 64  # most windows of two images that the sliding window overfits
RISE = 0.01  # least improvement of a score through a short training
LONGER = 3  # times as many steps, if a short training doesn't beat the baselines
EASY = 0.9  # Otsu's Dice above which a threshold alone solves the task; more is not demanded
OUTSIDE = -1e30  # stands for NaN in a reference of values
GPU_DIFFERENCE = 1e-3  # allowed between two losses; some of CUDA's sums have no fixed order

Pixels = NDArray[Any]


def check_reproducibility(subject: Subject) -> CheckResult:
    """Check that two trainings, including patches and augmentation, give the same losses, on a CPU to the bit."""
    first, second = (subject.train_short(subject.train_batches(TWICE_STEPS), TWICE_STEPS).losses for _ in range(2))
    difference = float(np.abs(np.array(first) - np.array(second)).max())
    allowed = 0.0 if subject.device.type == "cpu" else GPU_DIFFERENCE
    plot = curves("The losses of both trainings, one over the other.", {"first": first, "second": second})
    measured = f"{TWICE_STEPS} losses, largest difference {difference:.3g}"
    return CheckResult(difference <= allowed, measured, f"at most {allowed:g}", (plot,))


def check_images_are_used(subject: Subject) -> CheckResult:
    """Check that the validation loss is higher for a network that was trained and validated on zeroed images."""
    zeroed, validation = (
        [batch._replace(image=torch.zeros_like(batch.image)) for batch in batches]
        for batches in (subject.pool, subject.validation_batches)
    )
    return _check_is_harder(subject, zeroed, validation, "zeroed images")


def check_references_are_used(subject: Subject) -> CheckResult:
    """Check that the validation loss is higher for a network that was trained on the references of other cases."""
    return _check_is_harder(subject, shuffle_references(subject.pool), subject.validation_batches, "shuffled references")


def _check_is_harder(
    subject: Subject, batches: Sequence[TrainingPatch], validation: Sequence[TrainingPatch], name: str
) -> CheckResult:
    """Check that the validation loss of the standard run is clearly lower than that of a training on altered batches."""
    standard = subject.losses(subject.standard_run.network, subject.validation_batches)  # first, as other checks need it too
    altered_run = subject.train_short(batches, STEPS)
    altered = subject.losses(altered_run.network, validation)
    gap, needed = float(altered.mean() - standard.mean()), clear_gap(standard, altered)
    losses = {"unchanged": subject.standard_run.losses, name: altered_run.losses}
    plot = curves("Losses of the two short trainings.", losses)
    measured = f"loss of validation patches {standard.mean():.3g}, with {name} {altered.mean():.3g}"
    return CheckResult(gap > needed, measured, f"lower by more than {needed:.2g}", (plot,))


def shuffle_references(batches: Sequence[TrainingPatch]) -> list[TrainingPatch]:
    """Return the same images, each with the reference and weights of another case's patch, or else of another patch."""
    cases = torch.cat([batch.case for batch in batches]).numpy()
    order = np.argsort(cases, kind="stable")
    step = min(int(np.bincount(cases).max()), len(cases) // 2)
    source = np.empty_like(order)
    source[order] = np.roll(order, step)
    sizes = [len(batch.image) for batch in batches]
    references, weights = (
        torch.split(torch.cat([getattr(batch, name) for batch in batches])[source], sizes) for name in ("reference", "weights")
    )
    parts = zip(batches, references, weights, strict=True)
    return [batch._replace(reference=reference, weights=weight) for batch, reference, weight in parts]


def check_baselines(subject: Subject) -> CheckResult:
    """Check that a short training has a higher Dice than a constant class and than Otsu's threshold.

    If the standard run isn't enough, a longer one on more batches decides.
    """
    config = subject.config
    if make_score(config).name != "dice" or config.head.kind == "multi_label":
        raise NotApplicable("the baselines need masks with one class per pixel, which this head doesn't give")
    baselines, limit = _baseline_dice(subject)
    steps, dice = STEPS, nan_mean(map(_scorer(config), subject.crops, subject.snapshots[STEPS]))
    if not dice > limit:
        steps = LONGER * STEPS
        longer = subject.train_short(subject.train_batches(LONGER * len(subject.pool)), steps)
        dice = nan_mean(map(_scorer(config), subject.crops, subject.logits(longer.network)))
    others = ", ".join(f"{name} {value:.3f}" for name, value in baselines.items())
    measured = f"Dice {dice:.3f} on {len(subject.crops)} validation cases after {steps} steps; {others}"
    plot = bars("Dice on crops of validation cases.", {"short training": dice, **baselines}, "Dice")
    return CheckResult(dice > limit, measured, f"above {limit:.3f}", (plot,))


def _baseline_dice(subject: Subject) -> tuple[dict[str, float], float]:
    """Return the Dice of each baseline by name, and the Dice that a network has to exceed."""
    config, crops = subject.config, subject.crops
    labels = range(len(config.data.classes))
    head = make_head(config)

    def dice(masks: Sequence[Pixels]) -> float:
        scores = []
        for crop, mask in zip(crops, masks, strict=True):
            logits = np.stack([mask == label for label in labels]).astype(np.float32)  # (K, *S)
            scores.append(crop.score(logits if head.outputs > 1 else logits[1:] - 0.5, config))
        return nan_mean(scores)

    constant = max(dice([np.full(crop.image.shape, label) for crop in crops]) for label in labels)
    if len(labels) != 2:
        return {"one class everywhere": constant}, constant
    masks = []
    for crop in crops:
        grey = crop.image.pixels.mean(axis=0)
        low, high = float(grey.min()), float(grey.max())
        bins = np.rint((grey - low) * ((BINS - 1) / max(high - low, 1e-12))).astype(np.int64)
        masks.append((bins > otsu_threshold(np.bincount(bins.ravel(), minlength=BINS))).astype(np.int64))
    otsu = max(dice(masks), dice([1 - mask for mask in masks]))
    return {"one class everywhere": constant, "Otsu's threshold": otsu}, max(constant, min(otsu, EASY))


def _scorer(config: Config) -> Callable[[CaseCrop, Pixels], float]:
    return lambda crop, logits: crop.score(logits, config)


def check_overfitting(subject: Subject) -> CheckResult:
    """Check that the network can overfit patches of two images."""
    batch, config = _overfit_batch(subject), subject.config
    scores: dict[int, float] = {}
    limit = OVERFIT_SCORE["values" if make_head(config).gives_values else "classes"]

    def is_fitted(step: int, network: Network) -> bool:
        if step % OVERFIT_EVERY == 0 and step:
            scores[step] = _score_batch(network, batch, subject)[0]
        return scores.get(step, 0.0) > limit

    run = subject.train_short([batch], OVERFIT_STEPS, on_step=is_fitted)
    score, logits = _score_batch(run.network, batch, subject)
    name = make_score(config).name.replace("dice", "Dice")
    measured = f"{name} {score:.4f} after {len(run.losses)} steps"
    pictures = (curves("The loss by step.", {"loss": run.losses}), *_overfit_pictures(batch, logits, config))
    return CheckResult(score > limit, measured, f"above {limit:g} within {OVERFIT_STEPS} steps", pictures)


def _overfit_batch(subject: Subject) -> TrainingPatch:
    """Return a patch with foreground of each of two cases, or for the sliding window a batch of windows of two cases."""
    config = without_augmentation(subject.config)
    draws = PatchBatchSampler(subject.sampler, config)
    patches = PatchDataset(subject.examined.splits.train, config, subject.statistics)
    is_window, case_count = config.model.name == "sliding_window", min(2, len(patches.cases))
    size = min(OVERFIT_WINDOWS, config.trainer.batch_size) if is_window else 2
    batch: list[TrainingPatch] = []
    for number in range(100 * size):
        patch = patches[draws.draw_location(number)]
        cases = [int(other.case) for other in batch]
        is_new_case = int(patch.case) not in cases
        if is_window:
            is_suitable = not is_new_case or len(set(cases)) < case_count
        else:
            has_foreground = bool(((patch.reference > 0) & (patch.reference != IGNORED)).any())
            is_suitable = is_new_case or len(cases) >= case_count
            is_suitable = is_suitable and (patch.reference.is_floating_point() or has_foreground)
        if is_suitable:
            batch.append(patch)
        if len(batch) == size:
            break
    return cast(TrainingPatch, default_collate(batch))


def _score_batch(network: Network, batch: TrainingPatch, subject: Subject) -> tuple[float, Pixels]:
    """Return the validation's score over the patches, and the logits (B, R, *S); windows count as pixels of one image."""
    with torch.no_grad():
        logits = network.eval().outputs(batch.image.to(subject.device)).logits[0].float().cpu()
    reference = batch.reference if logits.ndim == 2 else crop_reference(batch.reference, logits)
    head, is_values = make_head(subject.config), reference.is_floating_point()
    reference = reference.nan_to_num(OUTSIDE) if is_values else reference
    score = SCORES[subject.config.head.kind](head, len(subject.config.data.classes), int(OUTSIDE) if is_values else IGNORED)
    for output, target in zip(logits.numpy(), reference.numpy(), strict=True):
        pixels = output.reshape(len(output), -1)  # (R, n)
        score.add(pixels, target.reshape(-1, pixels.shape[1]))
    return score.value(), logits.numpy()


def _overfit_pictures(batch: TrainingPatch, logits: Pixels, config: Config) -> tuple[CheckPicture, ...]:
    """Return a picture of image, reference and mask of both patches; none in 3D, for windows and for other heads."""
    if logits.ndim != 4 or config.head.kind not in ("softmax", "sigmoid"):
        return ()
    head, colours = make_head(config), [section.colour for section in config.data.classes]
    reference = crop_reference(batch.reference, torch.from_numpy(logits)).numpy()
    images = crop_reference(batch.image, torch.from_numpy(logits)).numpy()
    tiles = []
    for image, labels, output in zip(images, reference, logits, strict=True):
        picture = channel_pictures(image)[0]
        tiles += [picture, overlay(picture, labels, colours), overlay(picture, head.mask(output), colours)]
    return (CheckPicture("Image, reference and mask of both patches.", to_png(sheet(tiles, 3))),)


def check_width(subject: Subject) -> CheckResult:
    """Check that twice as many features fit the same batches at least as well in as many steps.

    The initial weights can matter more than the width, so if the first pair of networks fails, more pairs are trained.
    """
    last = min(len(subject.pool), WIDER_STEPS // 2)
    pairs: list[tuple[list[float], list[float]]] = []
    for draw in range(WIDER_DRAWS):
        run = subject.config.run.model_copy(update={"seed": subject.config.run.seed + draw})
        config = subject.config.model_copy(update={"run": run})
        wide_config = _with_twice_the_features(config)
        wide_losses = subject.train_short(subject.pool, STEPS, until=WIDER_STEPS, config=wide_config).losses
        if draw == 0:
            losses = subject.standard_run.losses[:WIDER_STEPS]
        else:
            losses = subject.train_short(subject.pool, STEPS, until=WIDER_STEPS, config=config).losses
        pairs.append((losses, wide_losses))
        narrow, wide = (np.mean([pair[side][-last:] for pair in pairs], axis=0) for side in (0, 1))
        gaps = wide - narrow
        allowed = max(2 * CLEAR * abs(float(narrow.mean())), ERRORS * float(gaps.std(ddof=1) / np.sqrt(last)))
        if gaps.mean() <= allowed:
            break
    measured = f"loss {wide.mean():.3g} with twice the features, {narrow.mean():.3g} unchanged, after {WIDER_STEPS} steps"
    plot = curves("Losses of the same batches.", dict(zip(("unchanged", "twice the features"), pairs[-1], strict=True)))
    return CheckResult(bool(gaps.mean() <= allowed), measured, f"higher by at most {allowed:.2g}", (plot,))


def _with_twice_the_features(config: Config) -> Config:
    model = config.model
    if isinstance(model, UNetSection):
        wide: Any = model.model_copy(update={"features": tuple(2 * features for features in model.features)})
    else:
        layers = tuple(layer.model_copy(update={"features": 2 * layer.features}) for layer in model.convolutions)
        wide = model.model_copy(update={"convolutions": layers, "hidden": 2 * model.hidden})
    return config.model_copy(update={"model": wide})


def check_progress(subject: Subject) -> CheckResult:
    """Check that the score of the same images rises through the standard run."""
    config, snapshots = subject.config, subject.snapshots
    scores = [nan_mean(map(_scorer(config), subject.crops, logits)) for logits in snapshots.values()]
    steps = ", ".join(map(str, snapshots))
    name = make_score(config).name.replace("dice", "Dice")
    measured = f"{name} {', '.join(f'{score:.3f}' for score in scores)} after {steps} steps"
    caption = f"Image, reference, and the masks after {steps} steps."
    pictures = mask_sheet(caption, subject.crops, list(snapshots.values()), config)
    limit = f"higher by more than {RISE:g} at the end than at the start"
    return CheckResult(scores[-1] > scores[0] + RISE, measured, limit, pictures)
