"""Evaluation of a folder of masks against the references of a data set."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from datasets.cases import Case, open_case_image
from datasets.inputs import skipped_text
from datasets.labels.counts import join_first
from evaluation.metrics.registry import METRICS
from evaluation.scoring.array_source import ArraySource
from evaluation.scoring.case_scores import TOO_LARGE, CaseMask, score_case
from evaluation.scoring.label_scores import score_labels
from evaluation.scoring.mask_files import FoundMasks, find_masks
from evaluation.scoring.mask_values import MaskValues, count_mask_values, open_mask, values_of_masks
from evaluation.scoring.scored_cases import ScoredCases
from evaluation.scoring.selection import Selection
from evaluation.scoring.table import Score, ScoreTable, tables_to_csv, tables_to_json
from imaging.errors import DataError
from inference.predict import LABELS

Missing = Literal["refuse", "empty", "leave-out"]
Progress = Callable[[str, int, int], None]  # called with what is done, the cases done, and the cases in all

NO_MASK = "no_mask"  # remark: the case has no mask, and is scored as one without foreground
MOST_PROBLEMS = 10  # in a message
MOST_COLUMNS = 6  # of classes in the printed table
WITHOUT_VALUES = {  # by the kind of metric
    "calibration": "masks hold no probabilities",
    "ordinal": "classes that overlap are no grades",
}


@dataclass(frozen=True)
class Evaluation:
    """Scores of a folder of masks, and notes that a reader of them must know."""

    table: ScoreTable
    notes: tuple[str, ...]


@dataclass(frozen=True)
class MaskFolder:
    """Masks of a folder that were found to lie on the images of their cases.

    Args:
        found: the masks by case.
        values: meaning of their values.
        notes: what a reader of the scores must know about them.
    """

    found: FoundMasks
    values: MaskValues
    notes: tuple[str, ...]

    @contextmanager
    def open(self, case: Case) -> Iterator[CaseMask]:
        """Open the mask of a case; without one, a mask without foreground.

        Raises:
            DataError: see `open_mask`.
        """
        with ExitStack() as stack:
            path = self.found.by_case.get(case.name)
            if path is None:
                with open_case_image(case) as image:
                    yield CaseMask(ArraySource(np.broadcast_to(np.uint8(0), (1, *image.shape))))
            else:
                yield open_mask(path, case, self.values, stack)


def read_mask_folder(
    folder: Path, scored: ScoredCases, missing: Missing = "refuse", on_progress: Progress | None = None
) -> MaskFolder:
    """Find the masks of a folder, check that each lies on its image, and find out what their values mean.

    Args:
        folder: folder of masks.
        scored: the cases.
        missing: what happens to cases without a mask: the folder is refused, they are empty, or they are left out.
        on_progress: called after each mask.

    Raises:
        DataError: `masks_not_found`, `masks_doubled`, `masks_missing`, `mask_labels_unknown`; `masks_unusable`: masks that
            can't be read or don't lie on their images, with each reason.
    """
    found = find_masks(folder, scored.cases, scored.others)
    notes = []
    if found.missing:
        text = f"{len(found.missing)} of {len(scored.cases)} cases have no mask: {join_first(found.missing)}"
        if missing == "refuse":
            raise DataError(
                "masks_missing",
                f"{text}; add them, choose another --split, or say with --missing empty that they have no foreground, or "
                "with --missing leave-out that they do not count",
            )
        notes.append(f"{text}. They {'count as masks without foreground' if missing == 'empty' else 'are left out'}.")
    if found.extra:
        notes.append(f"Files of no case are left out: {skipped_text(found.extra)}.")
    counts = _read_values(found, scored, on_progress)
    values = values_of_masks(scored.cases[0], counts) if counts else MaskValues()
    return MaskFolder(found, values, (*notes, *([values.note] if values.note else ())))


def _read_values(found: FoundMasks, scored: ScoredCases, on_progress: Progress | None) -> list[tuple[int, ...]]:
    """Return the values that occur in each mask, but in outlines and colours; every mask is read once.

    Raises:
        DataError: `masks_unusable`.
    """
    counts, problems = [], []
    cases = [case for case in scored.cases if case.name in found.by_case]
    for number, case in enumerate(cases, start=1):
        path = found.by_case[case.name]
        try:
            values = count_mask_values(path, case)
            counts += [] if values is None else [values]
        except DataError as error:
            text = str(error).replace("reference holds", "the mask holds")  # as readers of labels say
            problems.append(f"{path.name} of case {case.name}: {text}")
        if on_progress:
            on_progress("masks", number, len(cases))
    if problems:
        more = [f"and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []
        raise DataError("masks_unusable", "\n".join((*problems[:MOST_PROBLEMS], *more)))
    return counts


def evaluate_masks(
    folder: Path,
    scored: ScoredCases,
    selection: Selection,
    missing: Missing = "refuse",
    on_progress: Progress | None = None,
) -> Evaluation:
    """Score the masks of a folder, and the labels of whole images if it has a labels.csv.

    Raises:
        DataError: as `read_mask_folder`, `score_case` and `score_labels`.
    """
    masks = read_mask_folder(folder, scored, missing, on_progress)
    scores: list[Score] = []
    cases = [case for case in scored.cases if missing != "leave-out" or case.name in masks.found.by_case]
    for number, case in enumerate(cases, start=1):
        with masks.open(case) as mask:
            case_scores = score_case(case, mask, selection)
        if case.name in masks.found.missing:
            case_scores = tuple(replace(score, remark=NO_MASK) for score in case_scores)
        scores += case_scores
        if on_progress:
            on_progress("cases", number, len(cases))
    labels = folder / LABELS
    pooled = score_labels(labels, cases, scored.kind.image_labels, selection) if labels.is_file() else ()
    table = ScoreTable(folder.resolve().name, tuple(scores), pooled)
    return Evaluation(table, (*scored.notes, *masks.notes, *_notes_on_values(table, selection)))


def _notes_on_values(table: ScoreTable, selection: Selection) -> Iterator[str]:
    """Yield notes on selected metrics that masks can't have, and on cases that are too large for some."""
    present = {score.metric for score in (*table.scores, *table.pooled)}
    for metric in selection.metrics:
        if metric.name not in present and metric.kind != "image_labels":
            yield f"{metric.title} is left out: {WITHOUT_VALUES.get(metric.kind, 'it has no values')}."
    too_large = sorted({score.case for score in table.scores if score.remark == TOO_LARGE})
    if too_large:
        which = f"{len(too_large)} of {len(table.cases)} cases: {join_first(too_large)}"
        yield f"Some metrics of surfaces or objects have no value, since the image or a structure is too large, in {which}."


