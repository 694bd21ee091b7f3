"""How large a network and its patches are: as large as the images ask for, shrunk until the memory model says that they fit."""

import itertools
import math
import operator
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from configs import schema
from configs.network_sections import UNetSection
from configs.schema import Config, ConfigError
from inference.predictors.counting import shape_only_predictor
from inference.predictors.pass_memory import inference_bytes
from inference.predictors.predictor import DEFAULT_TILE_SIZE
from training.planning.data_choices import Choice, Choices, DatasetSummary
from training.planning.step_memory import training_bytes
from training.planning.time_budget import ENOUGH_STEPS, choose_augmentation, choose_schedule, steps_in

LARGEST_PATCH = {2: 512, 3: 128}  # a side; isotropic in micrometres
SMALLEST_PATCH = {2: 64, 3: 32}  # a side, before a network with fewer features is taken
FEATURES = {"cpu": (16, 8), "cuda": (32, 16, 8)}  # of the first level; half of them are a quarter of the work
FEATURES_IN_TIME = (32, 24, 16, 12, 8)  # where minutes are given, and steps are timed
MOST_FEATURES = {2: 512, 3: 320}
SMALLEST_BOTTOM = 4  # pixels a side at the bottom of a U-Net; nnU-Net pools while 8 are left
MOST_LEVELS = 6
LARGEST_PATCH_IN_TIME = {2: 160, 3: 64}  # where minutes are given: more steps teach more than wider patches
BATCH_SIZES = (2, 16)
BATCH_IN_TIME = {2: 4, 3: 2}
FOREGROUND_SHARE = 0.33
BORDER_WEIGHT = 10
BATCH_SHARE = 0.05  # of all pixels; larger batches would see the same over and over
OBJECT_SIDES = 3  # of a window: an object and as much around it on each side
WINDOWS = {2: (15, 65), 3: (11, 25)}  # training's work grows with the window's area or volume
WINDOW_BATCHES = {2: (256, 128, 64, 32), 3: (96, 48, 24)}
WINDOW_FEATURES = {2: (32, 32, 48), 3: (24, 32, 48)}  # the last for all deeper levels
TILES = {2: (1024, 768, 512, 384, 256, 192, 128), 3: (192, 160, 128, 96, 64, 48, 32)}


@dataclass(frozen=True)
class Budget:
    """What a step and a tile may take.

    Args:
        memory_bytes: of the device.
        device: that it is for.
        minutes: that a run may take; None: as long as its steps do.
    """

    memory_bytes: int
    device: torch.device
    minutes: float | None = None

    @property
    def bases(self) -> tuple[int, ...]:
        """Features of a U-Net's first level, the widest first."""
        return FEATURES[self.device.type] if self.minutes is None else FEATURES_IN_TIME

    def text(self, taken: int) -> str:
        """Taken of allowed, in GB."""
        return f"{taken / 1e9:.2g} of {self.memory_bytes / 1e9:.2g} GB"


Levels = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class PlannedUNet:
    """Features and kernels of each level, strides of each step down, and a patch that such a U-Net takes."""

    features: tuple[int, ...]
    kernels: Levels
    strides: Levels
    patch: tuple[int, ...]

    def choices(self, batch: int) -> Choices:
        """As keys of the config."""
        return {
            "model.features": Choice(list(self.features)),
            "model.kernels": Choice(_unless_all(self.kernels, 3)),
            "model.strides": Choice(_unless_all(self.strides, 2)),
            "sampling.patch_size": Choice(list(self.patch)),
            "trainer.batch_size": Choice(batch),
        }


def choose_unet(overview: DatasetSummary, values: dict[str, Any], budget: Budget) -> Choices:
    """Patch, levels, features and batch of a U-Net: the largest patch that fits, of the widest network that it fits in.

    Source: Isensee et al. 2021 (nnU-Net).

    Raises:
        ConfigError: not even the smallest fits.
    """

    def fits(network: PlannedUNet) -> bool:
        return _unet_bytes(network, BATCH_SIZES[0], values, budget) <= budget.memory_bytes

    for base in budget.bases:
        networks = list(shrinking_networks(overview, base, in_time=budget.minutes is not None))
        first = bisect_left(networks, True, key=fits)  # each takes less than the one before it
        if first < len(networks) and (base == budget.bases[-1] or _is_fast(networks[first], values, budget)):
            return _largest_batch(overview, values, networks[first], budget)
    raise _too_little(budget, _unet_bytes(networks[-1], BATCH_SIZES[0], values, budget))


