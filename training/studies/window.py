"""Study of the window: context against localisation, for sliding windows of several sizes beside the U-Net.

A larger window sees more context, and its network blurs where the boundary lies (Ronneberger et al. 2015, section 1). The study
measures overlap, boundary distance and cost of each size.
"""

from collections.abc import Sequence

from evaluation.comparison.methods import METHOD_TITLES
from evaluation.metrics.registry import METRICS
from evaluation.number_text import operations, score
from training.studies.result import StudyPoint, StudyResult, difference_text, goodness
from training.studies.runs import StudyRun
from training.studies.study import Study

SIZES = {2: (11, 21, 35, 51, 65), 3: (7, 11, 15, 21)}  # window sides in pixels by dimensions


def study_window(study: Study, sizes: Sequence[int] = ()) -> StudyResult:
    """Train a U-Net and sliding windows of several sizes, and return their scores and costs on the held-out cases.

    Args:
        study: the study's config, cases and folder.
        sizes: window sides in pixels; empty: five sides from 11 to 65 in 2D, four from 7 to 21 in 3D.

    Raises:
        ConfigError, DataError, NumericError, StorageError, Stopped: as `train` does.
    """
    chosen = tuple(sorted(set(sizes))) or SIZES[study.config.data.dimensions]
    runs = [StudyRun("unet", "unet"), *(StudyRun(f"window_{size}", "sliding_window", window=size) for size in chosen)]
    bundles = study.train(runs)
    points = []
    for run in runs:
        table, cost = study.score(run.name, bundles[run.name])
        text = f"{run.window} px" if run.window else "no window"
        series = METHOD_TITLES[run.method]
        points.append(StudyPoint(panel="", series=series, setting=run.window, text=text, table=table, cost=cost))
    return StudyResult(
        title="Window size of the sliding window",
        question="How large a window does the sliding window need, what does it lose at boundaries, and what does it cost?",
        answer=tuple(_answer(points, study.metrics)),
        settings_title="side of the window, px",
        metrics=study.metrics,
        points=tuple(points),
        notes=(
            *study.notes,
            "The best window is chosen by these held-out cases, which favours the sliding window.",
        ),
    )


def _answer(points: Sequence[StudyPoint], metrics: Sequence[str]) -> list[str]:
    """Return the sentences that answer the question, the first point being the U-Net's."""
    unet, *windows = points
    headline = METRICS[metrics[0]]
    best = max(windows, key=lambda point: goodness(point, headline.name))
    sentences = [
        f"The best window is {best.text}: {headline.title} {score(best.mean(headline.name))}, against "
        f"{score(unet.mean(headline.name))} of the U-Net. {difference_text(best, unet, headline.name)}"
    ]
    for name in metrics[1:]:
        metric = METRICS[name]
        extreme = max(windows, key=lambda point, name=name: goodness(point, name))  # type: ignore[misc]
        unit = extreme.table.unit_of(name)
        values = ", ".join(f"{score(point.mean(name))} at {point.text}" for point in windows)
        sentences.append(
            f"{metric.title}{f' ({unit})' if unit else ''} is best at {extreme.text}: {values}; U-Net {score(unet.mean(name))}."
        )
    if best.cost and unet.cost:
        ratio = best.cost.multiply_adds_per_pixel / unet.cost.multiply_adds_per_pixel
        sentences.append(
            f"A pixel costs {operations(best.cost.multiply_adds_per_pixel)} multiply-adds at {best.text} with shared "
            f"computations ({operations(best.cost.patch_by_patch_per_pixel)} window by window), {ratio:.2g} times the U-Net's "
            f"{operations(unet.cost.multiply_adds_per_pixel)}."
        )
    return sentences
