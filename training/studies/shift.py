"""Study of shifts: both methods on the held-out images as other scanners, stains and settings would have made them."""

from collections.abc import Iterator, Sequence

import numpy as np

from configs.command_line import progress_bars
from configs.schema import ConfigError
from datasets.cases import open_case_image, prefix_errors
from evaluation.comparison.methods import METHOD_TITLES
from evaluation.metrics.registry import METRICS
from evaluation.number_text import score
from evaluation.scoring.array_source import ArraySource
from evaluation.scoring.case_scores import score_case
from evaluation.scoring.table import Score, ScoreTable
from imaging.source import ImageSource
from inference.plan import AnyPredictor
from inference.predictors.ensemble import predictors_of
from inference.predictors.loading import load_predictor
from inference.segment import segment_array
from models import bundle
from training.studies.result import StudyPoint, StudyResult, goodness
from training.studies.runs import METHODS, StudyRun
from training.studies.scoring import SCORES, case_mask, read_table, write_table
from training.studies.study import Study
from transforms.shifts import SHIFTS, Shift
from transforms.warp import Floats


def study_shift(study: Study, names: Sequence[str] = ()) -> StudyResult:
    """Train both methods, and return their scores on the held-out images under graded shifts.

    Args:
        study: the study's config, cases and folder.
        names: names of shifts; empty: all that suit the images.

    Raises:
        ConfigError: a shift is unknown, or doesn't suit the images.
        ConfigError, DataError, NumericError, StorageError, Stopped: as `train` does.
    """
    shifts = select_shifts(names, len(study.config.data.channels), study.config.data.dimensions)
    runs = [StudyRun(method, method) for method in METHODS]
    bundles = study.train(runs)
    points: list[StudyPoint] = []
    for run in runs:
        predictor = load_predictor(bundle.load(bundles[run.name]))
        points += _shifted_points(study, run, predictor, shifts)
    return StudyResult(
        title="Shifts of the images",
        question="How well does each method hold when images differ from those of the training?",
        answer=tuple(_answer(points, shifts, study.metrics[0])),
        settings_title="strength of the shift",
        metrics=study.metrics,
        points=tuple(point for shift in shifts for point in points if point.panel == shift.title),
        notes=(*study.notes, "The images are shifted as they were read, before normalisation; training saw none of them."),
    )


def select_shifts(names: Sequence[str], channels: int, dimensions: int) -> tuple[Shift, ...]:
    """Return the shifts of these names, or without names all that suit images with so many channels and dimensions.

    Raises:
        ConfigError: a name is unknown, or its shift doesn't suit the images.
    """
    suitable = {shift.name: shift for shift in SHIFTS if shift.suits(channels, dimensions)}
    for name in names:
        if name not in suitable:
            reason = "doesn't suit these images" if name in {shift.name for shift in SHIFTS} else "is unknown"
            raise ConfigError(f"--shifts: {name} {reason}; choose from {', '.join(suitable)}")
    return tuple(suitable[name] for name in dict.fromkeys(names or suitable))


def shift_image(source: ImageSource, shift: Shift, strength: float) -> ArraySource:
    """Return an image in memory that is shifted by a strength, in the range and spacing of its own values.

    Values are scaled to 0 .. 1 for the shift: 8-bit images from 0 .. 255, others from their smallest to their largest value.
    """
    stored = np.concatenate(list(source.blocks()), axis=1)  # (C, *S)
    low, high = (0.0, 255.0) if stored.dtype == np.uint8 else (float(stored.min()), float(stored.max()))
    scale = np.float32(high - low or 1)
    shifted: Floats = shift.apply((stored.astype(np.float32) - np.float32(low)) / scale, strength) * scale + np.float32(low)
    if np.issubdtype(stored.dtype, np.integer):
        limits = np.iinfo(stored.dtype)
        shifted = np.rint(np.clip(shifted, limits.min, limits.max))
    return ArraySource(shifted.astype(stored.dtype), source.spacing_um)


def _shifted_points(study: Study, run: StudyRun, predictor: AnyPredictor, shifts: Sequence[Shift]) -> Iterator[StudyPoint]:
    """Yield the points of one method: for each shift the images as they are, and then each strength."""
    series, grades = METHOD_TITLES[run.method], [(shift, grade) for shift in shifts for grade in range(len(shift.strengths))]
    with progress_bars(study.console) as on_progress:
        unshifted = _score_shifted(study, run.name, predictor, None, 0.0)
        for number, (shift, grade) in enumerate(grades):
            if grade == 0:
                yield StudyPoint(panel=shift.title, series=series, setting=0, text="as it is", table=unshifted)
            strength = shift.strengths[grade]
            table = _score_shifted(study, run.name, predictor, shift, strength)
            yield StudyPoint(panel=shift.title, series=series, setting=grade + 1, text=f"{strength:g}", table=table)
            on_progress(f"shifts of {series}", number + 1, len(grades))


def _score_shifted(study: Study, name: str, predictor: AnyPredictor, shift: Shift | None, strength: float) -> ScoreTable:
    """Return the scores of the held-out cases at one strength; those of an earlier, stopped study are read."""
    setting = f"{name}_{shift.name}_{strength:g}" if shift else f"{name}_unshifted"
    path = study.folder / SCORES / f"{setting}.json"
    if not path.exists():
        scores: list[Score] = []
        for case in study.cases.held_out:
            with prefix_errors(case), open_case_image(case) as image:
                mask = segment_array(shift_image(image, shift, strength) if shift else image, predictor)
                case_with_mask = case_mask(mask, predictors_of(predictor)[0].config, image.spacing_um)
                scores += score_case(case, case_with_mask, study.selection)
        write_table(ScoreTable(setting, tuple(scores)), path)
    return read_table(path)


def _answer(points: Sequence[StudyPoint], shifts: Sequence[Shift], headline: str) -> list[str]:
    """Return the sentences that answer the question, by the headline metric."""
    title = METRICS[headline].title
    sentences, better = [], dict.fromkeys(METHOD_TITLES.values(), 0)
    for shift in shifts:
        heading = shift.title.partition(":")[0]
        lines = {name: [point for point in points if (point.panel, point.series) == (shift.title, name)] for name in better}
        means = {name: (line[0].mean(headline), line[-1].mean(headline)) for name, line in lines.items()}
        texts = [f"{name} from {score(first)} to {score(last)}" for name, (first, last) in means.items()]
        sentences.append(f"{heading[:1].upper()}{heading[1:]} at its strongest ({shift.strengths[-1]:g}): {', '.join(texts)}.")
        last = {name: goodness(line[-1], headline) for name, line in lines.items()}
        best = [name for name, value in last.items() if value == max(last.values())]
        if len(best) == 1:
            better[best[0]] += 1
    counts = ", ".join(f"{name} in {count}" for name, count in better.items())
    return [f"At the strongest grade the better {title} is that of the {counts} of {len(shifts)} shifts.", *sentences]
