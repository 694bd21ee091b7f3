"""Test-time augmentation: logits averaged over mirror images and quarter turns of a tile.

Source: Ciresan et al. 2013; the mirroring of nnU-Net (Isensee et al. 2021).
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from configs.inference_section import Average


@dataclass(frozen=True)
class Symmetry:
    """A quarter turn of the last two axes, followed by mirroring.

    Args:
        is_turned: whether the last two axes are turned by 90 degrees.
        flipped_axes: axes of the tensor that are mirrored after that, counted from the end.
    """

    is_turned: bool = False
    flipped_axes: tuple[int, ...] = ()

    def apply(self, tensor: Tensor) -> Tensor:
        """Return the transformed tensor (B, C, *S). A turn swaps the last two sizes."""
        return (tensor.rot90(1, (-2, -1)) if self.is_turned else tensor).flip(self.flipped_axes)

    def undo(self, tensor: Tensor) -> Tensor:
        """Return the tensor before `apply`."""
        tensor = tensor.flip(self.flipped_axes)
        return tensor.rot90(-1, (-2, -1)) if self.is_turned else tensor


@dataclass(frozen=True)
class LostPixels:
    """Pixels that a network loses along one axis, and the part of a tile that it reads when symmetries are averaged.

    With an even window, or a valid U-Net, the margins of an output differ, so that a mirrored pass needs other pixels for the
    same outputs. Such tiles are therefore read with the larger margin on both sides, and each pass takes its part of them.

    Args:
        before: pixels before the first output.
        after: pixels after the last output.
        stride: the number of a tile's outputs is a multiple of it.
        unused: outputs of the smallest legal input that go beyond such a multiple.
    """

    before: int
    after: int
    stride: int
    unused: int

    @classmethod
    def of(cls, margin: tuple[int, int], stride: int, legal_size: Callable[[int], int]) -> Self:
        """Return the lost pixels of a network with this margin, stride and rule for input sizes."""
        needed = stride + sum(margin)
        return cls(*margin, stride, legal_size(needed) - needed)

    @property
    def margin(self) -> int:
        """Number of pixels that are read on each side of a tile's outputs."""
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
    flips = [flip for count in range(len(axes) + 1) for flip in itertools.combinations(axes, count)]
    turns = (False, True) if average == "flips_and_turns" else (False,)
    return tuple(Symmetry(turn, flip) for turn in turns for flip in flips)


def mean_over(group: Sequence[Symmetry], function: Callable[[Tensor], Tensor], patches: Tensor) -> Tensor:
    """Return the mean of the function over the transformed patches, each result transformed back.

    One result is in memory at a time. Over a whole group of symmetries the mean is equivariant: mirroring the patches mirrors
    the mean.
    """
    total = group[0].undo(function(group[0].apply(patches)))
    for symmetry in group[1:]:
        total = total + symmetry.undo(function(symmetry.apply(patches)))
    return total / len(group)
