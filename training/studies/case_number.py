"""Study of the number of training cases that each method needs."""

from collections.abc import Sequence

import numpy as np

from datasets.cases import Case
from evaluation.comparison.methods import METHOD_TITLES
from evaluation.metrics.registry import METRICS
from evaluation.number_text import score
from imaging.errors import DataError
from training.studies.result import StudyPoint, StudyResult, difference_text, goodness
from training.studies.runs import METHODS, StudyRun
from training.studies.study import Study

STEPS = (1, 2, 5)  # of each power of ten
ENOUGH = 0.95  # share of the score with all cases that counts as nearly as good


def study_cases(study: Study, counts: Sequence[int] = ()) -> StudyResult:
    """Train both methods on 1, 2, 5, 10, .. and on all training cases, and return their scores on the held-out cases.

    The cases of a smaller number are among those of every larger one. Groups come in random order, one case of each in turn, so
    that few cases come from many groups.

    Args:
        study: the study's config, cases and folder.
        counts: numbers of training cases; empty: 1, 2, 5, 10, .. and all.

    Raises:
        DataError: `counts_invalid`: more training cases than there are.
        ConfigError, DataError, NumericError, StorageError, Stopped: as `train` does.
    """
    available = len(study.cases.train)
    if max(counts, default=0) > available:
        raise DataError(
            "counts_invalid", f"{max(counts)} training cases are requested, and {available} are left; give --counts up to that"
        )
    chosen = tuple(sorted(set(counts))) or case_counts(available)
    order = order_cases(study.cases.train, study.config.run.seed)
    runs = [StudyRun(f"{method}_{count}", method, train=order[:count]) for method in METHODS for count in chosen]
    bundles = study.train(runs)
    points = []
    for run in runs:
        table, cost = study.score(run.name, bundles[run.name])
        count = len(run.train or ())
        points.append(
            StudyPoint(panel="", series=METHOD_TITLES[run.method], setting=count, text=str(count), table=table, cost=cost)
        )
    return StudyResult(
        title="Number of training cases",
        question="How many training cases does each method need?",
        answer=tuple(_answer(points, study.metrics[0])),
        settings_title="training cases",
        metrics=study.metrics,
        points=tuple(points),
        notes=(*study.notes, "All runs validate on the same cases, which are not among the training cases counted here."),
        logarithmic=True,
    )


def case_counts(available: int) -> tuple[int, ...]:
    """Return 1, 2, 5, 10, 20, 50, .. up to the number of cases, and that number itself."""
    powers = range(len(str(available)))
    counts = [step * 10**power for power in powers for step in STEPS]
    return (*(count for count in counts if count < available), available)


def order_cases(cases: Sequence[Case], seed: int) -> tuple[Case, ...]:
    """Return the cases in the order in which they are added: a first case of each group, then a second of each, and so on.

    Groups, and the cases within each, are in an order that depends on the seed and on the names alone.
    """
    random = np.random.default_rng(seed)
    by_name = sorted(cases, key=lambda case: case.name)
    shuffled = [by_name[index] for index in random.permutation(len(by_name))]
    groups = list(dict.fromkeys(case.patient for case in shuffled))
    turn_of: dict[str, int] = {}  # how many cases of its group come before each case
    seen = dict.fromkeys(groups, 0)
    for case in shuffled:
        turn_of[case.name] = seen[case.patient]
        seen[case.patient] += 1
    return tuple(sorted(shuffled, key=lambda case: (turn_of[case.name], groups.index(case.patient))))


def _answer(points: Sequence[StudyPoint], headline: str) -> list[str]:
    """Return the sentences that answer the question, by the headline metric."""
    title = METRICS[headline].title
    series = {name: [point for point in points if point.series == name] for name in dict.fromkeys(p.series for p in points)}
    sentences = []
    for name, line in series.items():
        fewest, last = line[0], line[-1]
        ends = [f"{score(point.mean(headline))} with {_cases_text(point)}" for point in (fewest, last)]
        text = f"{name}: {title} {' and '.join(ends)}"
        goal = ENOUGH * goodness(last, headline)
        enough = next((point for point in line if goodness(point, headline) >= goal), None)
        if METRICS[headline].better == "higher" and enough and enough is not last:
            text += f"; {enough.text} give{'s' if enough.setting == 1 else ''} {ENOUGH:.0%} of that"
        sentences.append(f"{text}.")
    for unet, window in zip(*series.values(), strict=True):
        if unet.setting in (points[0].setting, points[-1].setting):
            sentences.append(f"With {_cases_text(unet)}, U-Net minus sliding window: {difference_text(unet, window, headline)}")
    return sentences


def _cases_text(point: StudyPoint) -> str:
    return "1 case" if point.text == "1" else f"{point.text} cases"
