"""What sections of the config ask of one another; each check is a function, its message names the key."""

from typing import TYPE_CHECKING

from configs.compatibility import check_head
from configs.network_sections import SlidingWindowSection, UNetSection
from configs.sections import AugmentSection, DataSection, WarmStartSection

if TYPE_CHECKING:
    from configs.schema import Config


def check_agreement(config: "Config") -> None:
    """Nothing, when every section suits the others.

    Raises:
        ValueError: with the key, what it says and what it may say.
    """
    _check_patch_is_given(config)
    _check_axes(config)
    if isinstance(config.model, UNetSection):
        _check_kernels(config.model, config.data.dimensions)
        _check_patch(config.model, config.patch_size)
    _check_augment(config.augment, config.data, config.patch_size)
    _check_warm_start(config.warm_start)
    check_head(config)
    _check_folds(config)
    _check_hard_negatives(config)
    _check_flips(config)
    _check_turns(config)
    _check_image_label(config)


def _check_patch_is_given(config: "Config") -> None:
    if isinstance(config.model, SlidingWindowSection) and config.sampling.patch_size is not None:
        raise ValueError("sampling.patch_size: the sliding window's patch is its window; remove the key and set model.window")
    if isinstance(config.model, UNetSection) and config.sampling.patch_size is None:
        raise ValueError("sampling.patch_size: missing; a U-Net needs one, for example [256, 256]")


def _check_axes(config: "Config") -> None:
    for key, value in (
        ("sampling.patch_size", config.sampling.patch_size),
        ("inference.tile_size", config.inference.tile_size),
        ("data.spacing_um", config.data.spacing_um),
    ):
        if value is not None and len(value) != config.data.dimensions:
            raise ValueError(f"{key}: {len(value)} values for {config.data.dimensions} dimensions; give one an axis")


def _check_kernels(model: UNetSection, dimensions: int) -> None:
    for key, levels in (("kernels", model.kernels), ("strides", model.strides)):
        for values in levels or ():
            if len(values) != dimensions:
                raise ValueError(f"model.{key}: {list(values)} for {dimensions} dimensions; give one an axis in each")


def _check_patch(model: UNetSection, patch_size: tuple[int, ...]) -> None:
    legal = [model.axis(number).legal_size(size) for number, size in enumerate(patch_size)]
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


def _check_folds(config: "Config") -> None:
    if config.trainer.folds == 1:
        raise ValueError("trainer.folds: 1 fold leaves nothing to train on; set it to 0 to train once, or to 2 or more")


def _check_hard_negatives(config: "Config") -> None:
    if config.sampling.hard_negative_share == 0:
        return
    if not isinstance(config.model, SlidingWindowSection):
        raise ValueError("sampling.hard_negative_share: only the sliding window mines hard negatives; set it to 0 for a U-Net")
    if len(config.data.classes) < 2:
        raise ValueError(
            f"sampling.hard_negative_share: head.kind {config.head.kind} has no background to mine; set the share to 0"
        )


def _check_flips(config: "Config") -> None:
    seen = config.augment.flips and config.augment.probability > 0
    if config.inference.average != "none" and not seen:
        raise ValueError(
            f"inference.average: {config.inference.average} averages over mirror images, of which training sees none; set "
            "augment.flips to true and augment.probability above 0, or inference.average to none"
        )


def _check_turns(config: "Config") -> None:
    if config.inference.average != "flips_and_turns":
        return
    rows, columns = config.data.dimensions - 2, config.data.dimensions - 1
    spacing_um, model = config.data.spacing_um, config.model
    if isinstance(model, UNetSection) and model.axis(rows) != model.axis(columns):
        apart = "model.kernels or model.strides"
    elif spacing_um is not None and spacing_um[rows] != spacing_um[columns]:
        apart = "data.spacing_um"
    else:
        return
    raise ValueError(
        f"inference.average: flips_and_turns turns rows into columns, and they differ in {apart}; choose flips or none"
    )


def _check_warm_start(section: WarmStartSection) -> None:
    if section.weights is not None:
        return
    for key, value, plain in (("frozen_steps", section.frozen_steps, 0), ("encoder_rate", section.encoder_rate, 1)):
        if value != plain:
            raise ValueError(
                f"warm_start.{key}: {value:g} would hold back an encoder of random weights; name weights in "
                f"warm_start.weights, or set warm_start.{key} to {plain}"
            )


def _check_image_label(config: "Config") -> None:
    section = config.image_label
    names = section.classes
    if not names:
        return
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"image_label.classes: {list(names)} doesn't tell images apart; give two names or more, none of them twice, or []"
        )
    if unfit := [name for name in names if name != name.strip() or not name.isprintable()]:
        raise ValueError(
            f"image_label.classes: {unfit[0]!r} begins or ends with a space, or holds what can't be printed; cells of "
            "cases.csv are read without; choose another name"
        )
    if section.by == "map":
        _check_map(config)


def _check_map(config: "Config") -> None:
    section = config.image_label
    least = 2 ** (len(section.map_features) - 1)
    if section.map_size < least:
        raise ValueError(
            f"image_label.map_size: {section.map_size} is halved between {len(section.map_features)} convolutions; give "
            f"{least} or more, or fewer image_label.map_features"
        )
    if len(config.data.classes) < 2:
        raise ValueError(
            f"image_label.by: map reads classes' probabilities, and head.kind {config.head.kind} gives none; set it to joint"
        )
