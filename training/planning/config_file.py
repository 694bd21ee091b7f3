"""Write a plan as a config file: the shipped config of that method and dimension, with the chosen values and their reasons.

The comments of all keys thus stand in the shipped files only; the reasons of a plan stand above the lines that they explain.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from configs import schema
from training.planning.data_choices import Choice, Choices

_SECTION = re.compile(r"(?P<name>\w+):$")
_KEY = re.compile(r"  (?P<name>\w+):(?: +(?P<value>[^#\s][^#]*?))?(?: +(?P<comment># .*))?$")
COMMENT_COLUMN = 30


def shipped_config(method: str, dimensions: int) -> str:
    """Return the text of the shipped config of this method and number of dimensions."""
    name = f"{'histology' if dimensions == 2 else 'mri'}_{method}.yaml"
    return (Path(schema.__file__).parent / name).read_text(encoding="utf-8")


def config_text(method: str, dimensions: int, choices: Choices, heading: str) -> str:
    """Return the text of a config: every line of the shipped one, with the choices in place of its values."""
    lines = [f"# {heading}"]
    section, is_replaced = "", False
    for line in shipped_config(method, dimensions).splitlines()[1:]:
        if match := _SECTION.match(line):
            section, is_replaced = match["name"], False
        elif match := _KEY.match(line):
            key = f"{section}.{match['name']}"
            is_replaced = key in choices
            if is_replaced:
                lines += _key_lines(match["name"], choices[key], match["comment"] or "")
                continue
        elif is_replaced and line.startswith("    "):
            continue  # an item of a list that the choice replaces
        lines.append(line)
    return "\n".join(lines) + "\n"


def _key_lines(name: str, choice: Choice, comment: str) -> Iterator[str]:
    """Yield the reason as a comment, then the key with its value and the shipped comment, then items of a list of mappings."""
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