def shrinking_networks(overview: DatasetSummary, base: int, *, in_time: bool = False) -> Iterator[PlannedUNet]:
    """From the largest patch wanted to the smallest; each step shortens the axis that keeps most of its image."""
    smallest = SMALLEST_PATCH[overview.dimensions]
    sides = _largest_patch(overview, in_time)
    while True:
        strides, kernels = downsampling_steps(sides, overview.spacing_um or (1.0,) * overview.dimensions)
        features = tuple(min(base * 2**level, MOST_FEATURES[overview.dimensions]) for level in range(len(kernels)))
        section = UNetSection(name="unet", features=features, kernels=kernels, strides=strides)
        patch = tuple(section.axis(number).legal_size(side) for number, side in enumerate(sides))
        yield PlannedUNet(features, kernels, strides, patch)
        longer = [axis for axis, side in enumerate(sides) if side > smallest]
        if not longer:
            return
        axis = max(longer, key=lambda axis: patch[axis] / overview.shape[axis])
        sides = (*sides[:axis], max(smallest, sides[axis] - section.axis(axis).stride), *sides[axis + 1 :])


def downsampling_steps(sides: tuple[int, ...], spacing_um: tuple[float, ...]) -> tuple[Levels, Levels]:
    """Strides of each step down, and kernels of each level, of a patch of such sides.

    An axis is halved while it has twice SMALLEST_BOTTOM pixels, three times where it would be the only one, and its spacing is
    less than twice the finest among such axes. Its kernel is 1 until its spacing is less than twice the finest, and 3 from
    there on. At least one step is taken.

    Source: Isensee et al. 2021 (nnU-Net), supplementary note on network topology.
    """
    strides: list[tuple[int, ...]] = []
    kernels: list[tuple[int, ...]] = []
    kernel: tuple[int, ...] = (1,) * len(sides)
    while len(strides) < MOST_LEVELS - 1:
        stride = _step_down(sides, spacing_um)
        if max(stride) == 1:
            if strides:
                break
            stride = (2,) * len(sides)
        kernel = tuple(3 if step < 2 * min(spacing_um) else size for step, size in zip(spacing_um, kernel, strict=True))
        strides.append(stride)
        kernels.append(kernel)
        sides = tuple(math.ceil(side / step) for side, step in zip(sides, stride, strict=True))
        spacing_um = tuple(map(operator.mul, spacing_um, stride))
    return tuple(strides), (*kernels, (3,) * len(sides))


def choose_window(overview: DatasetSummary, values: dict[str, Any], budget: Budget) -> Choices:
    """Window, convolutions and batch of a sliding window: as wide as objects ask for, narrower where it doesn't fit.

    Raises:
        ConfigError: not even the smallest fits.
    """
    smallest, largest = WINDOWS[overview.dimensions]
    sides = overview.object_px or (smallest,)
    wanted = OBJECT_SIDES * sum(sides) / len(sides)
    least = 0
    for window in range(min(max(2 * round(wanted / 2 - 0.5) + 1, smallest), largest), smallest - 1, -2):
        for batch in WINDOW_BATCHES[overview.dimensions]:
            choices = _window(window, batch, overview.dimensions)
            least = training_bytes(_config(values, choices), budget.device)
            if least <= budget.memory_bytes:
                return _window_explained(choices, overview, budget.text(least))
    raise _too_little(budget, least)


def window_convolutions(window: int, dimensions: int) -> list[dict[str, int]]:
    """Convolutions, each with a max-pool of 2 after it, that leave 1 to 3 pixels of the window and drop none at a pool."""
    features = WINDOW_FEATURES[dimensions]
    found: list[dict[str, int]] = []
    while window > 3:
        kernel = 4 if window % 2 else 3
        found.append({"features": features[min(len(found), len(features) - 1)], "kernel": kernel})
        window = (window - kernel + 1) // 2
    return found


