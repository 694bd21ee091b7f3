"""A config -> the learning rate that suits its network and its images: the range test of Smith (2017, arXiv:1506.01186)."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as lightning
import torch
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d

from configs.schema import Config
from evaluation.rendering import LIGHT, figure_to_png, style_axes
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import best_device
from models.architectures import build
from training.data.examination import make_sampler
from training.data.patch_dataset import PatchDataset
from training.data.splitting import split_cases
from training.data.stream import PatchStream
from training.errors import NumericError
from training.module import SegmentationModule
from training.optimization.precision import precision_of
from training.pretraining.warm_start import warm_start
from training.run import SPLITS
from training.torch_settings import lightning_quiet

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100  # rates rise by the same factor from step to step
SMOOTHING_STEPS = 3.0  # deviation of the Gaussian
RECENT = 3  # losses whose mean is twice the first one end the test
SHARE = 0.1  # of the rate where the loss is lowest: there it is about to rise


@dataclass(frozen=True)
class RateTest:
    """What the losses were at rising rates.

    Args:
        rates: one a step.
        losses: of each step, smoothed.
        suggestion: a rate to train at.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float


def find_rate(config: Config, on_progress: Callable[[object, int, int], None]) -> RateTest:
    """Trains for 100 steps at rates from 1e-6 to 1, on the run's own data and network; nothing is written.

    Args:
        config: the run's.
        on_progress: called with what is counted, how many are done, and how many there are.

    Raises:
        ConfigError: the config's weights to begin with can't be used, or the device has no such precision.
        DataError: the data can't be used.
        NumericError: the loss falls at none of the rates.
    """
    device = best_device()
    precision_of(config, device)  # refused before anything is read
    lightning.seed_everything(config.run.seed, verbose=False)
    tested = config.model_copy(update={"trainer": config.trainer.model_copy(update={"max_steps": STEPS})})
    splits = split_cases(config.data, config.run.seed, written=config.run.folder / config.run.name / SPLITS)
    sampler, statistics = make_sampler(splits, config)
    network = build(config)
    warm_start(network, config)
    module = SegmentationModule(make_predictor(config, network, sampler.class_prior, device), config, sampler.class_prior)
    stream = PatchStream(PatchDataset(splits.train, config, statistics), sampler, tested)
    ramp = RateRamp(on_progress)
    with lightning_quiet(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no `val_dataloader`.*")
        _trainer(config, device, ramp).fit(module, stream)
    return conclude(ramp.rates, ramp.losses)


def _trainer(config: Config, device: torch.device, ramp: "RateRamp") -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision=precision_of(config, device),
        max_steps=STEPS,
        accumulate_grad_batches=config.optimizer.accumulate,
        gradient_clip_val=config.optimizer.clip_norm,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
        callbacks=[ramp],
    )


class RateRamp(lightning.Callback):
    """Raises the rate before each step and notes the loss after it; stops the training once the loss runs away."""

    def __init__(self, on_progress: Callable[[object, int, int], None]) -> None:
        self.on_progress = on_progress
        self.rate = LOWEST
        self.rates: list[float] = []  # a batch
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """The share of a group, such as the encoder's, holds."""
        self.rate = float(LOWEST * (HIGHEST / LOWEST) ** (trainer.global_step / (STEPS - 1)))
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.rate * group["share"]

    def on_train_batch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule, outputs: Any, *__: Any) -> None:
        """A loss that is no number is the end, too."""
        loss = float(outputs["loss"]) if isinstance(outputs, Mapping) else math.nan
        if math.isfinite(loss):
            self.rates.append(self.rate)
            self.losses.append(loss)
        self.on_progress("rates", trainer.global_step, STEPS)
        recent = self.losses[-RECENT:]
        if not math.isfinite(loss) or sum(recent) / len(recent) > self.losses[0] + abs(self.losses[0]):
            trainer.should_stop = True


def conclude(rates: list[float], losses: list[float]) -> RateTest:
    """The smoothed curve, and a tenth of the rate where it is lowest.

    Source: the range test takes the highest rate at which the loss still falls for the largest of a cycle; that a tenth of
    the minimum is one to train at is Howard and Gugger's rule (2020, Deep Learning for Coders, chapter 5).

    Raises:
        NumericError: the curve is lowest at its beginning.
    """
    smooth = gaussian_filter1d(losses or [0.0], SMOOTHING_STEPS, mode="nearest")
    lowest = int(smooth.argmin())
    if lowest == 0:
        raise NumericError(
            f"the loss falls at no learning rate from {LOWEST:g} to {HIGHEST:g}; look at the data with overtile inspect, and "
            "at loss and normalise of the config"
        )
    return RateTest(tuple(rates), tuple(smooth.tolist()), rates[lowest] * SHARE)


def plot(test: RateTest) -> bytes:
    """PNG: the smoothed loss over the rate, and the suggestion."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    style_axes(axes, LIGHT)
    axes.semilogx(test.rates, test.losses, color=LIGHT.first, linewidth=2)
    axes.axvline(test.suggestion, color=LIGHT.second, linewidth=2)
    axes.annotate(
        f"{test.suggestion:.2g}", (test.suggestion, 1), (5, -12), xycoords=("data", "axes fraction"),
        textcoords="offset points", color=LIGHT.text,
    )  # fmt: skip
    axes.set_xlabel("optimizer.learning_rate", color=LIGHT.text)
    axes.set_title("Smoothed loss; bar: suggestion", fontsize=11, color=LIGHT.text, loc="left")
    axes.grid(color=LIGHT.line, linewidth=0.6)
    return figure_to_png(figure, dpi=120)
