"""Scores of labels of whole images, from the table that `overtile predict` writes."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.cases import Case
from datasets.labels.counts import join_first
from evaluation.metrics.classification import LabelledImages
from evaluation.scoring.selection import Selection
from evaluation.scoring.table import Score
from imaging.errors import DataError

PROBABILITY = "probability "  # before a label, in the name of its column


def score_labels(table: Path, cases: Sequence[Case], labels: Sequence[str], selection: Selection) -> tuple[Score, ...]:
    """Return the scores of the images' labels in a table, over all cases that have a label.

    Args:
        table: CSV with columns image and label, and a column `probability NAME` for each label where they are known; images
            are named like their case or their file.
        cases: cases with labels.
        labels: names of the labels.
        selection: the metrics.

    Raises:
        DataError: `labels_invalid`: the table can't be read, lacks an image, or has a label or probability that is none.
    """
    rows = _read_rows(table)
    labelled = [case for case in cases if case.label in labels]
    found = [next((rows[name] for name in (case.name, case.images[0].name) if name in rows), None) for case in labelled]
    missing = [case.name for case, row in zip(labelled, found, strict=True) if row is None]
    if missing:
        raise DataError(
            "labels_invalid", f"{table}: no line for {join_first(missing)}; predict all images, or remove the table"
        )
    unknown = sorted({row["label"] for row in found if row and row["label"] not in labels})
    if unknown:
        raise DataError(
            "labels_invalid", f"{table}: label {join_first(unknown)}; allowed are {', '.join(labels)}, as in cases.csv"
        )
    columns = [f"{PROBABILITY}{label}" for label in labels]
    rows_found = [row for row in found if row is not None]
    images = LabelledImages(
        reference=np.array([labels.index(case.label or "") for case in labelled], np.int64),
        predicted=np.array([labels.index(row["label"]) for row in rows_found], np.int64),
        classes=len(labels),
        probabilities=_probabilities(table, rows_found, columns),
    )
    return tuple(
        Score("", None, metric.name, "", metric.function(images), metric.unit)
        for metric in selection.metrics
        if metric.kind == "image_labels"
    )


def _read_rows(table: Path) -> dict[str, dict[str, str]]:
    """Return the rows of the table by image; an apostrophe before a formula is left out."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = [{key: (value or "").removeprefix("'") for key, value in row.items() if key} for row in csv.DictReader(file)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError("labels_invalid", f"{table}: can't be read as CSV in UTF-8; write it again") from error
    if not all("image" in row and "label" in row for row in rows):
        raise DataError("labels_invalid", f"{table}: has no columns image and label; write it again, or remove it")
    return {row["image"]: row for row in rows}


def _probabilities(table: Path, rows: Sequence[dict[str, str]], columns: Sequence[str]) -> NDArray[np.float64] | None:
    """Return the probabilities (N, L) of the labels; None where the table lacks a column of them."""
    if not all(column in row for row in rows for column in columns):
        return None
    try:
        return np.array([[float(row[column]) for column in columns] for row in rows]).reshape(len(rows), len(columns))
    except ValueError as error:
        raise DataError("labels_invalid", f"{table}: a probability is no number; write it again") from error
