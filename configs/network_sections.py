"""Section `model` of the config: the layers of a U-Net and of a sliding window."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.sections import PositiveInt, Section
from configs.unet_axis import UNetAxis

Norm = Literal["none", "batch", "instance", "group"]
Activation = Literal["relu", "leaky_relu"]


class UNetSection(Section):
    """Layers of a U-Net. `features` has one entry per level; the first is the finest, the last the bottom.

    The encoder's levels consist of `blocks`: plain convolutions, or residual blocks of two convolutions; `depths` is their
    number per level. `decoder_depths` is the number of the decoder's plain convolutions per level, finest first. `kernels`
    has one size per axis for each level, `strides` one per axis for each step down; None is 3 and 2 everywhere. A residual
    encoder begins with one more convolution. `valid` padding allows only plain blocks and max-pools.
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

    def kernel(self, level: int, dimensions: int) -> tuple[int, ...]:
        """Return the kernel size of a level's convolutions, one number per axis."""
        return self.kernels[level] if self.kernels else (3,) * dimensions

    def stride(self, step: int, dimensions: int) -> tuple[int, ...]:
        """Return the stride of a step down, one number per axis. Step 0 is the finest."""
        return self.strides[step] if self.strides else (2,) * dimensions

    def depth(self, level: int) -> int:
        """Return the number of convolutions or residual blocks of the encoder's level."""
        if self.depths:
            return self.depths[level]
        return 2 if self.blocks == "plain" else 1

    def decoder_depth(self, level: int) -> int:
        """Return the number of convolutions of the decoder's level."""
        return self.decoder_depths[level] if self.decoder_depths else 2

    def axis(self, number: int) -> UNetAxis:
        """Return the network along one axis, for the arithmetic of sizes and tiles."""
        levels, residual = range(len(self.features)), self.blocks == "residual"
        convolutions = [2 * self.depth(level) + (level == 0) if residual else self.depth(level) for level in levels]
        return UNetAxis(
            kernels=tuple(self.kernel(level, number + 1)[number] for level in levels),
            strides=tuple(self.stride(step, number + 1)[number] for step in levels[:-1]),
            encoder=tuple(convolutions),
            decoder=tuple(self.decoder_depth(level) for level in levels[:-1]),
            valid=self.padding == "valid",
            strided=self.down == "strided",
            residual=residual,
            linear=self.up == "linear",
        )

    @model_validator(mode="after")
    def _one_entry_per_level(self) -> Self:
        levels = len(self.features)
        counts = {"depths": levels, "decoder_depths": levels - 1, "kernels": levels, "strides": levels - 1}
        for key, count in counts.items():
            value = getattr(self, key)
            if value is not None and len(value) != count:
                which = "one per level" if count == levels else "one per level except the bottom"
                raise ValueError(f"{key}: {len(value)} values for {levels} features; give {count}, {which}, or null")
        return self

    @model_validator(mode="after")
    def _kernels_are_odd(self) -> Self:
        even_kernels = [kernel for kernel in self.kernels or () if any(size % 2 == 0 for size in kernel)]
        if even_kernels:
            raise ValueError(
                f"kernels: {list(even_kernels[0])} has an even size, which has no centre; give odd sizes, such as 1, 3 or 5"
            )
        return self

    @model_validator(mode="after")
    def _valid_is_plain(self) -> Self:
        # the shortcut of a valid residual block, or of a valid strided convolution, would not align with its output
        for key, allowed in (("blocks", "plain"), ("down", "max_pool")):
            value = getattr(self, key)
            if self.padding == "valid" and value != allowed:
                raise ValueError(
                    f"{key}: {value} doesn't work with padding valid, which crops the levels; set {key} to {allowed}, "
                    "or padding to same"
                )
        return self


class ConvolutionSection(Section):
    """Convolution of the sliding-window network. A max-pool follows each."""

    features: PositiveInt
    kernel: PositiveInt


class SlidingWindowSection(Section):
    """Layers of the sliding window, which classifies a window's centre pixel. The defaults are the published N4."""

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
    def _window_is_large_enough(self) -> Self:
        size = self.window
        for convolution in self.convolutions:
            size = (size - convolution.kernel + 1) // self.pool
            if size < 1:
                raise ValueError(
                    f"window {self.window} is used up by the convolutions; choose a larger window or fewer of them"
                )
        return self


ModelSection = UNetSection | SlidingWindowSection
