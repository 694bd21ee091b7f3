"""The config of a run and its sections: every key, its meaning, its default; the lowest layer, imports nothing of ours."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from yaml import YAMLError

Norm = Literal["none", "batch", "instance", "group"]
Activation = Literal["relu", "leaky_relu"]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


class ConfigError(Exception):
    """The config says something that can't be; the message names the key and what is allowed."""


class Section(BaseModel):
    """A part of the config: never changed after it was read, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RunSection(Section):
    """Which run this is, and where it lives: `folder/name`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    folder: Path = Path("runs")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class ClassSection(Section):
    """One class of the references; its label is its place in `data.classes`."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class DataSection(Section):
    """Which images, what their channels are, and what the labels of their references mean."""

    path: Path
    dimensions: Literal[2, 3]
    channels: Annotated[tuple[str, ...], Field(min_length=1)]
    classes: Annotated[tuple[ClassSection, ...], Field(min_length=2, max_length=255)]
    instances: bool = False
    spacing_um: tuple[PositiveFloat, ...] | None = None


class NormaliseSection(Section):
    """How intensities become network inputs.

    `zscore` goes by each image's own mean and deviation, `range` by two fixed values, `ct` by fixed limits, mean and deviation.
    """

    method: Literal["zscore", "range", "ct"] = "zscore"
    lower: float = 0.0
    upper: float = 255.0
    mean: float | None = None
    deviation: PositiveFloat | None = None

    @model_validator(mode="after")
    def _lower_is_below_upper(self) -> Self:
        if self.lower >= self.upper:
            raise ValueError(f"lower {self.lower:g} is not below upper {self.upper:g}; give the range's two ends in order")
        return self

    @model_validator(mode="after")
    def _ct_is_whole(self) -> Self:
        if self.method != "ct":
            return self
        if self.mean is None or self.deviation is None:
            raise ValueError("method ct needs mean and deviation of the clipped foreground; `overtile plan` measures both")
        if not self.lower <= self.mean <= self.upper:
            raise ValueError(
                f"mean {self.mean:g} is not within lower {self.lower:g} .. upper {self.upper:g}; give that of clipped values"
            )
        return self


class AugmentSection(Section):
    """Random transforms of training; `probability` is each transform's own, 0 turns all of them off.

    Each transform has a strength, and 0 turns it off. Intensities are counted in shares of the image's own range.
    """

    probability: Share = 0.3
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 180.0
    scaling: Annotated[float, Field(ge=0, lt=1)] = 0.25
    shear_degrees: Annotated[float, Field(ge=0, le=45)] = 0.0
    translation_px: Annotated[float, Field(ge=0)] = 0.0
    elastic_px: Annotated[float, Field(ge=0)] = 8.0
    elastic_points: Annotated[int, Field(ge=2)] = 3
    flips: bool = True
    quarter_turns: bool = False
    mask_borders: bool = False
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0.2
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.25
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.3
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.05
    blur_px: Annotated[float, Field(ge=0)] = 0.0
    low_resolution: Annotated[float, Field(ge=0, lt=1)] = 0.0
    bias_field: Annotated[float, Field(ge=0)] = 0.0
    ghosting: Share = 0.0
    stain: Annotated[float, Field(ge=0, lt=1)] = 0.0
    remap: Share = 0.0
    remap_inversion: bool = True
    remap_background: Annotated[float, Field(ge=0, lt=1)] = 0.02
    restyle: Share = 0.0
    style_bank: Path | None = None

    @model_validator(mode="after")
    def _styles_are_there(self) -> Self:
        if self.restyle > 0 and self.style_bank is None:
            raise ValueError(
                f"restyle {self.restyle:g} needs images to take styles from; name their folder in style_bank, "
                "or set restyle to 0"
            )
        return self


class UNetSection(Section):
    """A U-Net: one entry of `features` a level, the last is the bottom."""

    name: Literal["unet"]
    features: Annotated[tuple[PositiveInt, ...], Field(min_length=2)] = (32, 64, 128, 256)
    padding: Literal["same", "valid"] = "same"
    norm: Norm = "batch"
    activation: Activation = "relu"

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


class SamplingSection(Section):
    """How patches are drawn; the sliding window's patch is its window, so `patch_size` is left out there."""

    patch_size: tuple[PositiveInt, ...] | None = None
    foreground_share: Share = 0.5


class TrainerSection(Section):
    """How long and how fast to train; `patience` counts validations without a better Dice."""

    max_steps: PositiveInt = 2000
    max_minutes: PositiveFloat | None = None
    batch_size: PositiveInt = 8
    learning_rate: PositiveFloat = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    validate_every_steps: PositiveInt = 100
    patience: PositiveInt = 10
    workers: Annotated[int, Field(ge=0)] = 0
    cache_mib: PositiveInt = 2048


