"""A patch of a reference -> what the loss compares with, and how much each pixel counts."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.schema import Config
from models.heads import make_head
from training.objective.border_weights import border_weights, number_components
from training.objective.losses import IGNORED

Pixels = NDArray[Any]


class Targets:
    """Turns references into tensors, by the config's head and loss.

    Labels are int64, where IGNORED stands for what doesn't count: (*patch), or (K - 1, *patch) zeros and ones of classes that
    overlap. Values are float32, where NaN does. The sliding window's are those of the window's centre.
    """

    def __init__(self, config: Config) -> None:
        self.data = config.data
        self.border = config.loss.border_weight, config.loss.border_sigma_px
        self.gives_values = make_head(config).gives_values
        self.overlapping = config.head.kind == "multi_label"
        self.window = config.model.name == "sliding_window"

    def __call__(self, reference: Pixels, inside: NDArray[np.bool_] | None = None) -> tuple[Tensor, Tensor]:
        """Reference and weights as a TrainingPatch holds them.

        Args:
            reference: (channels, *patch), as it was read and moved; most references have one channel.
            inside: (*patch), which pixels count; None: all.
        """
        ignored = np.zeros(reference.shape, bool) if self.data.ignore_label is None else reference == self.data.ignore_label
        target = self._values(reference, ignored, inside) if self.gives_values else self._labels(reference, ignored, inside)
        if not self.overlapping:
            target = target[0]
        weights = np.empty(0, np.float32)
        if self.border[0] > 0:
            weights = border_weights(self._objects(np.where(ignored, 0, reference)[0]), *self.border)
        if self.window:
            centre = tuple(size // 2 for size in reference.shape[1:])
            target, weights = target[(..., *centre)], weights[centre] if weights.ndim > 1 else weights
        return torch.from_numpy(np.array(target)), torch.from_numpy(np.array(weights))

    def _values(self, reference: Pixels, ignored: Pixels, inside: Pixels | None) -> Pixels:
        values = reference.astype(np.float32)
        values[ignored if inside is None else ignored | ~inside] = np.nan
        return values

    def _labels(self, reference: Pixels, ignored: Pixels, inside: Pixels | None) -> Pixels:
        labels = (reference > 0 if self.data.instances else reference).astype(np.int64)
        labels[ignored if inside is None else ignored | ~inside] = IGNORED
        return labels

    def _objects(self, reference: Pixels) -> Pixels:
        """Their numbers (*patch): the reference's own, or those of the classes' connected pieces."""
        if self.data.instances:
            return reference
        return number_components(reference, range(1, len(self.data.classes)))


def empty_targets(config: Config, device: torch.device) -> tuple[Tensor, Tensor]:
    """Reference and weights of a batch, of their sizes and types but without contents."""
    batch = (config.trainer.batch_size,)
    patch = () if config.model.name == "sliding_window" else config.patch_size
    classes = (len(config.data.classes) - 1,) if config.head.kind == "multi_label" else ()
    dtype = torch.float32 if make_head(config).gives_values else torch.int64
    weights = (*batch, *patch) if config.loss.border_weight > 0 else (*batch, 0)
    return torch.empty(*batch, *classes, *patch, dtype=dtype, device=device), torch.empty(weights, device=device)
