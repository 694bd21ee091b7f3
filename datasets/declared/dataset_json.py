"""Declaration in dataset.json, of nnU-Net and of the Medical Segmentation Decathlon.

Source: nnU-Net's documentation/dataset_format.md, ignore_label.md and region_based_training.md.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.declared.declaration import BACKGROUND, Declaration, DeclaredClass
from imaging.errors import DataError

IGNORED = "ignore"  # nnU-Net's name for pixels that nobody labelled


def read_description(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: `cases_invalid`.
    """
    try:
        description = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("cases_invalid", f"{path} can't be read as JSON; export it again") from error
    if isinstance(description, dict):
        return description
    raise DataError("cases_invalid", f"{path} isn't an object of keys and values; export it again")


def declaration_of(description: Mapping[str, Any], path: Path) -> Declaration:
    """Return what a dataset.json declares.

    Labels are {"0": "background"} (Decathlon) or {"background": 0} (nnU-Net, where a region is a list of labels). Channels are
    `channel_names`, or `modality` in older files.

    Raises:
        DataError: `cases_invalid`: labels or channels that aren't of these kinds, or two classes with one label.
    """
    values = _values_by_name(description.get("labels"), path)
    ignored = values.pop(IGNORED, None)
    if ignored and len(ignored) != 1:
        raise _invalid(path, f"the label {IGNORED!r} is {list(ignored)}; give it one label")
    classes = tuple(DeclaredClass(name, numbers) for name, numbers in values.items())
    if classes and not any(0 in declared.values for declared in classes):
        classes = (DeclaredClass(BACKGROUND, (0,)), *classes)
    has_regions = any(len(declared.values) > 1 for declared in classes)
    if has_regions:
        classes = tuple(sorted(classes, key=lambda declared: 0 not in declared.values))
    else:
        classes = tuple(sorted(classes, key=lambda declared: declared.values))
    numbers = [number for declared in classes for number in declared.values]
    overlap = len(set(numbers)) < len(numbers)
    if overlap and not has_regions:
        raise _invalid(path, "two classes have one label; give each its own")
    return Declaration(
        origin=path.name,
        classes=classes,
        ignored=ignored[0] if ignored else None,
        channels=_channel_names(description.get("channel_names", description.get("modality")), path),
        overlap=overlap,
        training_cases=_whole(description.get("numTraining")),
    )


def _values_by_name(labels: object, path: Path) -> dict[str, tuple[int, ...]]:
    """Return the labels of each class by its name."""
    if labels is None:
        return {}
    if not isinstance(labels, dict):
        raise _invalid(path, f'the labels are {labels!r}; give them as {{"background": 0, "tumour": 1}}')
    values: dict[str, tuple[int, ...]] = {}
    for key, value in labels.items():
        by_label = _whole(key) is not None and isinstance(value, str)
        name = str(value) if by_label else str(key)
        listed: Sequence[object] = [key] if by_label else value if isinstance(value, list) else [value]
        numbers = [number for item in listed if (number := _whole(item)) is not None]
        if len(numbers) < len(listed) or not numbers:
            raise _invalid(path, f"the label of {name!r} is {value!r}; give a whole number from 0 on, or a list of them")
        if name in values:
            raise _invalid(path, f"the class {name!r} comes twice; give each class a name of its own")
        values[name] = tuple(numbers)
    return values


def _channel_names(channels: object, path: Path) -> tuple[str, ...]:
    """Return names in the order of their channels, of {"0": "CT"} or a list."""
    if channels is None:
        return ()
    if isinstance(channels, list):
        return tuple(map(str, channels))
    if isinstance(channels, dict):
        numbers = {_whole(key): str(name) for key, name in channels.items()}
        if set(numbers) == set(range(len(channels))):
            return tuple(numbers[number] for number in range(len(channels)))
    raise _invalid(path, f'the channels are {channels!r}; give them as {{"0": "CT", "1": "PET"}}')


def _whole(value: object) -> int | None:
    """Return a whole number from 0 on, also where it is written as text; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value >= 0 else None
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else None


def _invalid(path: Path, problem: str) -> DataError:
    return DataError("cases_invalid", f"{path}: {problem}")
