"""The networks' sections of the config: what a U-Net and a sliding window are, and which input sizes they take."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.section import PositiveInt, Section

Norm = Literal["none", "batch", "instance", "group"]
Activation = Literal["relu", "leaky_relu"]


class UNetSection(Section):
    """A U-Net: one entry of `features` a level, the last is the bottom.

    `blocks` is what a level of the encoder is made of: plain convolutions, or residual blocks of two. `depths` counts them
    a level, `decoder_depths` the decoder's plain convolutions a level, the uppermost first. `kernels` is one size an axis
    for each level, `strides` one an axis for each step down; None is 3 and 2 everywhere.
    """

    name: Literal["unet"]
    features: Annotated[tuple[PositiveInt, ...], Field(min_length=2)] = (32, 64, 128, 256)
    blocks: Literal["plain", "residual"] = "plain"
    depths: tuple[PositiveInt, ...] | None = None
    decoder_depths: tuple[PositiveInt, ...] | None = None
    kernels: tuple[tuple[PositiveInt, ...], ...] | None = None
    strides: tuple[tuple[PositiveInt, ...], ...] | None = None
    padding: Literal["same", "valid"] = "same"
    down: Literal["max_pool", "strided"] = "max_pool"
    up: Literal["transposed", "linear"] = "transposed"
    norm: Norm = "batch"
    activation: Activation = "relu"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    init: Literal["he", "xavier"] = "he"
    deep_supervision: bool = False

    @property
    def stride(self) -> int:
        """The network commutes with shifts by this many pixels: 2 a pooling."""
        return int(2 ** (len(self.features) - 1))

    @property
    def context_px(self) -> int:
        """How far a block of `stride` outputs, aligned to the stride, looks to each side.

        Two convolutions a level, down and up, look 1 px of their level each way, and so do the two of the bottom:
        4 * (1 + 2 + .. + stride / 2) + 2 * stride. This is what a valid network loses at each side: 92 in the original.
        With same padding it is 2 more, since there the pools' pairs lie between those of the valid network.
        """
        return 6 * self.stride - (4 if self.padding == "valid" else 2)

    def legal_size(self, at_least: int) -> int:
        """The smallest input side of at least this many pixels that every pooling divides and that leaves an output."""
        if self.padding == "same":
            return max(-(-at_least // self.stride), 1) * self.stride
        at_least = max(at_least, 2 * self.context_px + 1)
        return at_least + (-(at_least + 4) % self.stride)  # 16k + 60 in the original


class ConvolutionSection(Section):
    """One convolution of the sliding-window network; a max-pool follows each."""

    features: PositiveInt
    kernel: PositiveInt


class SlidingWindowSection(Section):
    """A classifier of the pixel at a window's centre; the defaults are the published N4."""

    name: Literal["sliding_window"]
    window: Annotated[int, Field(ge=3)] = 95
    convolutions: Annotated[tuple[ConvolutionSection, ...], Field(min_length=1)] = (
        ConvolutionSection(features=48, kernel=4),
        ConvolutionSection(features=48, kernel=5),
        ConvolutionSection(features=48, kernel=4),
        ConvolutionSection(features=48, kernel=4),
    )
    pool: Annotated[int, Field(ge=1)] = 2
    hidden: PositiveInt = 200
    norm: Literal["none", "batch"] = "none"
    activation: Activation = "relu"
    foveation_px: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _window_survives(self) -> Self:
        size = self.window
        for convolution in self.convolutions:
            size = (size - convolution.kernel + 1) // self.pool
            if size < 1:
                raise ValueError(
                    f"window {self.window} is used up by the convolutions; choose a larger window or fewer of them"
                )
        return self
