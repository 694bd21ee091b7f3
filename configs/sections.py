"""Sections of the config other than `model`: every key, its meaning and its default."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]

Label = Annotated[int, Field(ge=0)]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
PixelValue = Label | Colour  # of a reference

MAX_CLASSES = 255

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # of runs and bundles; a valid folder name on every system, never a path


class Section(BaseModel):
    """Base of the config's sections: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RunSection(Section):
    """Name, folder and seed of the run; its files are in `folder/name`."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    folder: Path = Path("runs")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class ClassSection(Section):
    """Name and colour of a class, and its values in references.

    Its label in masks is its index in `data.classes`. `value` is the label that its pixels have in references, or their
    colour "#rrggbb", or a list of those; None is the index.
    """

    name: Annotated[str, Field(min_length=1, max_length=100)]
    colour: Colour
    value: PixelValue | Annotated[tuple[PixelValue, ...], Field(min_length=1)] | None = None


class DataSection(Section):
    """The data set: its folder, the channels of its images, and the classes of its references."""

    path: Path
    dimensions: Literal[2, 3]
    channels: Annotated[tuple[str, ...], Field(min_length=1)]
    classes: Annotated[tuple[ClassSection, ...], Field(min_length=1, max_length=MAX_CLASSES)]
    instances: bool = False
    ignore_label: PixelValue | None = None
    spacing_um: tuple[PositiveFloat, ...] | None = None
    group_column: Annotated[str, Field(min_length=1)] | None = None
    label_column: Annotated[str, Field(min_length=1)] | None = None

    @property
    def has_values(self) -> bool:
        """Return whether classes have values of their own in references, instead of their indices."""
        return any(section.value is not None for section in self.classes)

    @property
    def has_colours(self) -> bool:
        """Return whether the values of the classes are colours."""
        return any(isinstance(value, str) for index in range(len(self.classes)) for value in self.values_of(index))

    def values_of(self, index: int) -> tuple[PixelValue, ...]:
        """Return the values that the pixels of a class have in references."""
        value = self.classes[index].value
        if value is None:
            return (index,)
        return value if isinstance(value, tuple) else (value,)

    @property
    def ignore_index(self) -> int | None:
        """Label of the ignored pixels after the classes' values are replaced by their indices; None where there are none."""
        if self.ignore_label is None:
            return None
        return self.ignore_label if isinstance(self.ignore_label, int) and not self.has_values else MAX_CLASSES


class NormaliseSection(Section):
    """Normalisation of intensities.

    `zscore` uses each image's own mean and standard deviation, `range` two fixed values, `ct` fixed limits, mean and
    standard deviation.
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
    """Random transforms in training.

    `probability` applies to each transform separately; 0 turns all of them off. Each transform has a strength, and 0 turns
    it off. Strengths of intensity transforms are fractions of the image's own range.
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


class HeadSection(Section):
    """Meaning of the network's outputs.

    `softmax`: one class per pixel. `sigmoid`: the same for two classes, with one output. `multi_label`: classes that may
    overlap, with one reference file each. `ordinal`: ordered classes such as grades, in one of three encodings.
    `regression` and `unit_regression`: a value per pixel instead of a class, any number or one from 0 to 1.
    """

    kind: Literal["softmax", "sigmoid", "multi_label", "ordinal", "regression", "unit_regression"] = "softmax"
    encoding: Literal["soft_label", "one_hot", "cumulative"] = "soft_label"

    @property
    def name(self) -> str:
        """Name of the head: the kind, or the encoding if the classes are ordered."""
        return self.encoding if self.kind == "ordinal" else self.kind


class ImageLabelSection(Section):
    """Classification of the whole image, by column `label` of cases.csv; off if `classes` is empty.

    `joint`: a second output of the network, trained together with the mask; its loss is multiplied by `weight`. `map`: a
    separate small network, which reads the map of the trained network's output, resized to `map_size` pixels per axis.
    """

    classes: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    by: Literal["joint", "map"] = "map"
    weight: PositiveFloat = 0.1
    map_size: PositiveInt = 64
    map_features: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (16, 32, 64)
    map_steps: PositiveInt = 300


class SamplingSection(Section):
    """Sampling of training patches.

    The sliding window's patch is its window, so `patch_size` is left out there. `hard_negative_share` is the fraction of
    its background windows that lie where the network mistook background for foreground.
    """

    patch_size: tuple[PositiveInt, ...] | None = None
    foreground_share: Share = 0.5
    hard_negative_share: Annotated[float, Field(ge=0, lt=1)] = 0.0


class LossSection(Section):
    """Loss that training minimises.

    `name` None is Dice plus cross-entropy for a U-Net with classes, and otherwise the default of the head. `border_weight`
    and `border_sigma_px` are w0 and sigma of the U-Net paper's weights between objects; 0 turns them off.
    """

    name: Literal["cross_entropy", "dice", "dice_cross_entropy", "focal", "tversky", "boundary"] | None = None
    class_weights: tuple[PositiveFloat, ...] | Literal["balanced"] | None = None
    border_weight: Annotated[float, Field(ge=0)] = 0.0
    border_sigma_px: PositiveFloat = 5.0
    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    tversky_false_positives: Share = 0.3


class OptimizerSection(Section):
    """Optimizer and learning rate. Schedules follow the completed fraction of the run, in steps or in minutes."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    schedule: Literal["poly", "cosine", "one_cycle", "plateau", "constant"] = "poly"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: PositiveFloat | None = None
    accumulate: PositiveInt = 1
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0


class WarmStartSection(Section):
    """Initial weights, from a bundle's folder or a safetensors file; with `weights` None they are random.

    The encoder is frozen for `frozen_steps`, and then trained at `encoder_rate` times the learning rate.
    """

    weights: Path | None = None
    part: Literal["encoder", "all"] = "encoder"
    frozen_steps: Annotated[int, Field(ge=0)] = 0
    encoder_rate: Annotated[float, Field(gt=0, le=1)] = 1.0


class PretrainSection(Section):
    """Settings of `overtile pretrain`, which trains the encoder on unlabelled images as half of a denoising autoencoder."""

    images: Path | None = None
    max_steps: PositiveInt = 1000
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.2
    masked: Annotated[float, Field(ge=0, lt=1)] = 0.3


class TrainerSection(Section):
    """Length of the training, and the hardware it runs on.

    `patience` is the number of validations without a better score after which training ends. `folds` 0 trains one network;
    2 or more train as many, each validated on another fold, and write their ensemble. `devices` is the number of processes
    per machine; each takes `batch_size` patches per step. `calibrate` fits the temperature of the probabilities on the
    validation cases once the network is trained; masks don't depend on it.
    """

    max_steps: PositiveInt = 2000
    max_minutes: PositiveFloat | None = None
    batch_size: PositiveInt = 8
    validate_every_steps: PositiveInt = 100
    patience: PositiveInt = 10
    workers: Annotated[int, Field(ge=0)] = 0
    cache_mib: PositiveInt = 2048
    checkpoint_minutes: PositiveFloat = 5.0
    folds: Annotated[int, Field(ge=0)] = 0
    devices: PositiveInt = 1
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: bool = False
    calibrate: bool = True
