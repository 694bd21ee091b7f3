"""The predictor's interface: a bundle's network as a function from patches to logits, and the tiles that it takes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.schema import Config
from inference.predictors.runtime import TORCH, Pass
from inference.tiling.grid import Axis, Grid, losing_axis
from inference.tiling.memory_budget import MemoryBudget
from inference.tiling.stitch import gaussian_weights
from inference.tiling.test_time_augmentation import LostPixels, Symmetry, mean_over
from models.architectures import Network
from models.head import Head
from models.image_label_heads import MapClassifier

DEFAULT_TILE_SIZE = {2: 512, 3: 96}


@dataclass(frozen=True, eq=False, kw_only=True)
class Predictor(ABC):
    """A bundle's network as a function from patches to logits. It is immutable; `dataclasses.replace` makes variants.

    Args:
        config: config of the run.
        network: network on `device`, in evaluation mode unless it is being trained.
        device: device that the network runs on.
        head: meaning of the network's outputs.
        run: pass of the network, (B, C, *S) -> (B, R, *S'); a runtime replaces it.
        symmetries: transformations that the logits are averaged over.
        runtime: name of the runtime that executes the network.
        memory_budget: memory that an image may take; None: tiles have the config's size, or a default one.
        identity: text that identifies the bundle and its runtime; equal identities have equal outputs.
        classifiers: networks that predict an image's label from the map of its probabilities; empty without such a label.
    """

    config: Config
    network: Network
    device: torch.device
    head: Head
    run: Pass
    symmetries: tuple[Symmetry, ...] = (Symmetry(),)
    runtime: str = TORCH
    memory_budget: MemoryBudget | None = None
    identity: str = ""
    classifiers: tuple[MapClassifier, ...] = ()

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits (B, R, *S') of normalised patches (B, C, *S), or (B, R + L, *S') with the L of an image label."""
        with torch.inference_mode():
            logits = self.averaged(torch.from_numpy(patches).to(self.device))
        result: NDArray[np.float32] = logits.float().cpu().numpy()
        return result

    @property
    def members(self) -> "tuple[Predictor, ...]":
        """Predictor of each network."""
        return (self,)

    def with_passes(self, load: Callable[[Pass], Pass]) -> Self:
        """Return a variant in which each network has the pass that `load` returns for it, for example that of a runtime."""
        return replace(self, run=load(self.run))

    def with_memory_share(self, process_bytes: int, shares: int, most_side_px: int | None = None) -> Self:
        """Return a variant whose images take one of `shares` equal parts of the memory that the process leaves free.

        Args:
            process_bytes: memory of the process, with everything loaded.
            shares: images or networks of an ensemble that are processed together.
            most_side_px: largest side of a tile; None: unlimited.
        """
        if self.memory_budget is None:
            return self
        budget = replace(self.memory_budget, process_bytes=process_bytes, shares=shares, most_side_px=most_side_px)
        return replace(self, memory_budget=budget)

    @property
    @abstractmethod
    def margin(self) -> tuple[int, int]:
        """Pixels between a tile's border and its output, before and after, on the axis with the largest margin."""

    @cached_property
    def lost_pixels(self) -> tuple[LostPixels, ...]:
        """Pixels that the network loses along each axis; empty if its output is as large as its input."""
        return ()

    @property
    def is_fixed(self) -> bool:
        """True if a pass consists of the same operations for every tile of one size, so that it can be compiled."""
        return True

    @property
    def blends(self) -> bool:
        """True if outputs depend on the tile, so that tiles overlap and are averaged; otherwise tiles are exact."""
        return False

    @property
    def predicts_image_label(self) -> bool:
        """True if the network itself, or a classifier of its map, predicts a label of the whole image."""
        return bool(self.classifiers) or self.network.label_head is not None

    def averaged(self, patches: Tensor) -> Tensor:
        """Return the mean logits (B, R, *S') over the symmetries, of patches (B, C, *S) of the grid's tile size."""
        return self.one_pass(patches) if len(self.symmetries) == 1 else mean_over(self.symmetries, self.one_pass, patches)

    def one_pass(self, patches: Tensor) -> Tensor:
        """Return the logits of one of the passes that are averaged. Each takes its part of the patches, see `LostPixels`."""
        if len(self.symmetries) == 1 or not self.lost_pixels:
            return self.logits(patches)
        sides, every = list(zip(self.lost_pixels, patches.shape[2:], strict=True)), slice(None)
        logits = self.logits(patches[(every, every, *(lost.input_part(side) for lost, side in sides))])
        return logits[(every, every, *(lost.output_part(side) for lost, side in sides))]

    def grid(self, shape: Sequence[int], tile_size: tuple[int, ...] | None = None) -> Grid:
        """Return the tiles of an image of this shape.

        Args:
            shape: (*S) of the image, on the grid that the network was trained at.
            tile_size: largest tile; None takes the config's. If that is None too, exact tiles get the size with the least work
                within the memory budget, and blended ones a default size.
        """
        limits = tile_size or self.config.inference.tile_size
        if limits is None and self.memory_budget and not self.blends:
            return self.memory_budget.best_grid(tuple(shape), self.axis)
        limits = limits or (DEFAULT_TILE_SIZE[len(shape)],) * len(shape)
        return Grid(tuple(self.axis(number, *sizes) for number, sizes in enumerate(zip(shape, limits, strict=True))))

    def weights(self, grid: Grid) -> NDArray[np.float32] | None:
        """Return the weights (*tile) of a tile's pixels where tiles are blended; None if they lie side by side."""
        return gaussian_weights(grid.tile_size) if self.blends else None

    @abstractmethod
    def logits(self, patches: Tensor) -> Tensor:
        """Return the logits (B, R, *S') of patches (B, C, *S), both on the device, from a single pass."""

    @abstractmethod
    def axis(self, number: int, size: int, tile_size: int) -> Axis:
        """Return the tiles along axis `number`, which has `size` pixels, of at most `tile_size` pixels each."""

    def losing_axis(self, number: int, size: int, tile_size: int, legal_size: Callable[[int], int]) -> Axis:
        """Return the tiles along an axis on which the network loses pixels; with equal margins if symmetries are averaged."""
        lost = self.lost_pixels[number]
        if len(self.symmetries) == 1:
            return losing_axis(size, tile_size, (lost.before, lost.after), lost.stride, legal_size)
        return losing_axis(size, tile_size, (lost.margin, lost.margin), lost.stride, lambda at_least: at_least)


def best_device() -> torch.device:
    """Return the CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
