"""Predictor of several networks of one config, such as a run's folds: it gives their mean logits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from torch import Tensor

from inference.predictors.predictor import Predictor
from inference.predictors.runtime import Pass
from inference.tiling.grid import Axis
from inference.tiling.test_time_augmentation import LostPixels


@dataclass(frozen=True, eq=False, kw_only=True)
class MeanPredictor(Predictor):
    """Predictor of the mean logits of several networks.

    The networks share the grid and the normalised patches, and the activations of one are in memory at a time. `network` and
    `run` are those of the first.

    Args:
        single_predictors: predictor of each network; they differ in weights and class prior only.
    """

    single_predictors: tuple[Predictor, ...]

    @classmethod
    def of(cls, members: Sequence[Predictor]) -> Self:
        """Return the predictor of the mean of these."""
        first = members[0]
        return cls(
            config=first.config,
            network=first.network,
            device=first.device,
            head=first.head,
            run=first.run,
            symmetries=first.symmetries,
            single_predictors=tuple(members),
        )

    @property
    def members(self) -> tuple[Predictor, ...]:
        """Predictor of each network."""
        return self.single_predictors

    def with_passes(self, load: Callable[[Pass], Pass]) -> Self:
        """Return a variant in which each network has the pass that `load` returns for it."""
        members = tuple(member.with_passes(load) for member in self.members)
        return replace(self, run=members[0].run, single_predictors=members)

    @property
    def margin(self) -> tuple[int, int]:
        """Margin of the members."""
        return self.members[0].margin

    @cached_property
    def lost_pixels(self) -> tuple[LostPixels, ...]:
        """Lost pixels of the members."""
        return self.members[0].lost_pixels

    @property
    def is_fixed(self) -> bool:
        """True if the members' passes can be compiled."""
        return self.members[0].is_fixed

    @property
    def blends(self) -> bool:
        """True if the members' tiles are blended."""
        return self.members[0].blends

    def logits(self, patches: Tensor) -> Tensor:
        """Return the mean of the members' logits in float32."""
        total = self.members[0].logits(patches).float()
        for member in self.members[1:]:
            total = total + member.logits(patches)
        return total / len(self.members)

    def axis(self, number: int, size: int, tile_size: int) -> Axis:
        """Return the members' tiles along an axis."""
        return self.members[0].axis(number, size, tile_size)
