"""Small configs, data sets and comparisons made by hand, for the tests of evaluation."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

from configs import schema
from configs.schema import Config
from configs.sections import ClassSection
from evaluation.comparison.measurement import Machine, Measurement
from evaluation.comparison.pair_result import CaseResult, Comparison, MethodResult
from evaluation.comparison.paired_difference import paired_difference
from evaluation.comparison.threshold_baseline import ThresholdBaseline
from evaluation.comparison.verdict import Verdict
from evaluation.metrics.overlap import Overlaps

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


def method_result(label: str, method: str, cases: int) -> MethodResult:
    machine = Machine("Some CPU", 2, 2, "CPU", "Linux x86_64", {"Python": "3.11", "torch": "2.13"})
    return MethodResult(
        label=label,
        name=f"run_{method}",
        method=method,
        seed=3,
        parameters=31_030_658,
        training_steps=2000,
        training_seconds=754.0,
        commit=None,
        pooled=Overlaps((0.8,), (0.7,)),
        measurement=Measurement((0.25,) * cases, 500 * 2**20, 300 * 2**20, None, machine),
        multiply_adds_per_pixel=218_896.0,
        patch_by_patch_per_pixel=121_464_592 if method == "sliding_window" else None,
    )


def make_comparison(first: Sequence[float], second: Sequence[float], **changes: Any) -> Comparison:
    """Make a comparison with these Dice values of one foreground class."""
    cases = tuple(
        CaseResult(
            name=f"case{index}",
            group=None,
            shape=(100, 200),
            overlaps=(Overlaps((one,), (one / 2,)), Overlaps((other,), (other / 2,))),
            agreement=0.75,
            agreement_dice=0.5,
            empty=one != one,
        )
        for index, (one, other) in enumerate(zip(first, second, strict=True))
    )
    comparison = Comparison(
        data="a data set",
        split="test",
        dimensions=2,
        classes=(ClassSection(name="background", colour="#000000"), ClassSection(name="nucleus", colour="#d6249f")),
        spacing_um=(0.5, 0.5),
        methods=(method_result("U-Net", "unet", len(cases)), method_result("sliding window", "sliding_window", len(cases))),
        cases=cases,
        difference=paired_difference(first, second),
        baseline=ThresholdBaseline("darker", (0.4,) * len(cases), 0.4) if cases else ThresholdBaseline("darker", (), nan),
        baseline_omitted=None,
        notes=("A note.",),
        pictures=(),
        verdict=Verdict("The sentence.", ("A remark.",)),
    )
    return replace(comparison, **changes)
