"""Choose the keys of `inference`: the tile size by memory, and how a mask is split into objects."""

from typing import Any

from inference.predictors.counting import shape_only_predictor
from inference.predictors.pass_memory import inference_bytes
from inference.predictors.predictor import DEFAULT_TILE_SIZE
from training.planning.budget import Budget, config_with, format_sizes
from training.planning.data_choices import KEPT_BY_OPENING, Choice, Choices, DatasetSummary

TILES = {2: (1024, 768, 512, 384, 256, 192, 128), 3: (192, 160, 128, 96, 64, 48, 32)}
BORDER_WEIGHT = 10


def choose_tile(summary: DatasetSummary, values: dict[str, Any], choices: Choices, budget: Budget) -> Choices:
    """Choose the largest tile with which the largest image fits in memory; None where results don't depend on the tile.

    Raises:
        ConfigError: not even the smallest tile fits.
    """
    pass_bytes = 0
    for side in TILES[summary.dimensions]:
        tile = Choice(
            [min(side, -(-longest // 16) * 16) for longest in summary.largest],  # rounded up to a multiple of 16
        )
        config = config_with(values, {**choices, "inference.tile_size": tile})
        pass_bytes = inference_bytes(config, summary.largest, budget.device)
        if pass_bytes > budget.memory_bytes:
            continue
        if side >= DEFAULT_TILE_SIZE[summary.dimensions] and not shape_only_predictor(config_with(values, choices)).blends:
            reason = "chosen at prediction time from available memory; results do not depend on it"
            return {"inference.tile_size": Choice(None, reason)}
        reason = f"the largest image, {format_sizes(summary.largest)}, takes {budget.usage(pass_bytes)}"
        return {"inference.tile_size": Choice(tile.value, reason)}
    raise budget.too_small(pass_bytes)


def choose_objects(method: str, summary: DatasetSummary, choices: Choices) -> Choices:
    """Choose how touching objects are separated and cleaned up; empty where references don't number objects.

    A U-Net's loss gives more weight to the background between objects. A sliding window's loss doesn't: few windows lie
    there, and a large weight on them turns all borders into background (benchmarks/README.md).
    """
    if not choices["data.instances"].value or summary.object_px is None:
        return {}
    side = sum(summary.object_px) / len(summary.object_px)
    border = Choice(BORDER_WEIGHT, "as in the U-Net paper; separates touching objects")
    return {
        **({"loss.border_weight": border} if method == "unet" else {}),
        "inference.objects": Choice("watershed", "the references number individual objects"),
        "inference.object_sigma_px": Choice(round(side / 4, 1), f"a quarter of the median object side, {side:.3g} px"),
        **_choose_clean_up(summary),
    }


def _choose_clean_up(summary: DatasetSummary) -> Choices:
    """Choose the smallest object, the largest hole that is filled, and the opening, such that references hardly change."""
    smallest, hole, radius = int(summary.small_object_px), summary.small_hole_px, summary.opening_radius_px
    filled = Choice(smallest, "no hole in the references; smaller ones than the smallest object are filled")
    if hole is not None:
        filled = Choice(max(min(smallest, int(hole) - 1), 0), f"holes in the references have {hole:.3g} px and more")
    kept = f"keeps {KEPT_BY_OPENING:.0%} of the references' foreground"
    return {
        "inference.smallest_object_px": Choice(smallest, "1 in 100 of the references' objects is smaller"),
        "inference.largest_hole_px": filled,
        "inference.opening_radius_px": Choice(radius, f"the largest that {kept}" if radius else f"no opening {kept}"),
    }
