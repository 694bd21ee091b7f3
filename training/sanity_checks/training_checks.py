"""Checks by short trainings: against themselves, broken data and rules of thumb, on two images, with more weights."""

from collections.abc import Sequence
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
from training.data.patch_dataset import PatchDataset
from training.data.stream import BatchDraws
from training.data.training_patch import TrainingPatch
from training.monitoring.tensor_pictures import channel_pictures
from training.objective.encodings import IGNORED
from training.objective.levels import crop_reference
from training.objective.scoring import SCORES, make_score
from training.sanity_checks.figures import bars, curves, sheet, strip
from training.sanity_checks.image_parts import CaseCrop
from training.sanity_checks.result import CLEAR, ERRORS, CheckPicture, CheckResult, NotApplicable, needed_gap
from training.sanity_checks.subject import STEPS, Subject, unaugmented

TWICE_STEPS = 4
WIDER_STEPS, WIDER_DRAWS = 40, 3
OVERFIT_STEPS, OVERFIT_EVERY = 400, 10
OVERFIT_SCORE = {"classes": 0.99, "values": 0.9}
OVERFIT_WINDOWS = 64  # at most: the sliding window learns windows of two images by heart
RISE = 0.01  # of a score through a short training
LONGER = 3  # times as many steps, where a short training doesn't beat the baselines
EASY = 0.9  # Otsu's Dice from which a threshold alone solves the task; no more is asked for
OUTSIDE = -1e30  # stands for a value that counts nowhere
GPU_DIFFERENCE = 1e-3  # of two losses; some of CUDA's sums have no fixed order

Pixels = NDArray[Any]


def same_seed(subject: Subject) -> CheckResult:
    """Two trainings from the beginning, patches and augmentation included, give the same losses, to the bit."""
    runs = [_from_the_beginning(subject) for _ in range(2)]
    apart = float(np.abs(np.array(runs[0]) - np.array(runs[1])).max())
    allowed = 0.0 if subject.device.type == "cpu" else GPU_DIFFERENCE
    drawn = curves("The losses of both, one over the other.", {"first": runs[0], "second": runs[1]})
    measured = f"{TWICE_STEPS} losses, largest difference {apart:.3g}"
    return CheckResult(apart <= allowed, measured, f"at most {allowed:g}", (drawn,))


def _from_the_beginning(subject: Subject) -> list[float]:
    return subject.short_run(subject.train_batches(TWICE_STEPS), TWICE_STEPS).losses


def zeroed_input(subject: Subject) -> CheckResult:
    """Validation patches are harder for a network that was trained on, and sees, nothing."""
    blind, probe = (
        [batch._replace(image=torch.zeros_like(batch.image)) for batch in batches] for batches in (subject.pool, subject.probe)
    )
    return _harder(subject, blind, probe, "zeroed images")


def shuffled_references(subject: Subject) -> CheckResult:
    """Validation patches are harder for a network that was trained on the references of other cases."""
    return _harder(subject, shuffled(subject.pool), subject.probe, "shuffled references")


def _harder(subject: Subject, batches: Sequence[TrainingPatch], probe: Sequence[TrainingPatch], name: str) -> CheckResult:
    """The loss of the validation's patches is clearly lower than the probe's after a training on those batches."""
    real = subject.losses(subject.real.network, subject.probe)  # first, since other checks need that training, too
    other = subject.short_run(batches, STEPS)
    losses = subject.losses(other.network, probe)
    gap, needed = float(losses.mean() - real.mean()), needed_gap(real, losses)
    drawn = curves("Losses of the two short trainings.", {"as it is": subject.real.losses, name: other.losses})
    measured = f"loss of validation patches {real.mean():.3g}, with {name} {losses.mean():.3g}"
    return CheckResult(gap > needed, measured, f"lower by more than {needed:.2g}", (drawn,))


def shuffled(batches: Sequence[TrainingPatch]) -> list[TrainingPatch]:
    """The same images, each with the reference and the weights of another case's patch, or else of another patch."""
    cases = torch.cat([batch.case for batch in batches]).numpy()
    order = np.argsort(cases, kind="stable")
    step = min(int(np.bincount(cases).max()), len(cases) // 2)
    source = np.empty_like(order)
    source[order] = np.roll(order, step)
    references, weights = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("reference", "weights"))
    sizes = [len(batch.image) for batch in batches]
    parts = zip(torch.split(references[source], sizes), torch.split(weights[source], sizes), strict=True)
    return [batch._replace(reference=one, weights=two) for batch, (one, two) in zip(batches, parts, strict=True)]


