"""docs/config.md lists every key of the schema with its default, and no other key."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from configs.network_sections import SlidingWindowSection, UNetSection
from configs.schema import Config
from configs.sections import Section

PAGE = (Path(__file__).parents[2] / "docs/config.md").read_text(encoding="utf-8")
SECTIONS: dict[str, type[Section]] = {
    "`model` of a U-Net": UNetSection,
    "`model` of a sliding window": SlidingWindowSection,
    **{
        f"`{name}`": field.annotation
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    },
}
CONFIG_ROW = re.compile(r"^\| `(?P<key>[\w.]+)` \| (?P<type>[^|]+) \| (?P<default>[^|]+) \| [^|]+ \|$", re.MULTILINE)


def config_rows(title: str) -> dict[str, re.Match[str]]:
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return {match["key"].split(".")[1]: match for match in CONFIG_ROW.finditer(section)}


def yaml_of(value: Any) -> str:
    """Return a default as config.md writes it."""
    if isinstance(value, Section):
        return "{" + ", ".join(f"{key}: {yaml_of(each)}" for key, each in value) + "}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(yaml_of, value))}]"
    return {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)


@pytest.mark.parametrize(("title", "section"), SECTIONS.items(), ids=SECTIONS)
def test_config_page_has_every_key_of_the_schema_with_its_default(title: str, section: type[Section]) -> None:
    rows = config_rows(title)
    defaults = {
        key: "required" if field.is_required() else f"`{yaml_of(field.get_default(call_default_factory=True))}`"
        for key, field in section.model_fields.items()
    }
    assert {key: row["default"].strip() for key, row in rows.items()} == defaults


@pytest.mark.parametrize(("title", "section"), SECTIONS.items(), ids=SECTIONS)
def test_config_page_names_every_allowed_word(title: str, section: type[Section]) -> None:
    rows = config_rows(title)
    for key, field in section.model_fields.items():
        words = {word for word in literals_of(field.annotation) if isinstance(word, str)}
        assert {word for word in words if f"`{word}`" not in rows[key]["type"]} == set()


def literals_of(annotation: Any) -> set[Any]:
    values = {value for value in get_args(annotation) if isinstance(value, str | int)}
    return values.union(*(literals_of(each) for each in get_args(annotation) if not isinstance(each, str | int)))


def test_config_page_has_no_key_that_does_not_exist() -> None:
    rows = [match["key"] for match in CONFIG_ROW.finditer(PAGE)]
    assert len(rows) == sum(len(section.model_fields) for section in SECTIONS.values())
    assert len(re.findall(r"^\| `", PAGE, re.MULTILINE)) == len(rows)
