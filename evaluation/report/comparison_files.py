"""Files of a comparison: the report, and beside it every number as CSV and JSON."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from evaluation.comparison.result import Comparison, Cost
from evaluation.report.comparison_page import render_comparison
from evaluation.report.html_page import write_page
from evaluation.scoring.evaluate import write_tables
from evaluation.scoring.table import tables_to_json

PAIR_COLUMNS = (
    "metric", "first", "second", "first_mean", "second_mean", "difference", "interval_low", "interval_high", "unit",
    "units", "p_value", "corrected_p", "cohens_dz", "rank_biserial", "wins", "ties", "losses",
)  # fmt: skip


def write_comparison(comparison: Comparison, path: Path) -> tuple[Path, ...]:
    """Write the report of a comparison and, beside it, its numbers; return all paths.

    The scores are a CSV, the statistics of all pairs of methods another one, and a JSON file has both and the costs.

    Raises:
        OSError: a file can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scores, numbers = write_tables([method.table for method in comparison.methods], path)
    pairs = path.with_name(f"{path.stem}_pairs.csv")
    write_page(render_comparison(comparison, files=(scores.name, pairs.name, numbers.name)), path)
    pairs.write_text(pairs_to_csv(comparison), encoding="utf-8")
    numbers.write_text(comparison_to_json(comparison), encoding="utf-8")
    return path, scores, pairs, numbers


def pairs_to_csv(comparison: Comparison) -> str:
    """Return the statistics of all pairs of methods as CSV, one line for each pair and metric; what isn't defined is empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, PAIR_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in _pair_rows(comparison):
        writer.writerow({name: "" if value is None else value for name, value in row.items()})
    return file.getvalue()


def comparison_to_json(comparison: Comparison) -> str:
    """Return every number of a comparison as JSON, with null where a value isn't defined."""
    contents = {
        "data": comparison.data,
        "split": comparison.split,
        "headline": comparison.headline,
        "verdict": [comparison.verdict.sentence, *comparison.verdict.remarks],
        "notes": comparison.notes,
        "family": comparison.family,
        "methods": [_method_row(method.label, method.kind, method.cost) for method in comparison.methods],
        "pairs": _pair_rows(comparison),
        "agreements": [
            {
                "first": comparison.methods[agreement.first].label,
                "second": comparison.methods[agreement.second].label,
                "equal_pixels": _number(agreement.equal_pixels),
                "dice": _number(agreement.mean_dice),
            }
            for agreement in comparison.agreements
        ],
        **json.loads(tables_to_json(method.table for method in comparison.methods)),
    }
    return json.dumps(contents, indent=1, allow_nan=False)


def _pair_rows(comparison: Comparison) -> list[dict[str, Any]]:
    rows = []
    for pair in comparison.pairs:
        paired = pair.difference
        low, high = paired.interval or (None, None)
        values = (
            pair.metric, comparison.methods[pair.first].label, comparison.methods[pair.second].label,
            _number(paired.means[0]), _number(paired.means[1]), _number(paired.mean), low, high, paired.unit, paired.units,
            paired.p_value, pair.corrected_p, _number(paired.cohens_dz), _number(paired.rank_biserial),
            paired.wins, paired.ties, paired.losses,
        )  # fmt: skip
        rows.append(dict(zip(PAIR_COLUMNS, values, strict=True)))
    return rows


def _method_row(label: str, kind: str, cost: Cost | None) -> dict[str, Any]:
    if cost is None:
        return {"label": label, "kind": kind}
    return {
        "label": label,
        "kind": kind,
        "seconds": list(cost.measurement.seconds),
        "patch_by_patch_seconds": cost.patch_by_patch_seconds,
        "working_bytes": cost.measurement.working_bytes,
        "peak_bytes": cost.measurement.peak_bytes,
        "device_bytes": cost.measurement.device_bytes,
        "multiply_adds_per_pixel": cost.multiply_adds_per_pixel,
        "patch_by_patch_per_pixel": cost.patch_by_patch_per_pixel,
        "parameters": cost.parameters,
        "training_seconds": cost.training_seconds,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