def dumb_baselines(subject: Subject) -> CheckResult:
    """The network of a short training has a better Dice than one class everywhere, and than Otsu's threshold.

    Where the usual one isn't enough, a longer one on more batches decides.
    """
    config = subject.config
    if make_score(config).name != "dice" or config.head.kind == "multi_label":
        raise NotApplicable("masks of one class a pixel have such baselines, and the head gives others")
    baselines, limit = _baselines(subject)
    steps, dice = STEPS, nan_mean(map(_score(config), subject.views, subject.snapshots[STEPS]))
    if not dice > limit:
        steps = LONGER * STEPS
        longer = subject.short_run(subject.train_batches(LONGER * len(subject.pool)), steps)
        dice = nan_mean(map(_score(config), subject.views, subject.logits(longer.network)))
    others = ", ".join(f"{name} {value:.3f}" for name, value in baselines.items())
    measured = f"Dice {dice:.3f} on {len(subject.views)} validation cases after {steps} steps; {others}"
    drawn = bars("Dice of views of validation cases.", {"short training": dice, **baselines}, "Dice")
    return CheckResult(dice > limit, measured, f"above {limit:.3f}", (drawn,))


def _baselines(subject: Subject) -> tuple[dict[str, float], float]:
    """The Dice of each, and what is to be exceeded."""
    config, views = subject.config, subject.views

    def dice(masks: Sequence[Pixels]) -> float:
        return nan_mean(_dice_of(view, mask, config) for view, mask in zip(views, masks, strict=True))

    classes = range(len(config.data.classes))
    constant = max(dice([np.full(view.image.shape, label) for view in views]) for label in classes)
    if len(classes) != 2:
        return {"one class everywhere": constant}, constant
    masks = [_otsu(view.image.pixels) for view in views]
    otsu = max(dice(masks), dice([1 - mask for mask in masks]))
    return {"one class everywhere": constant, "Otsu's threshold": otsu}, max(constant, min(otsu, EASY))


def _score(config: Config) -> Any:
    return lambda view, logits: view.score(logits, config)


def _dice_of(view: CaseCrop, mask: Pixels, config: Config) -> float:
    """Of a mask of labels (*S), as if a network had been sure of it."""
    head = make_head(config)
    sure = np.stack([mask == label for label in range(len(config.data.classes))]).astype(np.float32)  # (K, *S)
    return view.score(sure if head.outputs > 1 else sure[1:] - 0.5, config)


def _otsu(image: Pixels) -> Pixels:
    """1 above Otsu's threshold on the mean of the channels."""
    grey = image.mean(axis=0)
    low, high = float(grey.min()), float(grey.max())
    bins = np.rint((grey - low) * ((BINS - 1) / max(high - low, 1e-12))).astype(np.int64)
    return np.asarray(bins > otsu_threshold(np.bincount(bins.ravel(), minlength=BINS)), np.int64)


def overfits(subject: Subject) -> CheckResult:
    """Patches of two images are learned by heart."""
    batch, config = _two_images(subject), subject.config
    scores: dict[int, float] = {}
    wanted = OVERFIT_SCORE["values" if make_head(config).gives_values else "classes"]

    def enough(step: int, network: Network) -> bool:
        if step % OVERFIT_EVERY == 0 and step:
            scores[step] = _score_of(network, batch, subject)[0]
        return scores.get(step, 0.0) > wanted

    run = subject.short_run([batch], OVERFIT_STEPS, on_step=enough)
    score, logits = _score_of(run.network, batch, subject)
    name = make_score(config).name.replace("dice", "Dice")
    measured = f"{name} {score:.4f} after {len(run.losses)} steps"
    pictures = (curves("The loss, step by step.", {"loss": run.losses}), *_learned(batch, logits, config))
    return CheckResult(score > wanted, measured, f"above {wanted:g} within {OVERFIT_STEPS}", pictures)


def _two_images(subject: Subject) -> TrainingPatch:
    """One patch with foreground of each of two cases, or for windows a batch of them, without augmentation."""
    config = unaugmented(subject.config)
    draws = BatchDraws(subject.sampler, config)
    patches = PatchDataset(subject.examined.splits.train, config, subject.statistics)
    windows, cases = config.model.name == "sliding_window", min(2, len(patches.cases))
    wanted = min(OVERFIT_WINDOWS, config.trainer.batch_size) if windows else 2
    chosen: list[TrainingPatch] = []
    for number in range(100 * wanted):
        patch = patches[draws.draw(number)]
        held = [int(other.case) for other in chosen]
        new = int(patch.case) not in held
        if (windows and (not new or len(set(held)) < cases)) or (not windows and _tells(patch) and (new or len(held) >= cases)):
            chosen.append(patch)
        if len(chosen) == wanted:
            break
    return cast(TrainingPatch, default_collate(chosen))


def _tells(patch: TrainingPatch) -> bool:
    """Whether it holds foreground, or values."""
    return patch.reference.is_floating_point() or bool(((patch.reference > 0) & (patch.reference != IGNORED)).any())


