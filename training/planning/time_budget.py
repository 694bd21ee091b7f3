"""Plan a run by its minutes: the number of steps that fit, and a schedule and augmentation that suit a run of that length."""

import math
from typing import Any

import torch

from configs.schema import Config
from training.planning.budget import Budget, config_with
from training.planning.data_choices import Choice, Choices
from training.planning.step_time import seconds_per_step

TRAINING_SHARE = 0.75  # of the minutes; the rest goes to reading, cutting patches, validating and writing
ENOUGH_STEPS = {2: 3000, 3: 1000}  # least steps of a network, by dimensions; a wider one with fewer steps scores lower
VALIDATIONS = 8
AVERAGED_SHARE = 1 / 20  # share of the steps that the running mean of the weights covers
MOST_DECAY = 0.999
AUGMENTED_SHARE = 0.3  # of 2D patches, for each transform
ROTATION_DEGREES = 20  # in addition to quarter turns
LEARNING_RATE = 0.0015  # of 2D runs, which take many steps
PATIENCE = 1000  # validations; high, so that only the minutes end the run


def count_steps(minutes: float, config: Config, device: torch.device) -> int:
    """Return how many optimizer steps a run of this length does on this machine, from a measured time per step."""
    return max(1, int(minutes * 60 * TRAINING_SHARE / seconds_per_step(config, device)))


def choose_length(values: dict[str, Any], choices: Choices, budget: Budget) -> Choices:
    """Choose the schedule and the augmentation of a run by its minutes; empty where the budget has no minutes."""
    if budget.minutes is None:
        return {}
    config = config_with(values, choices)
    steps = count_steps(budget.minutes, config, budget.device)
    ema_decay = round(min(max(0.0, 1 - 1 / (AVERAGED_SHARE * steps)), MOST_DECAY), 4)
    augmentation = {}
    if config.data.dimensions == 2:
        augmentation["augment.probability"] = Choice(AUGMENTED_SHARE, "short runs: less augmentation")
        augmentation["optimizer.learning_rate"] = Choice(LEARNING_RATE, "lower than usual, since the run has many steps")
        if config.patch_size[0] == config.patch_size[1]:
            augmentation["augment.quarter_turns"] = Choice(True, "exact, without interpolation")
            augmentation["augment.rotation_degrees"] = Choice(ROTATION_DEGREES, "in addition to quarter turns")
    return {
        **augmentation,
        "trainer.max_steps": Choice(2 * steps, "twice as many steps as the minutes allow, so that the minutes end the run"),
        "trainer.max_minutes": Choice(budget.minutes, f"about {steps} steps, as measured on this machine"),
        "trainer.validate_every_steps": Choice(max(1, math.ceil(steps / VALIDATIONS)), f"about {VALIDATIONS} times in the run"),
        "trainer.patience": Choice(PATIENCE, "no early stopping, the minutes end the run"),
        "optimizer.ema_decay": Choice(ema_decay, f"averages over about {AVERAGED_SHARE:.0%} of the steps"),
    }
