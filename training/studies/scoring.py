"""Scores of a study's bundles on the held-out cases, kept in its folder so that a stopped study does not repeat them."""

import json
import math
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from datasets.cases import Case, open_case_image, prefix_errors
from disk.publish import publish
from evaluation.comparison.cost import multiply_adds_patch_by_patch, multiply_adds_per_pixel
from evaluation.comparison.held_out import check_not_trained_on
from evaluation.comparison.measurement import SegmentationJob, TilesDone, measure
from evaluation.scoring.array_source import ArraySource
from evaluation.scoring.case_scores import CaseMask, score_case
from evaluation.scoring.selection import ReferenceKind, Selection, select_metrics
from evaluation.scoring.table import Score, ScoreTable, tables_to_json
from inference.compatibility import at_trained_spacing
from inference.objects.find import number_objects
from models import bundle
from models.architectures import count_parameters
from training.studies.result import PointCost

SCORES = "scores"  # in the study's folder
STUDY_METRICS = ("dice", "assd")  # overlap, and how far the boundaries are from the reference's


def study_selection(config: Config, names: Sequence[str] = ()) -> Selection:
    """Return the metrics of a study: the chosen ones, or Dice and boundary distance, and the PQ of numbered objects.

    Raises:
        ConfigError: an unknown name.
    """
    classes = tuple(section.name for section in config.data.classes)
    kind = ReferenceKind(classes, instances=config.data.instances, ordered=config.head.kind == "ordinal")
    return select_metrics(kind, names or (*STUDY_METRICS, *(("pq",) if config.data.instances else ())))


def score_bundle(
    folder: Path, cases: Sequence[Case], selection: Selection, out: Path, on_tiles: TilesDone | None = None
) -> tuple[ScoreTable, PointCost]:
    """Segment the cases with a bundle in a process of its own, and return their scores and the cost.

    Args:
        folder: the bundle.
        cases: held-out cases.
        selection: the metrics.
        out: file without its ending for the scores and the cost; existing ones are read instead of segmenting again.
        on_tiles: called with the number of finished tiles.

    Raises:
        DataError: training saw a case, or a case can't be read or doesn't suit the bundle; the message names the case.
    """
    scores_path, cost_path = out.with_suffix(".json"), out.with_name(f"{out.name}_cost.json")
    if scores_path.exists() and cost_path.exists():
        return read_table(scores_path), PointCost(**json.loads(cost_path.read_text()))
    loaded = bundle.load(folder)
    check_not_trained_on(cases, [loaded])
    scores: list[Score] = []
    shapes = []
    with tempfile.TemporaryDirectory(prefix="overtile-study-") as masks_folder:
        masks = tuple(Path(masks_folder, f"{number}.npy") for number in range(len(cases)))
        measurement = measure(SegmentationJob(folder, tuple(cases), masks), on_tiles)
        for case, mask in zip(cases, masks, strict=True):
            with prefix_errors(case), open_case_image(case) as image:
                spacing_um = image.spacing_um
                shapes.append(at_trained_spacing(image, loaded.config.data).shape)
            scores += score_case(case, case_mask(np.load(mask, mmap_mode="r"), loaded.config, spacing_um), selection)
    cost = PointCost(
        seconds_per_image=math.fsum(measurement.seconds) / len(cases),
        multiply_adds_per_pixel=multiply_adds_per_pixel(loaded.config, shapes),
        patch_by_patch_per_pixel=multiply_adds_patch_by_patch(loaded.config),
        parameters=sum(map(count_parameters, loaded.networks)),
    )
    table = ScoreTable(out.name, tuple(scores))
    out.parent.mkdir(parents=True, exist_ok=True)
    publish(cost_path, partial(Path.write_text, data=json.dumps(vars(cost))))
    write_table(table, scores_path)
    return table, cost


def case_mask(mask: NDArray[np.uint8], config: Config, spacing_um: tuple[float, ...] | None) -> CaseMask:
    """Return a mask (*S) for scoring, with its numbered objects where the references number theirs."""
    objects = number_objects(mask, config.inference)[None] if config.data.instances else None
    return CaseMask(ArraySource(mask[None], spacing_um), None if objects is None else ArraySource(objects, spacing_um))


def write_table(table: ScoreTable, path: Path) -> None:
    """Write the scores of one method."""
    path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, partial(Path.write_text, data=tables_to_json([table])))


def read_table(path: Path) -> ScoreTable:
    """Read the scores that `write_table` wrote."""
    rows = json.loads(path.read_text())["scores"]
    scores = tuple(
        Score(
            case=row["case"],
            group=row["group"],
            metric=row["metric"],
            class_name=row["class"],
            value=math.nan if row["value"] is None else row["value"],
            unit=row["unit"],
            remark=row["remark"],
        )
        for row in rows
    )
    return ScoreTable(path.stem, scores)
