"""Scores of the validation cases by the network that a run publishes: all metrics that suit its classes."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from configs.schema import Config
from datasets.cases import Case, prefix_errors
from evaluation.scoring.case_scores import CaseScorer
from evaluation.scoring.scored_cases import reference_kind
from evaluation.scoring.selection import Selection, select_metrics
from evaluation.scoring.summary import summarise
from evaluation.scoring.table import Score, ScoreTable
from evaluation.scoring.whole_case import model_objects
from imaging.errors import DataError
from inference.plan import plan_image
from inference.predictors.predictor import Predictor
from inference.segment import bands
from models.bundle_metrics import BundleMetrics
from training.clock import Clock
from training.data.open_cases import open_labelled_image

SHARE = 0.1  # of the training's time
LEAST_S = 10.0  # whatever the training took
SCORING_VALIDATIONS = 1.0  # time that a run with a time limit reserves for scoring, in validations
SCORING_ERRORS = (DataError, ValueError, RuntimeError, MemoryError)  # such as a structure that is too large for the memory
ORDER_SEED = 0  # of the order of the cases, so that those that are scored in time are of all kinds


def scoring_limit_s(clock: Clock) -> float:
    """Return the time for scoring: a tenth of what the training took, within the run's own time limit."""
    limit_s = max(LEAST_S, SHARE * clock.seconds)
    return limit_s if clock.max_seconds is None else max(0.0, min(limit_s, clock.max_seconds - clock.seconds))


def score_validation(config: Config, predictor: Predictor, cases: Sequence[Case], limit_s: float) -> BundleMetrics | None:
    """Return the scores of validation cases, as many as the time allows; None for a network that gives values.

    Args:
        config: the run's.
        predictor: of the final network.
        cases: validation cases.
        limit_s: time after which no further case is begun.
    """
    if predictor.head.gives_values:
        return None
    classes = tuple(section.name for section in config.data.classes)
    kind = reference_kind(config, classes, instances=config.data.instances)
    overlap = config.head.kind == "multi_label"
    selection = select_metrics(replace(kind, image_labels=(), probabilities=not overlap))
    scores: dict[str, tuple[Score, ...]] = {}
    notes, start_s = [], time.monotonic()
    for index in np.random.default_rng(ORDER_SEED).permutation(len(cases)):
        case = cases[index]
        if time.monotonic() - start_s >= limit_s:
            break
        try:
            scores[case.name] = _score_case(case, config, predictor, selection)
        except SCORING_ERRORS as error:  # the bundle is worth more than the scores of a case
            notes.append(f"Not scored: case {case.name}: {error or 'not enough memory'}")
    left_out = [case.name for case in cases if case.name not in scores]
    if len(left_out) > len(notes):
        notes.append(
            f"{len(left_out)} of {len(cases)} validation cases are not scored, since that would have taken longer than "
            f"{limit_s:.0f} s."
        )
    table = ScoreTable(config.run.name, tuple(score for case in cases for score in scores.get(case.name, ())))
    return summarise(table, left_out=left_out, notes=notes)


def _score_case(case: Case, config: Config, predictor: Predictor, selection: Selection) -> tuple[Score, ...]:
    """Segment a case and score its mask; objects are found as the model finds them."""
    head, overlap = predictor.head, config.head.kind == "multi_label"
    labelled = open_labelled_image(case, config, numbered=config.data.instances)
    with labelled.image as image, labelled.reference as reference, prefix_errors(case), torch.inference_mode():
        finder = model_objects(config.inference) if config.data.instances else None
        scorer = CaseScorer(case, reference, selection, image.spacing_um, find_objects=finder)
        for band in bands(plan_image(image, predictor)):
            labels = (band.logits > 0).astype(np.uint8) if overlap else head.mask(band.logits)[None]
            probabilities = None if overlap else head.probabilities(band.logits)
            scorer.add(labels, reference.read(scorer.next_rows(labels.shape[1])), probabilities=probabilities)
        return tuple(scorer.scores())
