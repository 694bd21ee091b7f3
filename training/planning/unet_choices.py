"""Choose the size of a U-Net and its patches: as large as the images ask for, shrunk until a training step fits in memory."""

import itertools
import math
import operator
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from configs.network_sections import UNetSection
from training.planning.budget import Budget, config_with, format_sizes
from training.planning.data_choices import Choice, Choices, DatasetSummary
from training.planning.step_memory import training_bytes
from training.planning.time_budget import ENOUGH_STEPS, count_steps

LARGEST_PATCH = {2: 512, 3: 128}  # side in pixels, by dimensions; isotropic in micrometres
LARGEST_PATCH_IN_TIME = {2: 160, 3: 64}  # with a limit in minutes: more steps help more than wider patches
SMALLEST_PATCH = {2: 64, 3: 32}  # side in pixels; below it a network with fewer features is tried
FEATURES = {"cpu": (16, 8), "cuda": (32, 16, 8)}  # of the first level, by device; half the features are a quarter of the work
FEATURES_IN_TIME = (32, 24, 16, 12, 8)  # with a limit in minutes, where steps are timed
MOST_FEATURES = {2: 512, 3: 320}
SMALLEST_BOTTOM = 4  # pixels per side at the lowest level; nnU-Net pools while 8 are left
MOST_LEVELS = 6
BATCH_SIZES = (2, 16)  # least and most
BATCH_IN_TIME = {2: 4, 3: 2}
BATCH_SHARE = 0.05  # of all pixels; larger batches would repeat the same pixels
FOREGROUND_SHARE = 0.33

Levels = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class PlannedUNet:
    """Features and kernel of each level, stride of each downsampling step, and the patch size of a U-Net."""

    features: tuple[int, ...]
    kernels: Levels
    strides: Levels
    patch: tuple[int, ...]

    def choices(self, batch: int) -> Choices:
        """Return the config keys of this network and batch size; kernels and strides are None where all are the default."""
        kernels = None if all(size == 3 for kernel in self.kernels for size in kernel) else list(map(list, self.kernels))
        strides = None if all(size == 2 for stride in self.strides for size in stride) else list(map(list, self.strides))
        return {
            "model.features": Choice(list(self.features)),
            "model.kernels": Choice(kernels),
            "model.strides": Choice(strides),
            "sampling.patch_size": Choice(list(self.patch)),
            "trainer.batch_size": Choice(batch),
        }


def choose_unet(summary: DatasetSummary, values: dict[str, Any], budget: Budget) -> Choices:
    """Choose patch, levels, features and batch of a U-Net: the largest patch that fits, of the widest network that fits it.

    Source: Isensee et al. 2021 (nnU-Net).

    Raises:
        ConfigError: not even the smallest network fits.
    """

    def fits(network: PlannedUNet) -> bool:
        return _step_bytes(network, BATCH_SIZES[0], values, budget) <= budget.memory_bytes

    def is_fast(network: PlannedUNet) -> bool:
        if budget.minutes is None:
            return True
        config = config_with(values, network.choices(BATCH_IN_TIME[summary.dimensions]))
        return count_steps(budget.minutes, config, budget.device) >= ENOUGH_STEPS[summary.dimensions]

    bases = FEATURES[budget.device.type] if budget.minutes is None else FEATURES_IN_TIME
    for base in bases:
        networks = list(shrinking_networks(summary, base, in_time=budget.minutes is not None))
        first = bisect_left(networks, True, key=fits)  # each takes less memory than the one before it
        if first < len(networks) and (base == bases[-1] or is_fast(networks[first])):
            batch = _largest_batch(summary, values, networks[first], budget)
            return _with_reasons(summary, networks[first], batch, values, budget)
    raise budget.too_small(_step_bytes(networks[-1], BATCH_SIZES[0], values, budget))


def shrinking_networks(summary: DatasetSummary, base: int, *, in_time: bool = False) -> Iterator[PlannedUNet]:
    """Yield networks from the largest patch to the smallest; each step shortens the axis that covers most of the image."""
    smallest = SMALLEST_PATCH[summary.dimensions]
    sides = _largest_patch(summary, in_time)
    while True:
        strides, kernels = downsampling_steps(sides, summary.spacing_um or (1.0,) * summary.dimensions)
        features = tuple(min(base * 2**level, MOST_FEATURES[summary.dimensions]) for level in range(len(kernels)))
        section = UNetSection(name="unet", features=features, kernels=kernels, strides=strides)
        patch = tuple(section.axis(number).legal_size(side) for number, side in enumerate(sides))
        yield PlannedUNet(features, kernels, strides, patch)
        longer = [axis for axis, side in enumerate(sides) if side > smallest]
        if not longer:
            return
        axis = max(longer, key=lambda axis: patch[axis] / summary.shape[axis])
        sides = (*sides[:axis], max(smallest, sides[axis] - section.axis(axis).stride), *sides[axis + 1 :])