class InferenceSection(Section):
    """How an image is tiled: `tile_size` bounds the network's input, `overlap` is the share of a tile that is blended."""

    tile_size: tuple[PositiveInt, ...] | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    batch_size: PositiveInt = 1


class Config(Section):
    """Everything that a run is; travels whole in the bundle."""

    run: RunSection
    data: DataSection
    normalise: NormaliseSection = NormaliseSection()
    augment: AugmentSection = AugmentSection()
    model: Annotated[UNetSection | SlidingWindowSection, Field(discriminator="name")]
    sampling: SamplingSection = SamplingSection()
    trainer: TrainerSection = TrainerSection()
    inference: InferenceSection = InferenceSection()

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Size of a training patch, in S order."""
        if isinstance(self.model, SlidingWindowSection):
            return (self.model.window,) * self.data.dimensions
        return self.sampling.patch_size or ()

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if isinstance(self.model, SlidingWindowSection) and self.sampling.patch_size is not None:
            raise ValueError(
                "sampling.patch_size: the sliding window's patch is its window; remove the key and set model.window"
            )
        if isinstance(self.model, UNetSection) and self.sampling.patch_size is None:
            raise ValueError("sampling.patch_size: missing; a U-Net needs one, for example [256, 256]")
        for key, value in (
            ("sampling.patch_size", self.sampling.patch_size),
            ("inference.tile_size", self.inference.tile_size),
            ("data.spacing_um", self.data.spacing_um),
        ):
            if value is not None and len(value) != self.data.dimensions:
                raise ValueError(f"{key}: {len(value)} values for {self.data.dimensions} dimensions; give one an axis")
        if isinstance(self.model, UNetSection):
            _check_patch(self.model, self.patch_size)
        _check_augment(self.augment, self.data, self.patch_size)
        return self


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file and puts `section.key=value` overrides over it.

    Raises:
        ConfigError: the file can't be read, an override isn't `key=value`, or the values aren't a valid config.
    """
    try:
        values = OmegaConf.merge(OmegaConf.load(path), _dotlist(overrides))
        container = OmegaConf.to_container(values, resolve=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: can't be read; give the path of a YAML file, for example configs/histology_unet.yaml"
        ) from error
    except (YAMLError, OmegaConfBaseException, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: not a YAML mapping of sections: {reason}") from error
    return parse(container, origin=str(path))


def parse(values: object, origin: str) -> Config:
    """Validates plain values; `origin` stands before each line of the error.

    Raises:
        ConfigError: one line a problem, with the key, what came and what is allowed.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [f"{origin}: {_line(detail)}" for detail in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def dump(config: Config) -> str:
    """The whole config as YAML, defaults included; `load` reads it back."""
    return str(OmegaConf.to_yaml(OmegaConf.create(config.model_dump(mode="json"))))


def _dotlist(overrides: Sequence[str]) -> Any:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"override {override!r}: not section.key=value, for example trainer.max_steps=500")
    return OmegaConf.from_dotlist(list(overrides))


def _check_patch(model: UNetSection, patch_size: tuple[int, ...]) -> None:
    legal = [model.legal_size(size) for size in patch_size]
    if list(patch_size) != legal:
        raise ValueError(
            f"sampling.patch_size: a U-Net of {len(model.features)} levels can't take {list(patch_size)}; the next is {legal}"
        )


def _check_augment(augment: AugmentSection, data: DataSection, patch_size: tuple[int, ...]) -> None:
    if augment.stain > 0 and (data.dimensions, len(data.channels)) != (2, 3):
        raise ValueError(
            f"augment.stain: takes pictures of 3 channels (red, green, blue), and data has {data.dimensions} dimensions "
            f"and {len(data.channels)} channels; set augment.stain to 0"
        )
    if augment.quarter_turns and patch_size[-1] != patch_size[-2]:
        raise ValueError(
            f"augment.quarter_turns: turns rows into columns, and a patch of {list(patch_size)} has not as many of both; "
            "choose a patch with equal last sides, or set augment.quarter_turns to false"
        )


def _line(detail: Any) -> str:
    """One problem as `key: what came; what to do`."""
    location = [str(part) for part in detail["loc"] if part not in ("unet", "sliding_window")]
    key = ".".join(location)
    if detail["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(key, _known_keys(), n=1, cutoff=0.0)[0]
        return f"{key}: unknown key; did you mean {nearest}?"
    if detail["type"] == "missing":
        return f"{key}: missing; add it to the file or give {key}=VALUE on the command line"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message}; got {detail['input']!r}"


def _known_keys() -> list[str]:
    sections: list[tuple[str, type[Section]]] = [("model", UNetSection), ("model", SlidingWindowSection)]
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            sections.append((name, field.annotation))
    return [*Config.model_fields, *(f"{name}.{key}" for name, section in sections for key in section.model_fields)]
