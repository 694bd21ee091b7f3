"""How a run's minutes are spent: a network small enough to see enough patches in them, and a schedule of their length."""

import math

import torch

from configs.schema import Config
from training.planning.data_choices import Choice, Choices
from training.planning.step_time import seconds_a_step

TRAINING_SHARE = 0.75  # of the minutes; the rest reads the data, cuts patches, validates and writes
ENOUGH_STEPS = {2: 3000, 3: 1000}  # that a network is to have; a wider one that has fewer doesn't come as far
VALIDATIONS = 8
MEMORY_SHARE = 1 / 20  # of the steps that the running mean of the weights goes over
MOST_DECAY = 0.999
AUGMENTED_SHARE = 0.3  # of 2D patches, by each transform
ROTATION_DEGREES = 20  # beside quarter turns
LEARNING_RATE = 0.0015  # in 2D, where steps are many
PATIENCE = 1000  # validations: the minutes end the run, nothing else


def steps_in(minutes: float, config: Config, device: torch.device) -> int:
    """Optimizer steps that this machine does in so many minutes of a run, beside all else that a run does; measured."""
    return max(1, int(minutes * 60 * TRAINING_SHARE / seconds_a_step(config, device)))


def choose_schedule(minutes: float, steps: int) -> Choices:
    """The keys that say how long a run is and how it is watched, for about so many steps."""
    ema_decay = round(min(max(0.0, 1 - 1 / (MEMORY_SHARE * steps)), MOST_DECAY), 4)
    return {
        "trainer.max_steps": Choice(2 * steps, "the minutes end the run; so many only where it is twice as fast as measured"),
        "trainer.max_minutes": Choice(minutes, f"about {steps} steps, as measured on this machine"),
        "trainer.validate_every_steps": Choice(max(1, math.ceil(steps / VALIDATIONS)), f"some {VALIDATIONS} times in the run"),
        "trainer.patience": Choice(PATIENCE, "the minutes end the run"),
        "optimizer.ema_decay": Choice(ema_decay, f"a mean over {MEMORY_SHARE:.0%} of the steps"),
    }


def choose_augmentation(patch_size: tuple[int, ...]) -> Choices:
    """What a network learns in few minutes in 2D: less of what it won't meet, and turns that need no interpolation."""
    if len(patch_size) == 3:  # their slices can't be turned by 90 degrees
        return {}
    few = "few minutes teach more from images as they are"
    choices = {
        "augment.probability": Choice(AUGMENTED_SHARE, few),
        "optimizer.learning_rate": Choice(LEARNING_RATE, "steps are many"),
    }
    if patch_size[0] == patch_size[1]:
        choices["augment.quarter_turns"] = Choice(True, "exact, where other turns blur")
        choices["augment.rotation_degrees"] = Choice(ROTATION_DEGREES, "beside quarter turns")
    return choices
