"""The limits of a plan in memory and time, and helpers that all choices under those limits share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from configs import schema
from configs.schema import Config, ConfigError
from training.planning.data_choices import Choices


@dataclass(frozen=True)
class Budget:
    """Memory and time that a training step, a tile and a run may take.

    Args:
        memory_bytes: limit of a training step and of a tile.
        device: the device that has this memory.
        minutes: limit of a run; None: no limit, the number of steps ends the run.
    """

    memory_bytes: int
    device: torch.device
    minutes: float | None = None

    def usage(self, used_bytes: int) -> str:
        """Return the used and the allowed memory as text, such as `1.2 of 8 GB`."""
        return f"{used_bytes / 1e9:.2g} of {self.memory_bytes / 1e9:.2g} GB"

    def too_small(self, smallest_bytes: int) -> ConfigError:
        """Return the error for a budget in which no network fits, with the memory that the smallest one takes."""
        enough_mb = math.ceil(smallest_bytes / 1e7) * 10
        return ConfigError(
            f"--memory: no network for these images fits into {self.memory_bytes / 1e6:.0f} MB; the smallest takes "
            f"{enough_mb} MB: give --memory {enough_mb}MB or more"
        )


def values_with(values: dict[str, Any], choices: Choices) -> dict[str, Any]:
    """Return values by section and key, with the choices in place of those that they replace."""
    sections = {name: dict(section) for name, section in values.items()}
    for key, choice in choices.items():
        section, name = key.split(".")
        sections[section][name] = choice.value
    return sections


def config_with(values: dict[str, Any], choices: Choices) -> Config:
    """Return the config of `values_with` the choices."""
    return schema.parse(values_with(values, choices), origin="plan")


def format_sizes(sizes: Sequence[int]) -> str:
    """Return sizes with ` x ` between them."""
    return " x ".join(map(str, sizes))
