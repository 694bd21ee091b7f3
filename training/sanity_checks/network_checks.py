"""Checks of the network and the loss themselves: what they say of nothing, what leaks, and whether serving says the same."""

import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.schema import Config
from configs.sections import InferenceSection
from datasets.cases import Case
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
from training.data.open_cases import open_labelled
from training.monitoring.tensor_pictures import filter_picture
from training.objective.levels import level_shares, make_fit
from training.publishing import INTENDED_USE
from training.sanity_checks.expected_loss import EXCLUSIVE, expected_loss
from training.sanity_checks.figures import bars, outlines, strip
from training.sanity_checks.image_parts import as_seen
from training.sanity_checks.result import CheckPicture, CheckResult, NotApplicable
from training.sanity_checks.subject import Subject, loss_of

LOSS_SHARE = 1e-3  # of the expected loss, or of 1 where that is lower
LEAKING_BATCH = 3
BATCH_DIFFERENCE = 1e-3  # of logits by batch size, by the largest of them: other sizes sum in another order
SERVED_DIFFERENCE = 1e-5  # of probabilities
SERVED_PX = 4_000_000  # of an image that is segmented through files
STRUCTURE = 0.1  # autocorrelation of what a filter learned; that of noise is 0
TINY_KERNEL = 3

Pixels = NDArray[Any]


def loss_at_the_start(subject: Subject) -> CheckResult:
    """The loss of outputs that are 0, and of outputs that are the classes' shares, is what its definition says."""
    shares = _shares(subject.config, subject.class_prior)
    measured, passed = [], True
    figures: dict[str, float] = {}
    for name, constants in (("a zeroed head", np.zeros_like(shares)), ("the classes' shares", shares)):
        found, expected = _constant_loss(subject, constants), _expected(subject, constants)
        passed &= abs(found - expected) <= LOSS_SHARE * max(1.0, abs(expected))
        measured.append(f"{found:.4f} with {name}, {expected:.4f} expected")
        figures |= {f"{name}, found": found, f"{name}, expected": expected}
    drawn = bars("Losses of constant outputs, and what they should be.", figures, "Loss")
    return CheckResult(passed, "; ".join(measured), f"within {LOSS_SHARE:g} of what is expected", (drawn,))


def _shares(config: Config, class_prior: Sequence[float]) -> Pixels:
    """(R,), outputs that say how frequent each class is; where the head has no such outputs, some number."""
    if config.head.name in EXCLUSIVE:
        return np.asarray(np.log(np.maximum(class_prior, 1e-6)))
    if config.head.kind in ("regression", "unit_regression") or len(class_prior) < 2:
        return np.array([0.5])
    foreground = np.clip(class_prior[1:], 1e-6, 1 - 1e-6)
    return np.asarray(np.log(foreground / (1 - foreground))[: make_head(config).outputs])


def _constant_loss(subject: Subject, constants: Pixels) -> float:
    torch.manual_seed(subject.config.run.seed)
    network = subject.predictor(subject.build(subject.config)).network
    for head in _heads(network):
        nn.init.zeros_(head.weight)
        if head.bias is not None:
            head.bias.data.copy_(torch.as_tensor(constants))
    loss = subject.make_loss(subject.config, subject.class_prior)
    with torch.no_grad():
        return float(loss_of(network.train(), loss, subject.pool[0], subject.device))


def _heads(network: Network) -> Iterator[nn.Conv2d | nn.Conv3d]:
    yield network.head
    yield from getattr(network, "coarser_heads", ())


def _expected(subject: Subject, constants: Pixels) -> float:
    """Over all levels that give outputs."""
    batch, fit = subject.pool[0], make_fit(subject.config)
    network = subject.predictor(subject.build(subject.config)).network
    with torch.no_grad():
        levels = network.outputs(batch.image.to(subject.device)).logits
    terms = []
    for number, level in enumerate(levels):
        reference, weights = (fit(level, number, maps).numpy() for maps in (batch.reference, batch.weights))
        terms.append(expected_loss(subject.config, constants.tolist(), reference, weights, subject.class_prior))
    return float(np.dot(level_shares(len(levels)), terms))


