"""What sections of the config ask of one another; each check is a function, its message names the key."""

from typing import TYPE_CHECKING

from configs.networks import SlidingWindowSection, UNetSection
from configs.sections import AugmentSection, DataSection

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
        _check_patch(config.model, config.patch_size)
    _check_augment(config.augment, config.data, config.patch_size)


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