def _score_of(network: Network, batch: TrainingPatch, subject: Subject) -> tuple[float, Pixels]:
    """The validation's score over the patches, and the logits (B, R, *S); windows are the pixels of one image."""
    with torch.no_grad():
        logits = network.eval().outputs(batch.image.to(subject.device)).logits[0].float().cpu()
    reference = batch.reference if logits.ndim == 2 else crop_reference(batch.reference, logits)
    head, values = make_head(subject.config), reference.is_floating_point()
    reference = reference.nan_to_num(OUTSIDE) if values else reference
    score = SCORES[subject.config.head.kind](head, len(subject.config.data.classes), int(OUTSIDE) if values else IGNORED)
    for answer, wanted in zip(logits.numpy(), reference.numpy(), strict=True):
        pixels = answer.reshape(len(answer), -1)  # (R, n)
        score.add(pixels, wanted.reshape(-1, pixels.shape[1]))
    return score.value(), logits.numpy()


def _learned(batch: TrainingPatch, logits: Pixels, config: Config) -> tuple[CheckPicture, ...]:
    """Image, reference and mask of both patches, where these are pictures."""
    if logits.ndim != 4 or config.head.kind not in ("softmax", "sigmoid"):
        return ()
    head, colours = make_head(config), [section.colour for section in config.data.classes]
    reference = crop_reference(batch.reference, torch.from_numpy(logits)).numpy()
    images = crop_reference(batch.image, torch.from_numpy(logits)).numpy()
    tiles = []
    for image, labels, answer in zip(images, reference, logits, strict=True):
        picture = channel_pictures(image)[0]
        tiles += [picture, overlay(picture, labels, colours), overlay(picture, head.mask(answer), colours)]
    return (CheckPicture("Image, reference and mask of both patches.", to_png(sheet(tiles, 3))),)


def wider_fits_better(subject: Subject) -> CheckResult:
    """Twice as many features fit the same batches better in as many steps, or as well.

    How a network was drawn can matter more than how wide it is, so where the first pair says otherwise, more are drawn.
    """
    last = min(len(subject.pool), WIDER_STEPS // 2)
    pairs: list[tuple[list[float], list[float]]] = []
    for draw in range(WIDER_DRAWS):
        pairs.append(_narrow_and_wide(subject, draw))
        here, there = (np.mean([pair[side][-last:] for pair in pairs], axis=0) for side in (0, 1))
        gaps = there - here
        allowed = max(2 * CLEAR * abs(float(here.mean())), ERRORS * float(gaps.std(ddof=1) / np.sqrt(last)))
        if gaps.mean() <= allowed:
            break
    measured = f"loss {there.mean():.3g} with twice the features, {here.mean():.3g} as it is, after {WIDER_STEPS} steps"
    drawn = curves("Losses of the same batches.", dict(zip(("as it is", "twice as wide"), pairs[-1], strict=True)))
    return CheckResult(bool(gaps.mean() <= allowed), measured, f"higher by at most {allowed:.2g}", (drawn,))


def _narrow_and_wide(subject: Subject, draw: int) -> tuple[list[float], list[float]]:
    """The losses of both, of the weights' draw so and so."""
    config = subject.config
    config = config.model_copy(update={"run": config.run.model_copy(update={"seed": config.run.seed + draw})})
    wide = subject.short_run(subject.pool, STEPS, until=WIDER_STEPS, config=_wider(config)).losses
    if draw == 0:
        return subject.real.losses[:WIDER_STEPS], wide
    return subject.short_run(subject.pool, STEPS, until=WIDER_STEPS, config=config).losses, wide


def _wider(config: Config) -> Config:
    model = config.model
    if isinstance(model, UNetSection):
        wide: Any = model.model_copy(update={"features": tuple(2 * features for features in model.features)})
    else:
        layers = tuple(layer.model_copy(update={"features": 2 * layer.features}) for layer in model.convolutions)
        wide = model.model_copy(update={"convolutions": layers, "hidden": 2 * model.hidden})
    return config.model_copy(update={"model": wide})


def through_training(subject: Subject) -> CheckResult:
    """The score of the same images rises through the short training."""
    config, columns = subject.config, subject.snapshots
    scores = [nan_mean(map(_score(config), subject.views, logits)) for logits in columns.values()]
    words = f"Image, reference, and the masks after {', '.join(map(str, columns))} steps."
    name = make_score(config).name.replace("dice", "Dice")
    measured = f"{name} {', '.join(f'{score:.3f}' for score in scores)} after {', '.join(map(str, columns))} steps"
    pictures = strip(words, subject.views, list(columns.values()), config)
    limit = f"higher by more than {RISE:g} at the end than at the start"
    return CheckResult(scores[-1] > scores[0] + RISE, measured, limit, pictures)
