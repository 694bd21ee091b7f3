"""Hard negatives: background that the network takes for foreground, which training then draws more often."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, cast

import numpy as np
import pytorch_lightning as lightning
import torch
from numpy.typing import NDArray

from configs.schema import Config
from datasets.cases import Case, prefix_errors
from datasets.references import class_masks
from inference.plan import plan_image
from inference.predictors.predictor import Predictor
from inference.segment import bands
from training.data.open_cases import Statistics, TrainingImage, open_case
from training.data.sampling import PIECE_PIXELS, PatchSampler

KEPT = 1_000  # a case
SMALLEST = 1e-6  # probability of background that counts; keeps the odds finite


class HardNegatives(lightning.Callback):
    """After a validation, looks for background of some training cases that the network calls foreground.

    Each round takes as many cases as a validation does, in an order drawn once, so that it costs about as much and every case
    gets its turn. What was found of a case stays until its next turn. Ciresan et al. 2013 (mitosis) mine once, with a first,
    small network.

    Args:
        cases: of training, as the sampler counts them.
        sampler: draws from what is found.
        config: the run's.
        statistics: of the cases, by their number.
        count: cases a round.
    """

    def __init__(
        self, cases: Sequence[Case], sampler: PatchSampler, config: Config, statistics: Mapping[int, Statistics], count: int
    ) -> None:
        self.cases = cases
        self.sampler = sampler
        self.config = config
        self.statistics = statistics
        self.count = min(count, len(cases))

    def on_validation_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """A round, before the checkpoint of this validation is written; nothing where no share of windows is wanted."""
        if self.config.sampling.hard_negative_share == 0:
            return
        for number in self._turn(trainer.global_step // self.config.trainer.validate_every_steps):
            case = self.cases[number]
            image = open_case(case, self.config, self.statistics.get(number))
            random = np.random.default_rng((self.config.run.seed, trainer.global_step, number))
            with closing(image), prefix_errors(case):
                found = mine(image, cast(Predictor, module.predictor), self.sampler.class_prior, case.ignore_label, random)
            self.sampler.keep_hard_negatives(number, found)

    def _turn(self, validation: int) -> list[int]:
        """Whose turn it is: the next cases in an order that depends on the seed."""
        order = np.random.default_rng(self.config.run.seed).permutation(len(self.cases)).tolist()
        return [order[(validation * self.count + place) % len(order)] for place in range(self.count)]

    def state_dict(self) -> dict[str, Any]:
        """What was found, (n, 2): case and position."""
        return {"hard_negatives": torch.from_numpy(self.sampler.hard_negatives)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self.sampler.hard_negatives = state["hard_negatives"].numpy()


def mine(
    image: TrainingImage,
    predictor: Predictor,
    class_prior: Sequence[float],
    ignore_label: int | None,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Positions (n,) of background that the network, as it was trained, holds for foreground, at most KEPT, in rising order.

    As it was trained: every class as likely as the next; with their true shares a rare class is hardly ever the likeliest
    one. Where there are more, those of which it is surer are likelier kept, in proportion to their odds (Efraimidis and
    Spirakis 2006, weighted sampling with a reservoir): the surest alone would be neighbours that look alike.
    """
    shift = np.reshape(predictor.head.shift(class_prior), (-1, *(1,) * len(image.image.shape)))
    keys, kept = np.empty(0), np.empty(0, np.int64)
    for first, logits, reference in _pieces(image, predictor):
        sure = 1 - predictor.head.probabilities(logits - shift)[0]  # (rows, *rest)
        background = next(class_masks(reference, len(class_prior), ignore_label))
        wrong = np.flatnonzero(background & (sure > 0.5))
        odds = sure.ravel()[wrong] / np.maximum(1 - sure.ravel()[wrong], SMALLEST)
        keys = np.concatenate([keys, random.standard_exponential(len(wrong)) / odds])
        kept = np.concatenate([kept, wrong + first])
        best = np.argsort(keys)[:KEPT]
        keys, kept = keys[best], kept[best]
    return np.sort(kept)


def _pieces(image: TrainingImage, predictor: Predictor) -> Iterator[tuple[int, NDArray[np.float32], NDArray[Any]]]:
    """Some rows at a time: the first pixel's position, logits (R, rows, *rest), reference (channels, rows, *rest)."""
    rest = image.image.shape[1:]
    at_a_time = max(1, PIECE_PIXELS // math.prod(rest))
    for band in bands(plan_image(image.image, predictor)):
        for row in range(0, band.logits.shape[1], at_a_time):
            logits, first = band.logits[:, row : row + at_a_time], band.start + row
            rows = slice(first, first + logits.shape[1])
            yield first * math.prod(rest), logits, image.labels.read((rows, *(slice(0, size) for size in rest)))