def nothing_leaks(subject: Subject) -> CheckResult:
    """No output depends on another image of its batch."""
    images = torch.cat([batch.image for batch in subject.pool])[:LEAKING_BATCH].to(subject.device)
    if len(images) < 2:
        raise NotApplicable("there is one patch only")
    network = subject.real.network.eval()
    images = images.detach().requires_grad_()
    outputs = network.outputs(images).logits
    table = torch.zeros(len(images), len(images))
    for number in range(len(images)):
        total: Tensor = sum(level[number].double().sum() for level in outputs)  # type: ignore[assignment]
        (gradient,) = torch.autograd.grad(total, images, retain_graph=True)
        table[number] = gradient.abs().flatten(1).amax(dim=1).cpu()
    own, others = table.diagonal(), table - table.diagonal().diag()
    values = {"by its own image, at least": float(own.min()), "by another image, at most": float(others.max())}
    drawn = bars("The largest derivative of an output by a pixel.", values, "Derivative")
    measured = f"largest derivative by another image {float(others.max()):.3g}, by its own {float(own.min()):.3g}"
    return CheckResult(not others.any() and bool(own.all()), measured, "0 by others, and not 0 by its own", (drawn,))


def same_for_every_batch_size(subject: Subject) -> CheckResult:
    """Views are segmented alike, whether tiles go through one by one or several at a time."""
    config, network = subject.config, subject.real.network
    logits, scores = {}, {}
    for size in (1, 2, 3):
        sized = config.model_copy(update={"inference": _small_tiles(config, subject, size)})
        predictor = subject.predictor(network, sized)
        logits[size] = [view.logits(predictor) for view in subject.views]
        pairs = zip(subject.views, logits[size], strict=True)
        scores[size] = float(np.nanmean([view.score(each, config) for view, each in pairs]))
    apart = max(_share_apart(one, other) for size in (2, 3) for one, other in zip(logits[1], logits[size], strict=True))
    spread = max(scores.values()) - min(scores.values())
    tiles = sum(len(predictor.grid(view.image.shape)) for view in subject.views)
    measured = f"{tiles} tiles 1, 2 and 3 at a time: scores {spread:.2g} apart, logits {apart:.2g}"
    columns = list(logits.values())
    pictures = strip("Image, reference, masks with 1, 2 and 3 tiles at a time.", subject.views[:1], columns, config)
    limit = f"scores and logits at most {BATCH_DIFFERENCE:g} apart"
    return CheckResult(spread <= BATCH_DIFFERENCE and apart <= BATCH_DIFFERENCE, measured, limit, pictures)


