"""runs/NAME/watch: the history of a run and the pictures of its page, there again when a killed run goes on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HISTORY, CAPTIONS = "history.jsonl", "captions.json"
KEPT = 24  # validations whose masks stay on the disk, evenly over the run, the best among them
STEP = "step"

Entry = dict[str, Any]


class WatchFolder:
    """What was seen of a run so far.

    An entry of the history has `step` and `seconds`, and either what training was like (`loss` and others), or `scores` of
    a validation.

    Args:
        folder: `watch` in the run's; made by `begin`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: list[Entry] = []
        self.captions: dict[str, list[Any]] = {}

    def begin(self, step: int) -> None:
        """Reads what earlier sittings left, and drops what will be done anew: what came after `step`, and its validation.

        Raises:
            OSError: the folder can't be made, read or written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        found = read_history(self.folder)
        self.entries = [entry for entry in found if entry[STEP] < step or (entry[STEP] == step and "scores" not in entry)]
        if len(self.entries) < len(found):
            lines = "".join(json.dumps(entry) + "\n" for entry in self.entries)
            replace(self.folder / HISTORY, lines.encode())
        for path in self.folder.glob("mask*.png"):
            if step_of(path) > step:
                path.unlink()
        self.captions = read_captions(self.folder)

    def add(self, entry: Entry) -> None:
        """Appends to the history.

        Raises:
            OSError: it can't be written; it is in `entries` all the same.
        """
        self.entries.append(entry)
        with (self.folder / HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def caption(self, what: str, words: list[Any]) -> None:
        """Keeps what stands with pictures: names and shapes."""
        self.captions[what] = words
        replace(self.folder / CAPTIONS, json.dumps(self.captions).encode())

    def add_picture(self, name: str, png: bytes) -> None:
        """Writes or replaces a picture."""
        replace(self.folder / name, png)

    def thin(self, best: int | None) -> None:
        """Keeps masks of a bounded number of validations."""
        steps = mask_steps(self.folder)
        kept = set(evenly(steps, best, KEPT))
        for path in self.folder.glob("mask*.png"):
            if step_of(path) not in kept:
                path.unlink()


def mask_name(case: int, step: int) -> str:
    """The file of a watched case's mask at a step."""
    return f"mask{case}_{step:09d}.png"


def step_of(path: Path) -> int:
    """Of a mask's file."""
    return int(path.stem.partition("_")[2])


def mask_steps(folder: Path) -> list[int]:
    """At which there are masks, rising."""
    return sorted({step_of(path) for path in folder.glob("mask*.png")})


def evenly(steps: Sequence[int], best: int | None, most: int) -> list[int]:
    """At most so many of the rising steps: the first, the last, the best, and those nearest to even steps between."""
    if len(steps) <= most:
        return list(steps)
    wanted = [steps[0] + (steps[-1] - steps[0]) * place / (most - 2) for place in range(most - 1)]
    chosen = {min(steps, key=lambda step: abs(step - target)) for target in wanted}
    return sorted(chosen | {step for step in steps if step == best})


def read_history(folder: Path) -> list[Entry]:
    """The entries in order; a line that was cut off by a kill or a full disk is left out."""
    path = folder / HISTORY
    if not path.is_file():
        return []
    entries = (_entry(line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return [entry for entry in entries if entry]


def _entry(line: str) -> Entry | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get(STEP), int) else None


def read_captions(folder: Path) -> dict[str, list[Any]]:
    """What stands with the pictures; nothing where it can't be read."""
    try:
        captions = json.loads((folder / CAPTIONS).read_bytes())
    except (OSError, ValueError):
        return {}
    return captions if isinstance(captions, dict) else {}


def replace(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all; no page is worth waiting for the disk.

    Raises:
        OSError: it can't be written; what was there stays.
    """
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
