"""Learning rate range test of Smith (2017, arXiv:1506.01186): finds a learning rate for a config's network and images."""

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
from evaluation.plots import figure_to_png, style_axes
from evaluation.rendering import LIGHT
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import best_device
from models.architectures import build
from training.data.examination import make_sampler
from training.data.patch_dataset import PatchDataset
from training.data.splitting import SPLITS_FILE, split_cases
from training.data.stream import PatchStream
from training.errors import NumericError
from training.module import SegmentationModule
from training.optimization.precision import precision_of
from training.pretraining.warm_start import warm_start
from training.torch_settings import quiet_lightning

LOWEST_RATE, HIGHEST_RATE, STEPS = 1e-6, 1.0, 100  # rates rise by the same factor at each step
SMOOTHING_STEPS = 3.0  # standard deviation of the Gaussian
RECENT = 3  # last losses; the test ends when their mean is twice the first loss
SUGGESTED_FRACTION = 0.1  # of the rate with the lowest loss, above which the loss rises


@dataclass(frozen=True)
class RateTest:
    """The result of a range test.

    Args:
        rates: of each batch, rising.
        losses: of each batch, smoothed.
        suggestion: the learning rate to train with.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float


def find_rate(config: Config, on_progress: Callable[[object, int, int], None]) -> RateTest:
    """Train for 100 steps at rates from 1e-6 to 1, with the run's own data and network; nothing is written.

    Args:
        config: the run's.
        on_progress: called with a name of what is counted, the number completed, and the total.

    Raises:
        ConfigError: the config's weights for a warm start can't be used, or the device lacks the precision.
        DataError: the data can't be used.
        NumericError: the loss falls at none of the rates.
    """
    device = best_device()
    precision_of(config, device)  # raises before any case is read
    lightning.seed_everything(config.run.seed, verbose=False)
    short_config = config.model_copy(update={"trainer": config.trainer.model_copy(update={"max_steps": STEPS})})
    splits = split_cases(config.data, config.run.seed, splits_file=config.run.folder / config.run.name / SPLITS_FILE)
    sampler, statistics = make_sampler(splits, config)
    network = build(config)
    warm_start(network, config)
    module = SegmentationModule(make_predictor(config, network, sampler.class_prior, device), config, sampler.class_prior)
    stream = PatchStream(PatchDataset(splits.train, config, statistics), sampler, short_config)
    ramp = RateRamp(on_progress)
    with quiet_lightning(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no `val_dataloader`.*")
        _make_trainer(config, device, ramp).fit(module, stream)
    return suggest_rate(ramp.rates, ramp.losses)


def _make_trainer(config: Config, device: torch.device, ramp: "RateRamp") -> lightning.Trainer:
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
    """Raises the rate before each step and records the loss after it; ends the training once the loss diverges."""

    def __init__(self, on_progress: Callable[[object, int, int], None]) -> None:
        self.on_progress = on_progress
        self.rate = LOWEST_RATE
        self.rates: list[float] = []  # of each batch
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Set the rate of each group of weights, times the group's share of the rate."""
        self.rate = float(LOWEST_RATE * (HIGHEST_RATE / LOWEST_RATE) ** (trainer.global_step / (STEPS - 1)))
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.rate * group["share"]

    def on_train_batch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule, outputs: Any, *__: Any) -> None:
        """Record the loss; end the training if it diverges or is NaN or infinite."""
        loss = float(outputs["loss"]) if isinstance(outputs, Mapping) else math.nan
        if math.isfinite(loss):
            self.rates.append(self.rate)
            self.losses.append(loss)
        self.on_progress("rates", trainer.global_step, STEPS)
        recent = self.losses[-RECENT:]
        if not math.isfinite(loss) or sum(recent) / len(recent) > self.losses[0] + abs(self.losses[0]):
            trainer.should_stop = True


def suggest_rate(rates: list[float], losses: list[float]) -> RateTest:
    """Smooth the losses, and suggest a tenth of the rate at which they are lowest.

    Source: Smith's range test finds the highest rate at which the loss still falls, the upper bound of a cycle; a tenth of the
    rate with the lowest loss is the rule of Howard and Gugger (2020, Deep Learning for Coders, chapter 5).

    Raises:
        NumericError: the loss is lowest at its beginning.
    """
    smooth = gaussian_filter1d(losses or [0.0], SMOOTHING_STEPS, mode="nearest")
    lowest = int(smooth.argmin())
    if lowest == 0:
        raise NumericError(
            f"the loss falls at no learning rate from {LOWEST_RATE:g} to {HIGHEST_RATE:g}; check the data with "
            "overtile inspect, and loss and normalise in the config"
        )
    return RateTest(tuple(rates), tuple(smooth.tolist()), rates[lowest] * SUGGESTED_FRACTION)


def plot_rate_test(test: RateTest) -> bytes:
    """Draw a PNG of the smoothed loss over the rate, with a bar at the suggestion."""
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
