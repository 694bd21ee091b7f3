"""A data set's facts -> a config that explains itself, by nnU-Net's rules and within a budget of memory."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import OmegaConf

from configs import schema
from configs.schema import ConfigError
from datasets.cases import Case, read_cases
from datasets.fingerprint import CaseFacts
from imaging.errors import DataError
from training.planning.config_file import shipped, write_out
from training.planning.data_choices import Choice, Choices, DatasetSummary, choose_data, summarise_cases
from training.planning.network_choices import Budget, choose_length, choose_objects, choose_tile, choose_unet, choose_window


@dataclass(frozen=True)
class PlanRequest:
    """What the user says; what is left empty is found out.

    Args:
        path: of the data set, as it is to stand in the config.
        method: unet or sliding_window.
        memory_bytes: that a training step and a tile may take.
        minutes: that a run may take on this machine; None: as long as its steps do.
        channels: their names.
        classes: their names, background first.
        name: of the run.
    """

    path: Path
    method: Literal["unet", "sliding_window"] = "unet"
    memory_bytes: int = 8 * 10**9
    minutes: float | None = None
    channels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Plan:
    """The config's text, and its gist in a few lines."""

    text: str
    summary: str


def planning_cases(folder: Path) -> tuple[Case, ...]:
    """The cases that training may see: with a reference, and not of split `test`.

    Raises:
        DataError: there is none, or the data set can't be read.
    """
    cases = tuple(case for case in read_cases(folder) if case.reference is not None and case.split != "test")
    if not cases:
        raise DataError("split_empty", "no case outside split 'test' has a reference; a plan goes by images with references")
    return cases


def plan(facts: Sequence[CaseFacts], wish: PlanRequest, device: torch.device) -> Plan:
    """A config for these cases, which loads as it is.

    Raises:
        ConfigError: names that don't fit the data, or a budget that no network fits in.
        DataError: cases that don't go together, or hold no foreground.
    """
    overview = summarise_cases(facts)
    choices = {**_run(wish), **choose_data(facts, overview, wish.channels, wish.classes)}
    values = _values(wish.method, overview, choices)
    budget = Budget(wish.memory_bytes, device, wish.minutes)
    choose_network = choose_unet if wish.method == "unet" else choose_window
    choices |= choose_network(overview, values, budget)
    choices |= choose_objects(wish.method, overview, choices)
    choices |= choose_length(values, choices, budget)
    choices |= choose_tile(overview, values, choices, budget)
    text = write_out(wish.method, overview.dimensions, choices, _heading(wish, overview))
    schema.parse(OmegaConf.to_container(OmegaConf.create(text)), origin="plan")
    return Plan(text, _summary(choices))


def write_config(text: str, path: Path) -> None:
    """Writes a config where there is no file yet.

    Raises:
        ConfigError: there is one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{path}: exists, and may have been edited; choose another name or remove it") from error


def _run(wish: PlanRequest) -> Choices:
    name = wish.name or re.sub(r"[^A-Za-z0-9._-]+", "_", f"{wish.path.resolve().name}_{wish.method}").lstrip("._-")
    return {"run.name": Choice(name), "data.path": Choice(str(wish.path))}


def _values(method: str, overview: DatasetSummary, choices: Choices) -> dict[str, Any]:
    """The shipped experiment's values, with what was chosen so far."""
    values: Any = OmegaConf.to_container(OmegaConf.create(shipped(method, overview.dimensions)))
    for key, choice in choices.items():
        section, name = key.split(".")
        values[section][name] = choice.value
    return dict(values)


def _heading(wish: PlanRequest, overview: DatasetSummary) -> str:
    return (
        f"Planned from {overview.cases} cases for {wish.memory_bytes / 1e9:.3g} GB of memory; the lines above keys say why. "
        "Every key may be overridden: overtile train CONFIG trainer.max_steps=500"
    )


def _summary(choices: Choices) -> str:
    lines = []
    for key, choice in choices.items():
        if choice.reason:
            value = [item["name"] for item in choice.value] if key == "data.classes" else choice.value
            value = [item["kernel"] for item in choice.value] if key == "model.convolutions" else value
            lines.append(f"  {key}: {value} ({choice.reason})")
    return "\n".join(lines)
