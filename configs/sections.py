"""The sections of the config besides the networks': every key, its meaning, its default."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.section import PositiveFloat, PositiveInt, Section, Share

Average = Literal["none", "flips", "flips_and_turns"]

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # of runs and bundles: a folder's name on every system, never a path


class RunSection(Section):
    """Which run this is, and where it lives: `folder/name`."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
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
    classes: Annotated[tuple[ClassSection, ...], Field(min_length=1, max_length=255)]
    instances: bool = False
    ignore_label: Annotated[int, Field(ge=0)] | None = None
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


class HeadSection(Section):
    """What the network's outputs mean.

    `softmax`: one class a pixel. `sigmoid`: the same for two classes, with one output. `multi_label`: classes that overlap,
    a reference file each. `ordinal`: classes in order, such as grades, in one of three encodings. `regression` and
    `unit_regression`: no class but a value a pixel, any or within 0 .. 1.
    """

    kind: Literal["softmax", "sigmoid", "multi_label", "ordinal", "regression", "unit_regression"] = "softmax"
    encoding: Literal["soft_label", "one_hot", "cumulative"] = "soft_label"

    @property
    def name(self) -> str:
        """The kind, or the encoding where classes are in order."""
        return self.encoding if self.kind == "ordinal" else self.kind


class ImageLabelSection(Section):
    """A label of the whole image, from column `label` of cases.csv; no `classes`: there is none.

    `joint`: a second output of the network, trained together with the mask, its loss counted `weight` times. `map`: a small
    network of its own, which reads the map of the finished network's output, brought to `map_size` pixels a side.
    """

    classes: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    by: Literal["joint", "map"] = "map"
    weight: PositiveFloat = 0.1
    map_size: PositiveInt = 64
    map_features: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (16, 32, 64)
    map_steps: PositiveInt = 300


class SamplingSection(Section):
    """How patches are drawn; the sliding window's patch is its window, so `patch_size` is left out there.

    `hard_negative_share` of the sliding window's background windows lie where the network took background for foreground.
    """

    patch_size: tuple[PositiveInt, ...] | None = None
    foreground_share: Share = 0.5
    hard_negative_share: Annotated[float, Field(ge=0, lt=1)] = 0.0


class LossSection(Section):
    """What is minimised; `name` None takes Dice + cross-entropy for a U-Net of classes, and what suits the head elsewhere.

    `border_weight` and `border_sigma_px` are w0 and sigma of the U-Net paper's weights between objects; 0 turns them off.
    """

    name: Literal["cross_entropy", "dice", "dice_cross_entropy", "focal", "tversky", "boundary"] | None = None
    class_weights: tuple[PositiveFloat, ...] | Literal["balanced"] | None = None
    border_weight: Annotated[float, Field(ge=0)] = 0.0
    border_sigma_px: PositiveFloat = 5.0
    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    tversky_false_positives: Share = 0.3


class OptimizerSection(Section):
    """How weights are changed. The rate falls with the share of the run that is over: of its steps or its minutes."""

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
    """Weights to begin with: those of a bundle's folder or of a safetensors file; `weights` None begins anew.

    The encoder stays as it is for `frozen_steps` and is then trained at `encoder_rate` of the learning rate.
    """

    weights: Path | None = None
    part: Literal["encoder", "all"] = "encoder"
    frozen_steps: Annotated[int, Field(ge=0)] = 0
    encoder_rate: Annotated[float, Field(gt=0, le=1)] = 1.0


class PretrainSection(Section):
    """How `overtile pretrain` trains the encoder on unlabelled images: as half of a denoising autoencoder."""

    images: Path | None = None
    max_steps: PositiveInt = 1000
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.2
    masked: Annotated[float, Field(ge=0, lt=1)] = 0.3


class TrainerSection(Section):
    """How long and on what to train; `patience` counts validations without a better score.

    `folds` 0 trains once; 2 or more train as many networks, each validated on another fold, and an ensemble of them.
    `devices` processes a machine take `batch_size` patches each of every step.
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


class InferenceSection(Section):
    """How an image is tiled: `tile_size` bounds the network's input, `overlap` is the share of a tile that is blended.

    Left out, `tile_size` is 512 pixels a side in 2D and 96 in 3D while a network trains. Where a bundle is used, and its tiles
    are exact whatever their size, it is what costs the network the least within `memory_bytes`, which the process may have in
    all; left out, that is what it has and a quarter of what is free.

    `average` is over the logits of a tile's mirror images, or of its mirror images and quarter turns. `objects` is how a
    mask becomes objects where references number them: connected pieces, or pieces split where they are narrow. `runtime` is
    what runs the network: torch in float32; one that is named; or `auto`, the fastest one that answers as torch does (torch
    where the network is so small that trying takes longer than it saves).
    """

    tile_size: tuple[PositiveInt, ...] | None = None
    memory_bytes: PositiveInt | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    batch_size: PositiveInt = 1
    average: Average = "none"
    runtime: Literal["auto", "torch", "torch_bfloat16", "compile", "graphs", "openvino", "openvino_bfloat16", "onnxruntime"] = (
        "auto"
    )
    objects: Literal["components", "watershed"] = "components"
    object_sigma_px: Annotated[float, Field(ge=0)] = 4.0
    smallest_object_px: Annotated[int, Field(ge=0)] = 0
