"""A U-Net along one axis: which inputs it takes, and how far it looks; by this arithmetic tiles are exact."""

import itertools
import math
import operator
from dataclasses import dataclass


@dataclass(frozen=True)
class UNetAxis:
    """What a U-Net is made of along one axis. Levels count from the finest, 0, to the bottom.

    Args:
        kernels: one a level, odd.
        strides: one a step down, and the same up.
        encoder: convolutions, one number a level.
        decoder: convolutions, one number a level, without the bottom.
        valid: convolutions lose their border; else they keep the size.
        strided: a level's first convolution takes the step down; else a max-pool before it.
        residual: a mean over the stride goes past the strided convolution.
        linear: the step up interpolates; else it is a transposed convolution as wide as its stride.
    """

    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    valid: bool
    strided: bool
    residual: bool
    linear: bool

    @property
    def stride(self) -> int:
        """The network commutes with shifts by this many pixels: the product of its steps."""
        return math.prod(self.strides)

    @property
    def context_px(self) -> int:
        """How far a block of `stride` outputs, aligned to the stride, looks to the side where it looks farther.

        For a valid network, what it loses at each side: 92 in the original, where two 3-wide convolutions a level, down and
        up, and two at the bottom lose 1 pixel of their level each. With same padding it is 2 more there, since the pools'
        pairs lie between those of the valid network.
        """
        if self.valid:
            return self._lost_px
        first, last = self._decoder_sees(0, 0, self.stride - 1)
        return max(-first, last - (self.stride - 1))

    def legal_size(self, at_least: int) -> int:
        """The smallest input side of at least this many pixels that every step divides and that leaves an output."""
        if not self.valid:
            return max(-(-at_least // self.stride), 1) * self.stride
        at_least = max(at_least, 2 * self._lost_px + 1)
        return at_least + (2 * self._lost_by_encoder_px - at_least) % self.stride  # 16k + 60 in the original

    @property
    def _scales(self) -> list[int]:
        """Pixels of the image that lie between two of each level."""
        return list(itertools.accumulate(self.strides, operator.mul, initial=1))

    @property
    def _lost_by_encoder_px(self) -> int:
        return sum(map(math.prod, zip(self._scales, self.encoder, (kernel // 2 for kernel in self.kernels), strict=True)))

    @property
    def _lost_px(self) -> int:
        """At each side; of what is interpolated, the pixels that lie beyond the outermost centre of the level below."""
        lost = self._lost_by_encoder_px
        for scale, convolutions, kernel, stride in zip(self._scales, self.decoder, self.kernels, self.strides, strict=False):
            lost += scale * (convolutions * (kernel // 2) + (stride // 2 if self.linear else 0))
        return lost

    def _decoder_sees(self, level: int, first: int, last: int) -> tuple[int, int]:
        """The first and last pixel of the image that the decoder's `first` .. `last` of a level look at, with same padding."""
        if level == len(self.strides):
            return self._encoder_sees(level, first, last)
        reach = self.decoder[level] * (self.kernels[level] // 2)
        first, last = first - reach, last + reach
        skip = self._encoder_sees(level, first, last)
        below = self._decoder_sees(level + 1, *self._up_sees(self.strides[level], first, last))
        return min(skip[0], below[0]), max(skip[1], below[1])

    def _up_sees(self, stride: int, first: int, last: int) -> tuple[int, int]:
        """In the level below. The centre of pixel i lies at (2i + 1) / (2 * stride) - 1/2 there, which linear mixes from."""
        if not self.linear:
            return first // stride, last // stride
        return (2 * first + 1 - stride) // (2 * stride), -(-(2 * last + 1 - stride) // (2 * stride))

    def _encoder_sees(self, level: int, first: int, last: int) -> tuple[int, int]:
        strided = self.strided and level > 0
        half = self.kernels[level] // 2
        reach = (self.encoder[level] - strided) * half
        first, last = first - reach, last + reach
        if level == 0:
            return first, last
        stride = self.strides[level - 1]
        pooled = not strided or (self.residual and half == 0)  # a wider convolution looks farther than the mean past it
        before, after = (0, stride - 1) if pooled else (half, half)
        return self._encoder_sees(level - 1, first * stride - before, last * stride + after)
