"""Small configs and data sets made by hand, for the tests of evaluation."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from configs import schema
from configs.schema import Config

UNET = {"name": "unet", "features": [4, 8]}
WINDOW = {
    "name": "sliding_window",
    "window": 9,
    "convolutions": [{"features": 4, "kernel": 2}, {"features": 4, "kernel": 3}],
    "hidden": 4,
}
COLOURS = ("#000000", "#d6249f", "#0a9e73", "#0072b2")

MakeBundle = Callable[..., Path]


def make_config(name: str, model: dict[str, Any], *, dimensions: int = 2, classes: int = 2, **sections: Any) -> Config:
    data = {
        "path": "data",
        "dimensions": dimensions,
        "channels": ["red", "green", "blue"] if dimensions == 2 else ["T1"],
        "classes": [{"name": f"class{label}", "colour": COLOURS[label]} for label in range(classes)],
    }
    if model["name"] == "unet":
        sections.setdefault("sampling", {"patch_size": [32] * dimensions})
    data.update(sections.pop("data", {}))
    return schema.parse({"run": {"name": name, "seed": 7}, "data": data, "model": model, **sections}, "test")


def edit_cases(data: Path, change: Callable[[list[dict[str, str]]], None]) -> None:
    """Change the rows of cases.csv."""
    path = data / "cases.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
