"""Test-time augmentation: logits averaged over mirror images and quarter turns of a tile.

Source: Ciresan et al. 2013; the mirroring of nnU-Net (Isensee et al. 2021).
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from configs.sections import Average


@dataclass(frozen=True)
class Symmetry:
    """A quarter turn of the last two axes, followed by mirroring.

    Args:
        turned: whether the last axis becomes the last but one.
        flipped: axes of the tensor that are mirrored after that, counted from the end.
    """

    turned: bool = False
    flipped: tuple[int, ...] = ()

    def apply(self, tensor: Tensor) -> Tensor:
        """Return (B, C, *S) transformed; a turn swaps the last two sizes."""
        return (tensor.rot90(1, (-2, -1)) if self.turned else tensor).flip(self.flipped)

    def undo(self, tensor: Tensor) -> Tensor:
        """Return the tensor that `apply` transformed."""
        tensor = tensor.flip(self.flipped)
        return tensor.rot90(-1, (-2, -1)) if self.turned else tensor


@dataclass(frozen=True)
class LostPixels:
    """Pixels that a network loses along one axis, and the part of a tile that it reads when symmetries are averaged.

    An even window, and the legal sizes of a valid U-Net, lie asymmetrically about the outputs; mirrored, the same outputs
    need other pixels. Averaged tiles are therefore read with the larger margin on both sides, and each pass takes its part.

    Args:
        before: pixels before the first output.
        after: pixels after the last output.
        stride: the number of a tile's outputs is a multiple of it.
        unused: outputs of the smallest legal input beyond such a multiple.
    """

    before: int
    after: int
    stride: int
    unused: int

    @classmethod
    def of(cls, margin: tuple[int, int], stride: int, legal_size: Callable[[int], int]) -> Self:
        """Return the lost pixels of a network that takes these sizes."""
        needed = stride + sum(margin)
        return cls(*margin, stride, legal_size(needed) - needed)

    @property
    def margin(self) -> int:
        """Pixels that are read at each side of a tile's outputs."""
        return max(self.before, self.after + self.unused)

    def input_part(self, side: int) -> slice:
        """Return the pixels of a tile of `side` pixels that go into the network."""
        return slice(self.margin - self.before, side - self.margin + self.after + self.unused)

    def output_part(self, side: int) -> slice:
        """Return the outputs that lie within the margins of that tile."""
        return slice(0, side - 2 * self.margin)


def symmetries(average: Average, dimensions: int) -> tuple[Symmetry, ...]:
    """Return 1 symmetry for `none`, 2^dimensions for `flips`, twice as many for `flips_and_turns`; the identity is first."""
    axes = range(-dimensions, 0) if average != "none" else ()
    flips = [flipped for count in range(len(axes) + 1) for flipped in itertools.combinations(axes, count)]
    turns = (False, True) if average == "flips_and_turns" else (False,)
    return tuple(Symmetry(turned, flipped) for turned in turns for flipped in flips)


def mean_over(averaged: Sequence[Symmetry], function: Callable[[Tensor], Tensor], patches: Tensor) -> Tensor:
    """Return the mean of the function over the transformed patches, each transformed back; one is in memory at a time.

    Over a whole group of symmetries the mean is equivariant: that of a mirrored patch is the mirrored mean.
    """
    total = averaged[0].undo(function(averaged[0].apply(patches)))
    for symmetry in averaged[1:]:
        total = total + symmetry.undo(function(symmetry.apply(patches)))
    return total / len(averaged)
