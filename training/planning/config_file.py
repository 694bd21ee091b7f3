"""A plan -> a config file that explains itself: the shipped experiment of that method and dimension, its values exchanged.

The shipped files are where the comments of all keys stand, once; a plan's own reasons go over the lines that they are about.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from configs import schema
from training.planning.data_choices import Choices

SHIPPED = Path(schema.__file__).parent
_SECTION = re.compile(r"(?P<name>\w+):$")
_KEY = re.compile(r"  (?P<name>\w+):(?: +(?P<value>[^#\s][^#]*?))?(?: +(?P<comment># .*))?$")
COMMENT_COLUMN = 30


def write_out(method: str, dimensions: int, choices: Choices, heading: str) -> str:
    """The text of a config: every line of the shipped one, with what was chosen in place of its values."""
    lines = shipped(method, dimensions).splitlines()
    return "\n".join([f"# {heading}", *_lines(lines[1:], choices)]) + "\n"


def shipped(method: str, dimensions: int) -> str:
    """The text of the shipped experiment of that method and dimension."""
    name = f"{'histology' if dimensions == 2 else 'mri'}_{method}.yaml"
    return (SHIPPED / name).read_text(encoding="utf-8")


def _lines(lines: list[str], choices: Choices) -> Iterator[str]:
    section, replaced = "", False
    for line in lines:
        if match := _SECTION.match(line):
            section, replaced = match["name"], False
        elif match := _KEY.match(line):
            key = f"{section}.{match['name']}"
            replaced = key in choices
            if replaced:
                yield from _chosen(match["name"], choices, key, match["comment"] or "")
                continue
        elif replaced and line.startswith("    "):
            continue  # an item of a list that was chosen anew
        yield line


def _chosen(name: str, choices: Choices, key: str, comment: str) -> Iterator[str]:
    choice = choices[key]
    if choice.reason:
        yield f"  # {choice.reason}:"
    items = choice.value if isinstance(choice.value, list) and isinstance(choice.value[0], dict) else []
    start = f"  {name}:" if items else f"  {name}: {_yaml(choice.value)}"
    yield f"{start:<{COMMENT_COLUMN}}{comment}".rstrip() if len(start) < COMMENT_COLUMN else f"{start} {comment}".rstrip()
    for item in items:
        yield f"    - {_yaml(item)}"


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True)
    return text.removesuffix("...\n").strip()
