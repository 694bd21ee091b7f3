"""Checks of the network and the loss: the initial loss, independence of the batch, the bundle, and the first filters."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.schema import Config
from datasets.cases import Case
from datasets.channels import ImageInput
from datasets.references import open_reference
from evaluation.rendering import to_png
from imaging.errors import DataError
from inference.predict import predict
from inference.predictors.loading import load_predictor
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import Predictor
from inference.request import OutputRequest
from inference.segment import segment_array
from models import bundle
from models.architectures import Network
from models.heads import make_head
from training.data.open_cases import open_labelled_image
from training.monitoring.tensor_pictures import filter_picture
from training.objective.levels import level_shares, make_subsample
from training.publishing import INTENDED_USE
from training.sanity_checks.expected_loss import EXCLUSIVE, expected_loss
from training.sanity_checks.figures import bars, mask_sheet, outlines
from training.sanity_checks.image_parts import without_normalisation
from training.sanity_checks.result import CheckPicture, CheckResult, NotApplicable
from training.sanity_checks.subject import Subject, batch_loss

LOSS_SHARE = 1e-3  # allowed difference, as a share of the expected loss, or of 1 if that is lower
GRADIENT_BATCH = 3
BATCH_DIFFERENCE = 1e-3  # of logits, relative to the largest: the order of sums depends on the batch size
BUNDLE_DIFFERENCE = 1e-5  # of probabilities
MOST_FILE_PX = 4_000_000  # largest image that is segmented as a file
STRUCTURE = 0.1  # least autocorrelation of the filters' change in training; that of noise is 0
TINY_KERNEL = 3

Pixels = NDArray[Any]


def check_initial_loss(subject: Subject) -> CheckResult:
    """Check the loss of constant outputs, 0 and the classes' shares, against its definition."""
    shares = _share_logits(subject.config, subject.class_prior)
    texts, is_close = [], True
    figures: dict[str, float] = {}
    for name, constants in (("a zeroed head", np.zeros_like(shares)), ("the classes' shares", shares)):
        measured, expected = _constant_loss(subject, constants), _expected_constant_loss(subject, constants)
        is_close &= abs(measured - expected) <= LOSS_SHARE * max(1.0, abs(expected))
        texts.append(f"{measured:.4f} with {name}, {expected:.4f} expected")
        figures |= {f"{name}, measured": measured, f"{name}, expected": expected}
    plot = bars("Losses of constant outputs, measured and expected.", figures, "Loss")
    return CheckResult(is_close, "; ".join(texts), f"within {LOSS_SHARE:g} of the expected loss", (plot,))


def _share_logits(config: Config, class_prior: Sequence[float]) -> Pixels:
    """Return outputs (R,) that give each class's share; for heads of values any constant."""
    if config.head.name in EXCLUSIVE:
        return np.asarray(np.log(np.maximum(class_prior, 1e-6)))
    if config.head.kind in ("regression", "unit_regression") or len(class_prior) < 2:
        return np.array([0.5])
    foreground = np.clip(class_prior[1:], 1e-6, 1 - 1e-6)
    return np.asarray(np.log(foreground / (1 - foreground))[: make_head(config).outputs])


def _constant_loss(subject: Subject, constants: Pixels) -> float:
    """Return the loss of a network whose heads are zeroed but for these biases, so that its outputs are constant."""
    torch.manual_seed(subject.config.run.seed)
    network = subject.predictor(subject.build(subject.config)).network
    for head in (network.head, *getattr(network, "coarser_heads", ())):
        nn.init.zeros_(head.weight)
        if head.bias is not None:
            head.bias.data.copy_(torch.as_tensor(constants))
    loss = subject.make_loss(subject.config, subject.class_prior)
    with torch.no_grad():
        return float(batch_loss(network.train(), loss, subject.pool[0], subject.device))


def _expected_constant_loss(subject: Subject, constants: Pixels) -> float:
    """Return the expected loss of constant outputs over all levels that have outputs."""
    batch, subsample = subject.pool[0], make_subsample(subject.config)
    network = subject.predictor(subject.build(subject.config)).network
    with torch.no_grad():
        levels = network.outputs(batch.image.to(subject.device)).logits
    terms = []
    for number, level in enumerate(levels):
        reference, weights = (subsample(level, number, maps).numpy() for maps in (batch.reference, batch.weights))
        terms.append(expected_loss(subject.config, constants.tolist(), reference, weights, subject.class_prior))
    return float(np.dot(level_shares(len(levels)), terms))


