"""Mirror images and quarter turns of a tile, whose logits are averaged (Ciresan et al. 2013; nnU-Net's mirroring)."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from configs.sections import Average


@dataclass(frozen=True)
class Symmetry:
    """First a quarter turn of the last two axes, then mirroring.

    Args:
        turned: whether the last axis becomes the last but one.
        flipped: axes of the tensor that are mirrored after that, counted from the end.
    """

    turned: bool = False
    flipped: tuple[int, ...] = ()

    def of(self, tensor: Tensor) -> Tensor:
        """(B, C, *S) moved; a turn swaps the last two sizes."""
        return (tensor.rot90(1, (-2, -1)) if self.turned else tensor).flip(self.flipped)

    def undo(self, tensor: Tensor) -> Tensor:
        """What `of` moved, back where it was."""
        tensor = tensor.flip(self.flipped)
        return tensor.rot90(-1, (-2, -1)) if self.turned else tensor


@dataclass(frozen=True)
class Loss:
    """What a network loses along one axis, and what of a tile it sees when symmetries are averaged.

    An even window, and the legal sizes of a valid U-Net, lie askew about the outputs; mirrored, the same outputs need other
    pixels. So tiles are then read alike on both sides, as far as either way of lying asks for, and each pass takes its part.

    Args:
        before: pixels that lie before the first output.
        after: pixels that lie after the last one.
        stride: the outputs of a tile are as many as that, or a multiple.
        unused: outputs that the smallest legal input has beyond such a multiple.
    """

    before: int
    after: int
    stride: int
    unused: int

    @classmethod
    def of(cls, margin: tuple[int, int], stride: int, legal_size: Callable[[int], int]) -> Self:
        """The loss of a network that takes these sizes."""
        needed = stride + sum(margin)
        return cls(*margin, stride, legal_size(needed) - needed)

    @property
    def margin(self) -> int:
        """Pixels that are read at either side of a tile's outputs."""
        return max(self.before, self.after + self.unused)

    def seen(self, side: int) -> slice:
        """The pixels that go into the network, of a tile of `side` pixels."""
        return slice(self.margin - self.before, side - self.margin + self.after + self.unused)

    def kept(self, side: int) -> slice:
        """The outputs that lie within the margins of that tile."""
        return slice(0, side - 2 * self.margin)


def symmetries(average: Average, dimensions: int) -> tuple[Symmetry, ...]:
    """One for `none`, 2^dimensions for `flips`, twice as many for `flips_and_turns`; the first leaves all as it is."""
    axes = range(-dimensions, 0) if average != "none" else ()
    flips = [flipped for count in range(len(axes) + 1) for flipped in itertools.combinations(axes, count)]
    turns = (False, True) if average == "flips_and_turns" else (False,)
    return tuple(Symmetry(turned, flipped) for turned in turns for flipped in flips)


def mean_over(chosen: Sequence[Symmetry], function: Callable[[Tensor], Tensor], patches: Tensor) -> Tensor:
    """The mean of the function's values over the moved patches, each moved back; one is in memory at a time.

    Over a whole group of symmetries it moves along with the patches: that of a mirrored patch is the mean mirrored.
    """
    total = chosen[0].undo(function(chosen[0].of(patches)))
    for symmetry in chosen[1:]:
        total = total + symmetry.undo(function(symmetry.of(patches)))
    return total / len(chosen)
