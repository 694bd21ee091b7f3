"""The folder `watch` of a run: its history and the pictures of its page, on the disk so that a resumed run has them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HISTORY, CAPTIONS = "history.jsonl", "captions.json"
MOST_VALIDATIONS = 24  # whose masks stay on the disk
STEP = "step"

Entry = dict[str, Any]


class MonitoringFolder:
    """History, captions and pictures of a run, in memory and on the disk.

    An entry of the history has `step` and `seconds`, and either the means of training (`loss` and others) or the `scores` of
    a validation.

    Args:
        folder: `watch` in the run's folder; `open` creates it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: list[Entry] = []
        self.captions: dict[str, list[Any]] = {}

    def open(self, step: int) -> None:
        """Read what earlier sessions wrote, and drop what the run will repeat.

        That is everything after `step`, and the validation at `step`: a checkpoint is written before its validation.

        Raises:
            OSError: the folder can't be created, read or written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        entries = read_history(self.folder)
        self.entries = [entry for entry in entries if entry[STEP] < step or (entry[STEP] == step and "scores" not in entry)]
        if len(self.entries) < len(entries):
            lines = "".join(json.dumps(entry) + "\n" for entry in self.entries)
            replace_file(self.folder / HISTORY, lines.encode())
        for path in self.folder.glob("mask*.png"):
            if step_of_mask(path) > step:
                path.unlink()
        self.captions = read_captions(self.folder)

    def append(self, entry: Entry) -> None:
        """Append an entry to the history.

        Raises:
            OSError: the entry can't be written; it is in `entries` nevertheless.
        """
        self.entries.append(entry)
        with (self.folder / HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def set_captions(self, kind: str, captions: list[Any]) -> None:
        """Store the captions of the pictures of one kind: `cases`, `batch` or `levels`."""
        self.captions[kind] = captions
        replace_file(self.folder / CAPTIONS, json.dumps(self.captions).encode())

    def write_picture(self, name: str, png: bytes) -> None:
        """Write a picture, in place of an earlier one of that name."""
        replace_file(self.folder / name, png)

    def limit_masks(self, best: int | None) -> None:
        """Delete masks until those of at most MOST_VALIDATIONS steps are left, spread evenly, the best step among them."""
        remaining = set(evenly_spaced(mask_steps(self.folder), best, MOST_VALIDATIONS))
        for path in self.folder.glob("mask*.png"):
            if step_of_mask(path) not in remaining:
                path.unlink()


def mask_name(case: int, step: int) -> str:
    """Return the file name of a tracked case's mask at a step."""
    return f"mask{case}_{step:09d}.png"


def step_of_mask(path: Path) -> int:
    """Return the step in the name of a mask's file."""
    return int(path.stem.partition("_")[2])


def mask_steps(folder: Path) -> list[int]:
    """Return the steps at which there are masks, in rising order."""
    return sorted({step_of_mask(path) for path in folder.glob("mask*.png")})


def evenly_spaced(steps: Sequence[int], best: int | None, most: int) -> list[int]:
    """Return at most `most` of the rising steps: the first, the last, the best, and those nearest to even spacing."""
    if len(steps) <= most:
        return list(steps)
    targets = [steps[0] + (steps[-1] - steps[0]) * place / (most - 2) for place in range(most - 1)]
    nearest = {min(steps, key=lambda step: abs(step - target)) for target in targets}
    return sorted(nearest | {step for step in steps if step == best})


def read_history(folder: Path) -> list[Entry]:
    """Return the entries in order, without lines that a kill or a full disk cut off."""
    path = folder / HISTORY
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get(STEP), int):
            entries.append(entry)
    return entries


def read_captions(folder: Path) -> dict[str, list[Any]]:
    """Return the captions of the pictures by their kind; an empty dictionary if they can't be read."""
    try:
        captions = json.loads((folder / CAPTIONS).read_bytes())
    except (OSError, ValueError):
        return {}
    return captions if isinstance(captions, dict) else {}


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically, without waiting until it reaches the disk: training goes first.

    Raises:
        OSError: the file can't be written; the earlier one stays.
    """
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
