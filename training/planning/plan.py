"""Plan a training: facts of a data set -> a commented config, by nnU-Net's rules and within a budget of memory and time."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import OmegaConf

from configs import schema
from configs.schema import ConfigError
from datasets.annotations import is_annotation
from datasets.cases import Case, read_cases
from datasets.declared.declaration import Declaration
from datasets.discovery.rows import OWN_COLUMNS, Columns
from datasets.fingerprint import CaseFacts
from imaging.errors import DataError
from training.planning.budget import Budget, values_with
from training.planning.class_choices import choose_classes
from training.planning.config_file import config_text, shipped_config
from training.planning.data_choices import (
    Choice,
    choose_channels,
    choose_normalisation,
    choose_spacing,
    summarise_cases,
)
from training.planning.inference_choices import choose_objects, choose_tile
from training.planning.time_budget import choose_length
from training.planning.unet_choices import choose_unet
from training.planning.window_choices import choose_window

SUMMARY_FIELDS = {"data.classes": "name", "model.convolutions": "kernel"}  # shown of each item of a list


@dataclass(frozen=True)
class PlanRequest:
    """The user's options; what is left empty is derived from the data.

    Args:
        path: path of the data set, as written into the config.
        method: unet or sliding_window.
        memory_bytes: limit of a training step and of a tile.
        minutes: limit of a run on this machine; None: no limit.
        channels: names of the channels.
        classes: names of the classes, background first.
        name: name of the run.
        ignore_label: label of pixels that nobody labelled.
        columns: columns of the table that hold groups and labels.
    """

    path: Path
    method: Literal["unet", "sliding_window"] = "unet"
    memory_bytes: int = 8 * 10**9
    minutes: float | None = None
    channels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    name: str = ""
    ignore_label: int | None = None
    columns: Columns = OWN_COLUMNS


@dataclass(frozen=True)
class Plan:
    """The text of the config, and a summary of one line for each choice that has a reason."""

    text: str
    summary: str


def planning_cases(
    folder: Path, classes: Sequence[str] = (), ignore_label: int | None = None, columns: Columns | None = None
) -> tuple[Case, ...]:
    """Return the cases that a plan may use: those with a reference and not of split `test`.

    Args:
        folder: the data set.
        classes: names of the classes, which replace those of references that name their classes themselves.
        ignore_label: label of pixels that nobody labelled, where the data set declares none.
        columns: columns of the table that hold groups and labels.

    Raises:
        ConfigError: the data set declares another ignored label.
        DataError: there is no such case, or the data set can't be read.
    """
    cases = tuple(case for case in read_cases(folder, columns=columns) if case.reference is not None and case.split != "test")
    if not cases:
        raise DataError(
            "split_empty", "no case outside split 'test' has a reference; a plan is based on images with references"
        )
    declaration = cases[0].declaration
    if classes and (is_annotation(cases[0].reference) if cases[0].reference else False):
        cases = tuple(replace(case, classes=tuple(classes)) for case in cases)
    if ignore_label is None:
        return cases
    if declaration and declaration.classes:
        raise ConfigError(
            f"--ignore: {declaration.origin} declares the classes, and the ignored label {declaration.ignored}; change it "
            "there, or in the planned config"
        )
    return tuple(replace(case, ignore_label=ignore_label) for case in cases)


def plan(
    facts: Sequence[CaseFacts],
    request: PlanRequest,
    device: torch.device,
    declaration: Declaration | None = None,
    labels: Collection[str] = (),
) -> Plan:
    """Return a config for these cases that can be trained as it is.

    Args:
        facts: facts of the cases.
        request: the user's options.
        device: device that the run uses.
        declaration: what the data set declares.
        labels: labels of the whole images, which the run learns where the request names their column.

    Raises:
        ConfigError: names that don't fit the data, or a budget that no network fits in.
        DataError: cases that differ in dimensions or channels, or have no foreground, or labels that aren't clear.
    """
    if declaration and declaration.overlap and request.method == "sliding_window":
        regions = ", ".join(declaration.names[1:])
        raise ConfigError(
            f"--method: the sliding window doesn't train classes that overlap, and {declaration.origin} declares {regions}; "
            "use unet, or declare classes without a common label"
        )
    summary = summarise_cases(facts)
    default_name = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{request.path.resolve().name}_{request.method}").lstrip("._-")
    choices = {
        "run.name": Choice(request.name or default_name),
        "data.path": Choice(str(request.path)),
        "data.dimensions": Choice(summary.dimensions),
        "data.channels": choose_channels(summary, request.channels, declaration),
        **choose_classes(facts, request.classes, declaration, request.ignore_label),
        "data.spacing_um": choose_spacing(facts, summary),
        "data.group_column": Choice(request.columns.group),
        "data.label_column": Choice(request.columns.label),
    }
    if request.columns.label:
        choices["image_label.classes"] = Choice(sorted(labels), f"values of column {request.columns.label}")
    declared = declaration.channels if declaration and not request.channels else ()
    choices |= choose_normalisation(facts, summary, choices["data.channels"].value, declared)
    shipped: Any = OmegaConf.to_container(OmegaConf.create(shipped_config(request.method, summary.dimensions)))
    values = values_with(shipped, choices)
    budget = Budget(request.memory_bytes, device, request.minutes)
    choose_network = choose_unet if request.method == "unet" else choose_window
    choices |= choose_network(summary, values, budget)
    choices |= choose_objects(request.method, summary, choices)
    choices |= choose_length(values, choices, budget)
    choices |= choose_tile(summary, values, choices, budget)
    heading = (
        f"Planned from {summary.cases} cases for {request.memory_bytes / 1e9:.3g} GB of memory; comments above keys give the "
        "reasons. Every key may be overridden: overtile train CONFIG trainer.max_steps=500"
    )
    text = config_text(request.method, summary.dimensions, choices, heading)
    schema.parse(OmegaConf.to_container(OmegaConf.create(text)), origin="plan")
    lines = []
    for key, choice in choices.items():
        field = SUMMARY_FIELDS.get(key)
        value = [item[field] for item in choice.value] if field else choice.value
        if choice.reason:
            lines.append(f"  {key}: {value} ({choice.reason})")
    return Plan(text, "\n".join(lines))


def write_config(text: str, path: Path) -> None:
    """Write a config and create missing folders; an existing file is never replaced.

    Raises:
        ConfigError: the file exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{path}: exists, and may have been edited; choose another name or remove it") from error