def choose_tile(overview: DatasetSummary, values: dict[str, Any], choices: Choices, budget: Budget) -> Choices:
    """The largest tile with which the largest image fits, no larger than that image; left open where tiles are exact.

    Raises:
        ConfigError: not even the smallest fits.
    """
    taken = 0
    for side in TILES[overview.dimensions]:
        tile = {"inference.tile_size": Choice([min(side, -(-longest // 16) * 16) for longest in overview.largest])}
        taken = inference_bytes(_config(values, {**choices, **tile}), overview.largest, budget.device)
        if taken <= budget.memory_bytes:
            reason = f"the largest image, {_by(overview.largest)}, takes {budget.text(taken)}"
            if side >= DEFAULT_TILE_SIZE[overview.dimensions] and not shape_only_predictor(_config(values, choices)).blends:
                return {"inference.tile_size": Choice(None, "tiles are exact: as large as memory allows where they are used")}
            return {"inference.tile_size": Choice(tile["inference.tile_size"].value, reason)}
    raise _too_little(budget, taken)


def choose_objects(method: str, overview: DatasetSummary, choices: Choices) -> Choices:
    """How objects that touch come apart, and how a mask becomes objects; nothing where references don't number them.

    A U-Net's loss weighs what lies between objects. A sliding window's doesn't: windows there are few, and weighing them much
    makes all borders background (benchmarks/README.md).
    """
    if not choices["data.instances"].value or overview.object_px is None:
        return {}
    side = sum(overview.object_px) / len(overview.object_px)
    apart = {"loss.border_weight": Choice(BORDER_WEIGHT, "the U-Net paper's, so that objects that touch come apart")}
    quarter = f"a quarter of an object's median side of {side:.3g} px"
    return {
        **(apart if method == "unet" else {}),
        "inference.objects": Choice("watershed", "references number objects"),
        "inference.object_sigma_px": Choice(round(side / 4, 1), quarter),
        "inference.smallest_object_px": Choice(round((side / 4) ** overview.dimensions), f"{quarter} along each axis"),
    }


def choose_length(values: dict[str, Any], choices: Choices, budget: Budget) -> Choices:
    """The keys that say how long the run is and what it learns from; none where it isn't the minutes that do."""
    if budget.minutes is None:
        return {}
    config = _config(values, choices)
    schedule = choose_schedule(budget.minutes, steps_in(budget.minutes, config, budget.device))
    return {**choose_augmentation(config.patch_size), **schedule}


def _step_down(sides: tuple[int, ...], spacing_um: tuple[float, ...]) -> tuple[int, ...]:
    """2 on each axis that is halved, 1 on the others."""
    long = [side >= 2 * SMALLEST_BOTTOM for side in sides]
    finest = min(itertools.compress(spacing_um, long), default=0.0)
    halved = [enough and step < 2 * finest for enough, step in zip(long, spacing_um, strict=True)]
    if sum(halved) == 1 and sides[halved.index(True)] < 3 * SMALLEST_BOTTOM:
        return (1,) * len(sides)
    return tuple(1 + half for half in halved)


def _unless_all(levels: Levels, usual: int) -> list[list[int]] | None:
    """None where every size is the usual one, as the config has it."""
    return None if all(size == usual for level in levels for size in level) else [list(level) for level in levels]


def _largest_patch(overview: DatasetSummary, in_time: bool) -> tuple[int, ...]:
    """As long on each axis in micrometres, as far as the median image reaches."""
    side = (LARGEST_PATCH_IN_TIME if in_time else LARGEST_PATCH)[overview.dimensions]
    spacing = overview.spacing_um or (1.0,) * overview.dimensions
    mean = math.prod(spacing) ** (1 / len(spacing))
    return tuple(min(size, max(1, round(side * mean / step))) for size, step in zip(overview.shape, spacing, strict=True))


def _is_fast(network: PlannedUNet, values: dict[str, Any], budget: Budget) -> bool:
    """Whether the minutes, if they are given, are enough for it."""
    if budget.minutes is None:
        return True
    config = _config(values, network.choices(BATCH_IN_TIME[len(network.patch)]))
    return steps_in(budget.minutes, config, budget.device) >= ENOUGH_STEPS[len(network.patch)]


def _largest_batch(overview: DatasetSummary, values: dict[str, Any], network: PlannedUNet, budget: Budget) -> Choices:
    """With as many patches as fit and as BATCH_SHARE allows; with few where minutes count."""
    least, most = BATCH_SIZES
    if budget.minutes is not None:
        most = BATCH_IN_TIME[overview.dimensions]
    allowed = min(most, max(least, int(BATCH_SHARE * overview.pixels / math.prod(network.patch))))
    batches = range(least + 1, allowed + 1)
    too_large = bisect_left(batches, True, key=lambda batch: _unet_bytes(network, batch, values, budget) > budget.memory_bytes)
    batch = least + too_large
    return _unet_explained(overview, network, batch, values, budget)


def _unet_bytes(network: PlannedUNet, batch: int, values: dict[str, Any], budget: Budget) -> int:
    return training_bytes(_config(values, network.choices(batch)), budget.device)


def _unet_explained(
    overview: DatasetSummary, network: PlannedUNet, batch: int, values: dict[str, Any], budget: Budget
) -> Choices:
    taken = budget.text(_unet_bytes(network, batch, values, budget))
    wanted = _largest_patch(overview, budget.minutes is not None)
    shrunk = math.prod(network.patch) < math.prod(wanted)
    patch = f"the median image is {_by(overview.shape)}, {_by(wanted)} of it were wanted"
    halvings = [steps.count(2) for steps in zip(*network.strides, strict=True)]
    reasons = {
        "model.features": f"{len(network.strides)} steps down, twice the features after each",
        "model.kernels": "1 on an axis until its pixels are less than twice as long as the finest, 3 from there on",
        "model.strides": f"axes are halved {_by(halvings)} times, as often as size and spacing of each allow",
        "sampling.patch_size": f"{patch}; shrunk until a step takes {taken}" if shrunk else f"{patch}; a step takes {taken}",
        "trainer.batch_size": f"at most {BATCH_SHARE:.0%} of all pixels, at least {BATCH_SIZES[0]}; a step takes {taken}",
    }
    chosen = {key: Choice(choice.value, reasons[key]) for key, choice in network.choices(batch).items()}
    return {**chosen, "sampling.foreground_share": Choice(FOREGROUND_SHARE, "a third of each batch, nnU-Net's rule")}


def _window(window: int, batch: int, dimensions: int) -> Choices:
    return {
        "model.window": Choice(window),
        "model.convolutions": Choice(window_convolutions(window, dimensions)),
        "model.pool": Choice(2),
        "trainer.batch_size": Choice(batch),
    }


def _window_explained(choices: Choices, overview: DatasetSummary, taken: str) -> Choices:
    smallest, largest = WINDOWS[overview.dimensions]
    objects = f"{OBJECT_SIDES} times an object's median side"
    sides = f" ({' x '.join(f'{side:.3g}' for side in overview.object_px)})" if overview.object_px else ""
    reasons = {
        "model.window": f"{objects}{sides}, odd, within {smallest} .. {largest}; a step takes {taken}",
        "model.convolutions": "kernels that leave 1 to 3 pixels of the window and drop none at a pool",
        "trainer.batch_size": f"a step takes {taken}",
    }
    return {key: Choice(choice.value, reasons.get(key, "")) for key, choice in choices.items()}


def _config(values: dict[str, Any], choices: Choices) -> Config:
    """The config that the values and the choices make."""
    sections = {name: dict(section) for name, section in values.items()}
    for key, choice in choices.items():
        section, name = key.split(".")
        sections[section][name] = choice.value
    return schema.parse(sections, origin="plan")


def _too_little(budget: Budget, least: int) -> ConfigError:
    enough = math.ceil(least / 1e7) * 10
    return ConfigError(
        f"--memory: {budget.memory_bytes / 1e6:.0f} MB hold no network for these images; the smallest takes {enough} MB: "
        f"give --memory {enough}MB or more"
    )


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
