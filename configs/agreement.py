"""Checks between sections of the config. Each takes the sections that it compares; its message names the key."""

from configs.inference_section import InferenceSection
from configs.network_sections import ModelSection, SlidingWindowSection, UNetSection
from configs.sections import (
    AugmentSection,
    DataSection,
    HeadSection,
    ImageLabelSection,
    SamplingSection,
    TrainerSection,
    WarmStartSection,
)


def check_patch_key(model: ModelSection, sampling: SamplingSection) -> None:
    """Refuse a patch size for a sliding window, and a U-Net without one.

    Raises:
        ValueError: with the key, its value and what is allowed; this holds for every check here.
    """
    if isinstance(model, SlidingWindowSection) and sampling.patch_size is not None:
        raise ValueError("sampling.patch_size: the sliding window's patch is its window; remove the key and set model.window")
    if isinstance(model, UNetSection) and sampling.patch_size is None:
        raise ValueError("sampling.patch_size: missing; a U-Net needs one, for example [256, 256]")


def check_axes(data: DataSection, sampling: SamplingSection, inference: InferenceSection) -> None:
    """Refuse sizes and spacings that don't have one value per axis of the image."""
    for key, value in (
        ("sampling.patch_size", sampling.patch_size),
        ("inference.tile_size", inference.tile_size),
        ("data.spacing_um", data.spacing_um),
    ):
        if value is not None and len(value) != data.dimensions:
            raise ValueError(f"{key}: {len(value)} values for {data.dimensions} dimensions; give one value per axis")


def check_unet_sizes(model: ModelSection, data: DataSection, patch_size: tuple[int, ...]) -> None:
    """Refuse kernels and strides of another dimension, and a patch size that the U-Net can't take."""
    if not isinstance(model, UNetSection):
        return
    for key, levels in (("kernels", model.kernels), ("strides", model.strides)):
        for values in levels or ():
            if len(values) != data.dimensions:
                raise ValueError(
                    f"model.{key}: {list(values)} for {data.dimensions} dimensions; give one value per axis in each entry"
                )
    legal_size = [model.axis(number).legal_size(size) for number, size in enumerate(patch_size)]
    if list(patch_size) != legal_size:
        raise ValueError(
            f"sampling.patch_size: a U-Net of {len(model.features)} levels can't take {list(patch_size)}; "
            f"the next larger size is {legal_size}"
        )


def check_augment(augment: AugmentSection, data: DataSection, patch_size: tuple[int, ...]) -> None:
    """Refuse stain augmentation of images that aren't RGB, and quarter turns of patches that aren't square."""
    if augment.stain > 0 and (data.dimensions, len(data.channels)) != (2, 3):
        raise ValueError(
            f"augment.stain: needs 2D images of 3 channels (red, green, blue), and data has {data.dimensions} dimensions "
            f"and {len(data.channels)} channels; set augment.stain to 0"
        )
    if augment.quarter_turns and patch_size[-1] != patch_size[-2]:
        raise ValueError(
            f"augment.quarter_turns: needs patches with as many rows as columns, and the patch size is {list(patch_size)}; "
            "make its last two values equal, or set augment.quarter_turns to false"
        )


def check_warm_start(warm_start: WarmStartSection) -> None:
    """Refuse to freeze or slow down an encoder whose weights are random."""
    if warm_start.weights is not None:
        return
    settings = (("frozen_steps", warm_start.frozen_steps, 0), ("encoder_rate", warm_start.encoder_rate, 1))
    for key, value, default in settings:
        if value != default:
            raise ValueError(
                f"warm_start.{key}: {value:g} would hold back an encoder of random weights; name weights in "
                f"warm_start.weights, or set warm_start.{key} to {default}"
            )


def check_folds(trainer: TrainerSection) -> None:
    """Refuse a cross-validation of one fold."""
    if trainer.folds == 1:
        raise ValueError("trainer.folds: 1 fold leaves nothing to train on; set it to 0 to train once, or to 2 or more")


def check_hard_negatives(sampling: SamplingSection, model: ModelSection, data: DataSection, head: HeadSection) -> None:
    """Refuse hard negatives for a U-Net, and where no class is the background."""
    if sampling.hard_negative_share == 0:
        return
    if not isinstance(model, SlidingWindowSection):
        raise ValueError("sampling.hard_negative_share: only the sliding window mines hard negatives; set it to 0 for a U-Net")
    if len(data.classes) < 2:
        raise ValueError(f"sampling.hard_negative_share: head.kind {head.kind} has no background to mine; set the share to 0")


def check_average(inference: InferenceSection, augment: AugmentSection, model: ModelSection, data: DataSection) -> None:
    """Refuse to average over flips or turns of the image that the network wasn't trained for or doesn't fit."""
    if inference.average == "none":
        return
    if not augment.flips or augment.probability == 0:
        raise ValueError(
            f"inference.average: {inference.average} averages over mirror images, but training has none; set "
            "augment.flips to true and augment.probability above 0, or inference.average to none"
        )
    if inference.average == "flips":
        return
    rows, columns = data.dimensions - 2, data.dimensions - 1
    if isinstance(model, UNetSection) and model.axis(rows) != model.axis(columns):
        keys = "model.kernels or model.strides"
    elif data.spacing_um is not None and data.spacing_um[rows] != data.spacing_um[columns]:
        keys = "data.spacing_um"
    else:
        return
    raise ValueError(
        f"inference.average: flips_and_turns turns rows into columns, and they differ in {keys}; choose flips or none"
    )


def check_objects(inference: InferenceSection, head: HeadSection) -> None:
    """Refuse to find peaks without a radius, or in the output of a network that gives no probabilities."""
    if inference.objects != "peaks":
        return
    if inference.peak_radius_um is None:
        raise ValueError(
            "inference.peak_radius_um: missing; inference.objects peaks needs the smallest distance between two objects in "
            "micrometres, for example 7.5 for mitoses"
        )
    if head.kind in ("regression", "unit_regression"):
        raise ValueError(
            f"inference.objects: peaks are those of class probabilities, and head.kind {head.kind} gives none; choose "
            "components or watershed"
        )


def check_image_label(image_label: ImageLabelSection, data: DataSection, head: HeadSection) -> None:
    """Refuse image labels that can't be told apart or read from a table, and maps that are too small or don't exist."""
    names = image_label.classes
    if not names:
        return
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"image_label.classes: {list(names)} doesn't tell images apart; give two or more different names, or []"
        )
    if unreadable := [name for name in names if name != name.strip() or not name.isprintable()]:
        raise ValueError(
            f"image_label.classes: {unreadable[0]!r} begins or ends with a space or has unprintable characters, which "
            "cases.csv can't hold; choose another name"
        )
    if image_label.by != "map":
        return
    smallest_map = 2 ** (len(image_label.map_features) - 1)
    if image_label.map_size < smallest_map:
        raise ValueError(
            f"image_label.map_size: {image_label.map_size} is halved between {len(image_label.map_features)} convolutions; "
            f"give {smallest_map} or more, or fewer image_label.map_features"
        )
    if len(data.classes) < 2:
        raise ValueError(
            f"image_label.by: map needs class probabilities, and head.kind {head.kind} gives none; set it to joint"
        )
