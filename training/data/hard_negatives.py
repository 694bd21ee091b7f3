"""Hard negatives: background that the network predicts as foreground, and which training then samples more often."""

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
from training.data.open_cases import ImageStatistics, TrainingImage, open_training_image
from training.data.sampling import PIECE_PIXELS, PatchSampler

MOST_PER_CASE = 1_000
SMALLEST_PROBABILITY = 1e-6  # of background; keeps the odds finite


class HardNegatives(lightning.Callback):
    """Mines hard negatives in some of the training cases after each validation.

    Each round mines as many cases as a validation has, in an order drawn once, so that it takes about as long as a validation
    and mines all cases in turn. A case's hard negatives stay until it is mined again. Ciresan et al. 2013 (mitosis) mine
    once, with a first, small network.

    Args:
        cases: the training cases, in the order of their numbers.
        sampler: draws from the hard negatives.
        config: the run's.
        statistics: of the images, by the number of the case.
        count: cases in a round.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        sampler: PatchSampler,
        config: Config,
        statistics: Mapping[int, ImageStatistics],
        count: int,
    ) -> None:
        self.cases = cases
        self.sampler = sampler
        self.config = config
        self.statistics = statistics
        self.count = min(count, len(cases))

    def on_validation_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Mine the cases of this round, unless `sampling.hard_negative_share` is 0."""
        if self.config.sampling.hard_negative_share == 0:
            return
        order = np.random.default_rng(self.config.run.seed).permutation(len(self.cases)).tolist()
        first = trainer.global_step // self.config.trainer.validate_every_steps * self.count
        for place in range(first, first + self.count):
            number = order[place % len(order)]
            case = self.cases[number]
            image = open_training_image(case, self.config, self.statistics.get(number))
            random = np.random.default_rng((self.config.run.seed, trainer.global_step, number))
            with closing(image), prefix_errors(case):
                positions = mine_hard_negatives(
                    image, cast(Predictor, module.predictor), self.sampler.class_prior, case.ignore_label, random
                )
            self.sampler.set_hard_negatives(number, positions)

    def state_dict(self) -> dict[str, Any]:
        """Return the hard negatives (n, 2): number of the case, and position."""
        return {"hard_negatives": torch.from_numpy(self.sampler.hard_negatives)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the hard negatives."""
        self.sampler.hard_negatives = state["hard_negatives"].numpy()


def mine_hard_negatives(
    image: TrainingImage,
    predictor: Predictor,
    class_prior: Sequence[float],
    ignore_label: int | None,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Return positions (n,) of background that the network predicts as foreground, at most MOST_PER_CASE, in rising order.

    Predictions assume equally likely classes, as in training; with their true frequencies a rare class is hardly ever the
    most likely one. If there are too many positions, they are sampled in proportion to the odds of foreground (Efraimidis and
    Spirakis 2006, weighted sampling with a reservoir): those with the highest odds alone would be similar neighbours.
    """
    shift = np.reshape(predictor.head.shift(class_prior), (-1, *(1,) * len(image.image.shape)))
    keys, positions = np.empty(0), np.empty(0, np.int64)
    for first, logits, reference in _predicted_rows(image, predictor):
        foreground = 1 - predictor.head.probabilities(logits - shift)[0]  # (rows, *rest)
        background = next(class_masks(reference, len(class_prior), ignore_label))
        wrong = np.flatnonzero(background & (foreground > 0.5))
        odds = foreground.ravel()[wrong] / np.maximum(1 - foreground.ravel()[wrong], SMALLEST_PROBABILITY)
        keys = np.concatenate([keys, random.standard_exponential(len(wrong)) / odds])
        positions = np.concatenate([positions, wrong + first])
        smallest = np.argsort(keys)[:MOST_PER_CASE]
        keys, positions = keys[smallest], positions[smallest]
    return np.sort(positions)


def _predicted_rows(image: TrainingImage, predictor: Predictor) -> Iterator[tuple[int, NDArray[np.float32], NDArray[Any]]]:
    """Yield, for a few rows at a time, the first position, logits (R, rows, *rest) and reference (channels, rows, *rest)."""
    rest = image.image.shape[1:]
    rows_per_piece = max(1, PIECE_PIXELS // math.prod(rest))
    for band in bands(plan_image(image.image, predictor)):
        for row in range(0, band.logits.shape[1], rows_per_piece):
            logits, first = band.logits[:, row : row + rows_per_piece], band.start + row
            rows = slice(first, first + logits.shape[1])
            yield first * math.prod(rest), logits, image.labels.read((rows, *(slice(0, size) for size in rest)))
