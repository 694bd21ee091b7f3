"""Arithmetic of a U-Net along one axis: legal input sizes, stride and context. It makes tiles exact."""

import itertools
import math
import operator
from dataclasses import dataclass


@dataclass(frozen=True)
class UNetAxis:
    """Layers of a U-Net along one axis. Levels count from the finest, 0, to the bottom.

    Args:
        kernels: kernel size of each level, odd.
        strides: stride of each step down, and of the same step up.
        encoder: number of the encoder's convolutions at each level.
        decoder: number of the decoder's convolutions at each level except the bottom.
        valid: whether convolutions crop their border; otherwise they keep the size.
        strided: whether a level's first convolution takes the step down; otherwise a max-pool does before it.
        residual: whether a shortcut with an average pool runs beside the strided convolution.
        linear: whether the step up interpolates; otherwise it is a transposed convolution as wide as its stride.
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
        """Product of all steps: shifting the input by this many pixels shifts the output by as many."""
        return math.prod(self.strides)

    @property
    def context_px(self) -> int:
        """Pixels that an aligned block of `stride` outputs depends on beyond itself, on the side where they are more.

        For a valid network it is what each side loses: 92 in the original, where two 3-wide convolutions per level, down and
        up, and two at the bottom lose 1 pixel of their level each. With same padding it is 2 more there, since the pools'
        pairs lie between those of the valid network.
        """
        if self.valid:
            return self._lost_px
        first, last = self._decoder_field(0, 0, self.stride - 1)
        return max(-first, last - (self.stride - 1))

    def legal_size(self, at_least: int) -> int:
        """Return the smallest input size of at least so many pixels that every step divides and that leaves an output."""
        if not self.valid:
            return max(-(-at_least // self.stride), 1) * self.stride
        at_least = max(at_least, 2 * self._lost_px + 1)
        return at_least + (2 * self._lost_by_encoder_px - at_least) % self.stride  # 16k + 60 in the original

    @property
    def _scales(self) -> list[int]:
        """Size of each level's pixels in pixels of the image."""
        return list(itertools.accumulate(self.strides, operator.mul, initial=1))

    @property
    def _lost_by_encoder_px(self) -> int:
        """Pixels that the encoder crops from each side."""
        levels = zip(self._scales, self.encoder, self.kernels, strict=True)
        return sum(scale * convolutions * (kernel // 2) for scale, convolutions, kernel in levels)

    @property
    def _lost_px(self) -> int:
        """Pixels that the whole network crops from each side.

        An interpolated step up loses the pixels beyond the outermost pixel centre of the level below.
        """
        lost = self._lost_by_encoder_px
        for scale, convolutions, kernel, stride in zip(self._scales, self.decoder, self.kernels, self.strides, strict=False):
            lost += scale * (convolutions * (kernel // 2) + (stride // 2 if self.linear else 0))
        return lost

    def _decoder_field(self, level: int, first: int, last: int) -> tuple[int, int]:
        """Return the first and last image pixel that pixels first .. last of a decoder level depend on, with same padding."""
        if level == len(self.strides):
            return self._encoder_field(level, first, last)
        reach = self.decoder[level] * (self.kernels[level] // 2)
        first, last = first - reach, last + reach
        skip = self._encoder_field(level, first, last)
        stride = self.strides[level]
        if self.linear:  # mixes the two pixels around the centre of pixel i, which lies at (2i + 1) / (2 * stride) - 1/2 below
            below_first = (2 * first + 1 - stride) // (2 * stride)
            below_last = -(-(2 * last + 1 - stride) // (2 * stride))  # rounded up
        else:
            below_first, below_last = first // stride, last // stride
        below = self._decoder_field(level + 1, below_first, below_last)
        return min(skip[0], below[0]), max(skip[1], below[1])

    def _encoder_field(self, level: int, first: int, last: int) -> tuple[int, int]:
        """Return the first and last image pixel that pixels first .. last of an encoder level depend on."""
        strided = self.strided and level > 0
        half = self.kernels[level] // 2
        reach = (self.encoder[level] - strided) * half
        first, last = first - reach, last + reach
        if level == 0:
            return first, last
        stride = self.strides[level - 1]
        pooled = not strided or (self.residual and half == 0)  # a wider convolution reaches farther than the shortcut's pool
        before, after = (0, stride - 1) if pooled else (half, half)
        return self._encoder_field(level - 1, first * stride - before, last * stride + after)
