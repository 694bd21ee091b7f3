"""A patch of a reference -> what the loss compares with, and how much each pixel counts."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.schema import Config
from training.losses import IGNORED


class Targets:
    """Turns references into tensors, by the config's head and loss."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, reference: NDArray[Any], inside: NDArray[np.bool_] | None = None) -> tuple[Tensor, Tensor]:
        """Reference and weights as a TrainingPatch holds them.

        Args:
            reference: (channels, *patch), as it was read and moved; most references have one channel.
            inside: (*patch), which pixels count; None: all.
        """
        labels = reference[0].astype(np.int64)
        if inside is not None:
            labels[~inside] = IGNORED
        if self.config.model.name == "sliding_window":
            labels = np.asarray(labels[tuple(size // 2 for size in labels.shape)])
        return torch.from_numpy(labels), torch.empty(0)