def print_scores(evaluation: Evaluation, console: Console) -> None:
    """Print the mean of each metric over the cases, all classes together and each of a few classes, and the notes."""
    scores = evaluation.table
    classes = [name for name in dict.fromkeys(score.class_name for score in scores.scores) if name]
    columns = classes if 1 < len(classes) <= MOST_COLUMNS else []
    table = Table("metric", "unit", "mean", *columns, "cases", box=None)
    for metric in scores.metrics:
        values = [value for value in scores.case_values(metric).values() if not math.isnan(value)]
        means = [scores.mean(metric), *(scores.mean(metric, name) for name in columns)]
        cells = ["" if math.isnan(mean) else f"{mean:.4g}" for mean in means]
        table.add_row(METRICS[metric].title, scores.unit_of(metric), *cells, str(len(values)))
    for score in scores.pooled:
        cells = ["" if math.isnan(score.value) else f"{score.value:.4g}", *[""] * len(columns)]
        table.add_row(METRICS[score.metric].title, score.unit, *cells, "all")
    console.print(table)
    for note in evaluation.notes:
        console.print(f"note: {note}")


def write_tables(tables: Sequence[ScoreTable], page: Path) -> tuple[Path, Path]:
    """Write all scores as CSV and JSON beside a page, and return both paths.

    Raises:
        OSError: a file can't be written.
    """
    csv_path, json_path = page.with_suffix(".csv"), page.with_suffix(".json")
    csv_path.write_text(tables_to_csv(tables), encoding="utf-8")
    json_path.write_text(tables_to_json(tables), encoding="utf-8")
    return csv_path, json_path