def check_batch_independence(subject: Subject) -> CheckResult:
    """Check by derivatives that no output depends on another image of its batch."""
    images = torch.cat([batch.image for batch in subject.pool])[:GRADIENT_BATCH].to(subject.device)
    if len(images) < 2:
        raise NotApplicable("there is only one patch")
    network = subject.standard_run.network.eval()
    images = images.detach().requires_grad_()
    outputs = network.outputs(images).logits
    table = torch.zeros(len(images), len(images))
    for number in range(len(images)):
        total: Tensor = sum(level[number].double().sum() for level in outputs)  # type: ignore[assignment]
        (gradient,) = torch.autograd.grad(total, images, retain_graph=True)
        table[number] = gradient.abs().flatten(1).amax(dim=1).cpu()
    own, others = table.diagonal(), table - table.diagonal().diag()
    derivatives = {"by its own image, at least": float(own.min()), "by another image, at most": float(others.max())}
    plot = bars("The largest derivative of an output by a pixel.", derivatives, "Derivative")
    measured = f"largest derivative by another image {float(others.max()):.3g}, by its own {float(own.min()):.3g}"
    return CheckResult(not others.any() and bool(own.all()), measured, "0 by others, and not 0 by its own", (plot,))


def check_batch_sizes(subject: Subject) -> CheckResult:
    """Check that crops are segmented equally, with tiles passed one by one or several at a time."""
    config, network = subject.config, subject.standard_run.network
    margin = sum(subject.predictor(network).margin)
    tile_size = tuple(max(1, margin + size // 2) for size in subject.crops[0].image.shape)  # several tiles per crop
    logits, scores = {}, {}
    for size in (1, 2, 3):
        section = config.inference.model_copy(update={"tile_size": tile_size, "batch_size": size})
        predictor = subject.predictor(network, config.model_copy(update={"inference": section}))
        logits[size] = [crop.logits(predictor) for crop in subject.crops]
        pairs = zip(subject.crops, logits[size], strict=True)
        scores[size] = float(np.nanmean([crop.score(each, config) for crop, each in pairs]))
    difference = max(
        float(np.abs(one - other).max() / max(1.0, float(np.abs(one).max())))
        for size in (2, 3)
        for one, other in zip(logits[1], logits[size], strict=True)
    )
    spread = max(scores.values()) - min(scores.values())
    tiles = sum(len(predictor.grid(crop.image.shape)) for crop in subject.crops)
    measured = f"{tiles} tiles 1, 2 and 3 at a time: scores differ by {spread:.2g}, logits by {difference:.2g}"
    columns = list(logits.values())
    pictures = mask_sheet("Image, reference, masks with 1, 2 and 3 tiles at a time.", subject.crops[:1], columns, config)
    limit = f"scores and logits differ by at most {BATCH_DIFFERENCE:g}"
    return CheckResult(max(spread, difference) <= BATCH_DIFFERENCE, measured, limit, pictures)


def check_bundle(subject: Subject) -> CheckResult:
    """Check that a written and loaded bundle gives the same probabilities and mask file as the network in memory."""
    config = subject.config
    with tempfile.TemporaryDirectory() as name:
        loaded = bundle.load(_write_bundle(subject, Path(name) / "bundle"))
        network, prior = subject.standard_run.network.eval(), subject.class_prior
        validated = make_predictor(without_normalisation(config), network, prior, subject.device, average=True)
        served = make_predictor(
            without_normalisation(loaded.config), loaded.network, loaded.manifest.class_prior, subject.device, average=True
        )
        difference = max(
            float(np.abs(_interpret(validated, crop.logits(validated)) - _interpret(served, crop.logits(served))).max())
            for crop in subject.crops
        )
        wrong_pixels, text = _compare_mask_file(subject, loaded, Path(name) / "masks")
    is_equal = difference < BUNDLE_DIFFERENCE and not wrong_pixels
    measured = f"probabilities differ by {difference:.2g}; {text}"
    pictures = outlines("The segmented crop with its reference.", subject.crops[:1], config)
    return CheckResult(is_equal, measured, f"below {BUNDLE_DIFFERENCE:g}, equal masks", pictures)


def _compare_mask_file(subject: Subject, loaded: bundle.Bundle, out: Path) -> tuple[int, str]:
    """Return in how many pixels the mask file of a validation case differs from the validation's mask, as number and text."""
    case, config = subject.examined.splits.val[0], subject.config
    validated = make_predictor(config, subject.standard_run.network.eval(), subject.class_prior, subject.device, average=True)
    labelled = open_labelled_image(case, config)
    with labelled.image as image, labelled.reference:
        if validated.head.gives_values or prod(image.shape) > MOST_FILE_PX:
            return 0, "no mask file compared (only for classes and small images)"
        mask = segment_array(image, validated)
    request = OutputRequest(spacing_um=case.spacing_um, objects=False)
    image_input, predictor = ImageInput(case.images, case.name), load_predictor(loaded, subject.device)
    outcome = next(predict([image_input], predictor, out, request, lambda *_: None))
    if isinstance(outcome.result, DataError):
        raise outcome.result
    with open_reference(Case(case.name, case.images, outcome.files[0])) as mask_file:
        wrong_pixels = int((np.concatenate(list(mask_file.blocks()), axis=1)[0] != mask).sum())
    return wrong_pixels, f"{wrong_pixels} of {mask.size} pixels of a mask file differ"


def _write_bundle(subject: Subject, folder: Path) -> Path:
    network = subject.standard_run.network.eval()
    bundle.write(
        folder,
        network,
        subject.config,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        margin_px=subject.predictor(network).margin,
        class_prior=subject.class_prior,
        validation={},
        training_images=(),
        training_steps=0,
        training_seconds=0.0,
        versions={},
        commit=None,
        intended_use=INTENDED_USE,
    )
    return folder


def _interpret(predictor: Predictor, logits: Pixels) -> Pixels:
    """Return the probabilities, or the values of heads without classes."""
    return predictor.head.values(logits) if predictor.head.gives_values else predictor.head.probabilities(logits)


def check_filters(subject: Subject) -> CheckResult:
    """Check that the change of the first filters in training is smooth, and not noise.

    After a short training the filters are still close to their random initial values, so their change is measured: its
    autocorrelation between neighbouring taps, which is 0 for noise. Images are smooth, and so are the changes that they
    cause; input without structure causes noise. Kernels of 3 taps have few pairs of taps, so there a failure is advice.
    """
    network = subject.standard_run.network
    first = _first_convolution(network)
    torch.manual_seed(subject.config.run.seed)
    initial = _first_convolution(subject.predictor(subject.build(subject.config)).network)
    change = (first.weight - initial.weight).detach().double().cpu().numpy()  # (F, C, *kernel)
    axes = [axis for axis in range(2, change.ndim) if change.shape[axis] > 1]
    if not axes:
        raise NotApplicable("the first convolution has a kernel of one pixel")
    sizes = [change.shape[axis] for axis in axes]
    pairs = [
        (change.take(range(size - 1), axis), change.take(range(1, size), axis)) for axis, size in zip(axes, sizes, strict=True)
    ]
    product = sum(float((one * other).sum()) for one, other in pairs)
    square = sum(float((one**2).sum() + (other**2).sum()) / 2 for one, other in pairs)
    correlation = product / square if square else 0.0
    is_tiny = max(change.shape[2:]) <= TINY_KERNEL
    advice = "; advice only, since the kernels are small" if is_tiny else ""
    measured = f"correlation {correlation:.2f} between neighbouring taps of the filters' change in training{advice}"
    picture = CheckPicture("The first filters; grey is 0, each scaled to its largest weight.", to_png(filter_picture(network)))
    return CheckResult(correlation > STRUCTURE, measured, f"above {STRUCTURE:g}", (picture,), advisory=is_tiny)


def _first_convolution(network: Network) -> nn.Conv2d | nn.Conv3d:
    return next(module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))
