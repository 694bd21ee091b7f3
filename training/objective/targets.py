"""Targets: a patch of a reference -> what the loss compares outputs with, and the weight of each pixel."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.schema import Config
from models.heads import make_head
from training.objective.border_weights import border_weights, number_components
from training.objective.encodings import IGNORED


class Targets:
    """Converts references to tensors, as the config's head and loss define.

    Labels are int64: (*patch), or (K - 1, *patch) zeros and ones of classes that overlap; IGNORED pixels don't count. Values
    are float32; NaN doesn't count. The sliding window's targets are those of the window's centre.
    """

    def __init__(self, config: Config) -> None:
        self.data = config.data
        self.border = config.loss.border_weight, config.loss.border_sigma_px
        self.gives_values = make_head(config).gives_values
        self.overlapping = config.head.kind == "multi_label"
        self.window = config.model.name == "sliding_window"

    def __call__(self, reference: NDArray[Any], inside: NDArray[np.bool_] | None = None) -> tuple[Tensor, Tensor]:
        """Return reference and weights as a TrainingPatch holds them.

        Args:
            reference: (channels, *patch), as read and augmented; most references have one channel.
            inside: (*patch), which pixels lie inside the image; None: all.
        """
        ignored = np.zeros(reference.shape, bool) if self.data.ignore_index is None else reference == self.data.ignore_index
        excluded = ignored if inside is None else ignored | ~inside
        if self.gives_values:
            target = reference.astype(np.float32)
            target[excluded] = np.nan
        else:
            target = (reference > 0 if self.data.instances else reference).astype(np.int64)
            target[excluded] = IGNORED
        if not self.overlapping:
            target = target[0]
        weights = np.empty(0, np.float32)
        if self.border[0] > 0:
            labels = np.where(ignored, 0, reference)[0]
            objects = labels if self.data.instances else number_components(labels, range(1, len(self.data.classes)))
            weights = border_weights(objects, *self.border)
        if self.window:
            centre = tuple(size // 2 for size in reference.shape[1:])
            target, weights = target[(..., *centre)], weights[centre] if weights.ndim > 1 else weights
        return torch.from_numpy(np.array(target)), torch.from_numpy(np.array(weights))


def empty_targets(config: Config, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return reference and weights of a batch with the right shapes and types, but without contents."""
    batch = (config.trainer.batch_size,)
    patch = () if config.model.name == "sliding_window" else config.patch_size
    classes = (len(config.data.classes) - 1,) if config.head.kind == "multi_label" else ()
    dtype = torch.float32 if make_head(config).gives_values else torch.int64
    weights = (*batch, *patch) if config.loss.border_weight > 0 else (*batch, 0)
    return torch.empty(*batch, *classes, *patch, dtype=dtype, device=device), torch.empty(weights, device=device)