def _small_tiles(config: Config, subject: Subject, batch_size: int) -> InferenceSection:
    """So that a view takes several."""
    shape = subject.views[0].image.shape
    margin = sum(subject.predictor(subject.real.network).margin)
    tile = tuple(max(1, margin + size // 2) for size in shape)
    return config.inference.model_copy(update={"tile_size": tile, "batch_size": batch_size})


def _share_apart(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one - other).max() / max(1.0, float(np.abs(one).max())))


def served_as_validated(subject: Subject) -> CheckResult:
    """A bundle that is written and loaded says the same as the network in memory, and so does the file that it writes."""
    config = subject.config
    with tempfile.TemporaryDirectory() as name:
        loaded = bundle.load(_bundled(subject, Path(name) / "bundle"))
        here = make_predictor(as_seen(config), subject.real.network.eval(), subject.class_prior, subject.device, average=True)
        there = make_predictor(
            as_seen(loaded.config), loaded.network, loaded.manifest.class_prior, subject.device, average=True
        )
        apart = max(
            float(np.abs(_meaning(here, view.logits(here)) - _meaning(there, view.logits(there))).max())
            for view in subject.views
        )
        wrong, words = _by_file(subject, loaded, Path(name) / "masks")
    measured = f"probabilities {apart:.2g} apart; {words}"
    pictures = outlines("What was segmented, with its reference.", subject.views[:1], config)
    return CheckResult(apart < SERVED_DIFFERENCE and not wrong, measured, f"below {SERVED_DIFFERENCE:g}, equal masks", pictures)


def _by_file(subject: Subject, loaded: bundle.Bundle, out: Path) -> tuple[int, str]:
    """Pixels in which the mask that is written for a validation case differs from the one that validation makes."""
    case, config = subject.examined.splits.val[0], subject.config
    validated = make_predictor(config, subject.real.network.eval(), subject.class_prior, subject.device, average=True)
    labelled = open_labelled(case, config)
    with labelled.image as image, labelled.reference:
        if validated.head.gives_values or len(case.images) > 1 or prod(image.shape) > SERVED_PX:
            return 0, "no file written, for values, of several files, or of large images"
        mask = segment_array(image, validated)
    outcome = next(
        predict(case.images, load_predictor(loaded, subject.device), out, OutputRequest(spacing_um=case.spacing_um), _quiet)
    )
    if isinstance(outcome.result, DataError):
        raise outcome.result
    with open_reference(Case(case.name, case.images, outcome.files[0])) as written:
        wrong = int((np.concatenate(list(written.blocks()), axis=1)[0] != mask).sum())
    return wrong, f"{wrong} of {mask.size} pixels of a written mask differ"


def _quiet(*_: object) -> None:
    """Nobody is told of tiles."""


def _bundled(subject: Subject, folder: Path) -> Path:
    network = subject.real.network.eval()
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


def _meaning(predictor: Predictor, logits: Pixels) -> Pixels:
    """Probabilities, or values."""
    return predictor.head.values(logits) if predictor.head.gives_values else predictor.head.probabilities(logits)


def filters_look_structured(subject: Subject) -> CheckResult:
    """What the first filters learned is smooth from tap to tap, and not noise.

    Filters of a short training still are mostly what they were drawn as, so what they have become less what they began as is
    looked at: its autocorrelation at a distance of one tap, which is 0 for noise. Images are smooth, and so is what a filter
    learns of them; input without any structure teaches none. Kernels of 3 taps hold few pairs: there it is advice.
    """
    network = subject.real.network
    first = _first(network)
    torch.manual_seed(subject.config.run.seed)
    before = _first(subject.predictor(subject.build(subject.config)).network)
    learned = (first.weight - before.weight).detach().double().cpu().numpy()  # (F, C, *kernel)
    axes = [axis for axis in range(2, learned.ndim) if learned.shape[axis] > 1]
    if not axes:
        raise NotApplicable("the first convolution looks at one pixel")
    pairs = [(learned.take(range(size - 1), axis), learned.take(range(1, size), axis)) for axis, size in _sizes(learned, axes)]
    product = sum(float((one * other).sum()) for one, other in pairs)
    square = sum(float((one**2).sum() + (other**2).sum()) / 2 for one, other in pairs)
    found = product / square if square else 0.0
    tiny = max(learned.shape[2:]) <= TINY_KERNEL
    measured = f"what filters learned correlates {found:.2f} from tap to tap{'; advice only: kernels are tiny' if tiny else ''}"
    shown = CheckPicture("The first filters, grey 0, each by its own largest weight.", to_png(filter_picture(network)))
    return CheckResult(found > STRUCTURE, measured, f"above {STRUCTURE:g}", (shown,), advisory=tiny)


def _first(network: Network) -> nn.Conv2d | nn.Conv3d:
    return next(module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))


def _sizes(array: Pixels, axes: Sequence[int]) -> list[tuple[int, int]]:
    return [(axis, array.shape[axis]) for axis in axes]