def downsampling_steps(sides: tuple[int, ...], spacing_um: tuple[float, ...]) -> tuple[Levels, Levels]:
    """Return the stride of each downsampling step and the kernel of each level, for a patch with these sides.

    An axis is halved while it has at least twice SMALLEST_BOTTOM pixels (three times if it is the only one halved) and its
    spacing is less than twice the finest among such axes. Its kernel is 1 until its spacing is less than twice the finest,
    and 3 from there on. There is at least one step.

    Source: Isensee et al. 2021 (nnU-Net), supplementary note on network topology.
    """
    strides: list[tuple[int, ...]] = []
    kernels: list[tuple[int, ...]] = []
    kernel: tuple[int, ...] = (1,) * len(sides)
    while len(strides) < MOST_LEVELS - 1:
        stride = _next_stride(sides, spacing_um)
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


def _next_stride(sides: tuple[int, ...], spacing_um: tuple[float, ...]) -> tuple[int, ...]:
    """Return 2 for each axis that is halved, 1 for the others."""
    long = [side >= 2 * SMALLEST_BOTTOM for side in sides]
    finest = min(itertools.compress(spacing_um, long), default=0.0)
    halved = [enough and step < 2 * finest for enough, step in zip(long, spacing_um, strict=True)]
    if sum(halved) == 1 and sides[halved.index(True)] < 3 * SMALLEST_BOTTOM:
        return (1,) * len(sides)
    return tuple(2 if half else 1 for half in halved)


def _largest_patch(summary: DatasetSummary, in_time: bool) -> tuple[int, ...]:
    """Return the largest patch: equally long on each axis in micrometres, and no larger than the median image."""
    side = (LARGEST_PATCH_IN_TIME if in_time else LARGEST_PATCH)[summary.dimensions]
    spacing = summary.spacing_um or (1.0,) * summary.dimensions
    mean = math.prod(spacing) ** (1 / len(spacing))
    return tuple(min(size, max(1, round(side * mean / step))) for size, step in zip(summary.shape, spacing, strict=True))


def _largest_batch(summary: DatasetSummary, values: dict[str, Any], network: PlannedUNet, budget: Budget) -> int:
    """Return the largest batch that fits in memory, within BATCH_SHARE; at most BATCH_IN_TIME with a limit in minutes."""
    least, most = BATCH_SIZES
    if budget.minutes is not None:
        most = BATCH_IN_TIME[summary.dimensions]
    allowed = min(most, max(least, int(BATCH_SHARE * summary.pixels / math.prod(network.patch))))
    batches = range(least + 1, allowed + 1)
    return least + bisect_left(
        batches, True, key=lambda batch: _step_bytes(network, batch, values, budget) > budget.memory_bytes
    )


def _step_bytes(network: PlannedUNet, batch: int, values: dict[str, Any], budget: Budget) -> int:
    return training_bytes(config_with(values, network.choices(batch)), budget.device)


def _with_reasons(summary: DatasetSummary, network: PlannedUNet, batch: int, values: dict[str, Any], budget: Budget) -> Choices:
    usage = budget.usage(_step_bytes(network, batch, values, budget))
    largest = _largest_patch(summary, budget.minutes is not None)
    shrunk = "shrunk until " if math.prod(network.patch) < math.prod(largest) else ""
    halvings = [steps.count(2) for steps in zip(*network.strides, strict=True)]
    reasons = {
        "model.features": f"{len(network.strides)} downsampling steps; the features double at each",
        "model.kernels": "1 on an axis while its spacing is at least twice the finest, 3 from there on",
        "model.strides": f"axes are halved {format_sizes(halvings)} times, as far as their size and spacing allow",
        "sampling.patch_size": (
            f"median image: {format_sizes(summary.shape)}, largest patch for it: {format_sizes(largest)}; "
            f"{shrunk}a step takes {usage}"
        ),
        "trainer.batch_size": f"at most {BATCH_SHARE:.0%} of all pixels, at least {BATCH_SIZES[0]}; a step takes {usage}",
    }
    choices = {key: Choice(choice.value, reasons[key]) for key, choice in network.choices(batch).items()}
    return {**choices, "sampling.foreground_share": Choice(FOREGROUND_SHARE, "one third of each batch, as in nnU-Net")}
