"""Comparison of two or more methods on the same held-out cases: which is better, by how much, how certainly, at what cost.

A method is a bundle, which segments the cases here, or a folder of masks that any tool wrote.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

from configs.schema import Config, ConfigError
from configs.sections import ClassSection
from datasets.cases import Case, open_case_image, prefix_errors
from datasets.references import open_reference
from evaluation.comparison.agreement import agreements_of, count_agreements
from evaluation.comparison.held_out import check_bundles, check_case, comparison_notes, join_names, select_compared_cases
from evaluation.comparison.methods import BundleMasks, Masks, load_bundles, method_labels, segment_cases
from evaluation.comparison.pair_statistics import check_units, compare_pairs, family_sentence
from evaluation.comparison.panels import draw_case_pictures
from evaluation.comparison.result import ComparedCase, Comparison, MethodResult, PairResult
from evaluation.comparison.threshold_baseline import ThresholdBaseline, score_threshold_baseline
from evaluation.comparison.verdict import Contender, Evidence, decide_verdict
from evaluation.metrics.registry import METRICS
from evaluation.rendering import CLASS_COLOURS
from evaluation.scoring.case_scores import score_case
from evaluation.scoring.evaluate import MaskFolder, Missing, Progress, read_mask_folder
from evaluation.scoring.scored_cases import ScoredCases
from evaluation.scoring.selection import ReferenceKind, Selection, default_headline, default_names, select_metrics
from evaluation.scoring.table import Score, ScoreTable
from imaging.errors import DataError
from imaging.source import ImageSource
from inference.predictors.counting import shape_only_predictor
from models.bundle import Bundle

Shapes = Sequence[tuple[int, ...]]
NOT_OF_MASKS = ("calibration", "image_labels")  # kinds of metrics that need more than masks


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """What is compared, and by which metrics.

    Args:
        split: train, val, test or all; None: test, or else val, or else, without bundles, all.
        metrics: names of the metrics; empty: those that suit the references.
        headline: name of the metric that the verdict is about; None: quadratic weighted kappa for ordered grades, panoptic
            quality where references number objects, and else Dice.
        tolerance: distance up to which surfaces agree, see `Selection`.
        missing: what happens to cases without a mask in a folder; those that are left out are so for all methods.
        config: config whose classes the references have, where no method is a bundle.
    """

    split: str | None = None
    metrics: tuple[str, ...] = ()
    headline: str | None = None
    tolerance: float | None = None
    missing: Missing = "refuse"
    config: Config | None = None


def compare(
    methods: Sequence[Path], data: Path, options: ComparisonOptions | None = None, on_progress: Progress | None = None
) -> Comparison:
    """Compare two or more methods on the same held-out cases; bundles run in a process each, one after the other.

    A script that calls this needs `if __name__ == "__main__":`, see `measure`.

    Args:
        methods: for each method its bundle, the folder of its run, or a folder of masks.
        data: folder of the data set.
        options: what is compared.
        on_progress: called with what is done, the number done, and the number in all.

    Raises:
        DataError: the comparison would not be fair (classes, channels, spacing, dimensions or units differ, masks are missing,
            or training saw a case), or a case can't be read or doesn't suit; the message names the case.
        BundleError: a bundle is broken.
        ConfigError: there are fewer than two methods, a bundle's config is invalid, or a metric is unknown.
    """
    options, report = options or ComparisonOptions(), on_progress or (lambda what, done, total: None)
    if len(methods) < 2:
        raise ConfigError("compare takes two or more methods; overtile evaluate scores the masks of one")
    bundles = load_bundles(methods)
    check_bundles(list(bundles.values()))
    scored = select_compared_cases(data, options.split, list(bundles.values()), options.config)
    headline = options.headline or default_headline(scored.kind)
    selection = _select_metrics(scored.kind, options, headline)
    paths = {number: path for number, path in enumerate(methods) if number not in bundles}
    folders = {number: read_mask_folder(path, scored, options.missing, report) for number, path in paths.items()}
    if options.missing == "leave-out":
        left_out = {name for folder in folders.values() for name in folder.found.missing}
        scored = replace(scored, cases=tuple(case for case in scored.cases if case.name not in left_out))
        if not scored.cases:
            raise DataError(
                "masks_missing", "no case has a mask in every folder; add the missing ones, or choose --missing empty"
            )
    shapes = [check_case(case, bundles[min(bundles)].config)[1] for case in scored.cases] if bundles else []
    config = bundles[min(bundles)].config if bundles else options.config
    with tempfile.TemporaryDirectory(prefix="overtile-compare-") as scratch:
        segmented = _segment_with_all(bundles, scored.cases, shapes, Path(scratch), report)
        masks = tuple(segmented[number] if number in bundles else folders[number] for number in range(len(methods)))
        labels = method_labels(methods, bundles)
        results: list[MethodResult] = []
        for label, each in zip(labels, masks, strict=True):
            results.append(_score_method(label, each, scored.cases, selection, shapes))
            report("methods scored", len(results), len(methods))
        return _compare_scores(_ScoredMethods(data.resolve().name, scored, masks, tuple(results), headline, config))


@dataclass(frozen=True)
class _ScoredMethods:
    """Cases, and the masks and scores of all methods.

    Args:
        data: name of the data set.
        scored: the cases.
        masks: masks of each method.
        methods: scores and cost of each method.
        headline: name of the metric that the verdict is about.
        config: config with the classes; None where the data set gives them.
    """

    data: str
    scored: ScoredCases
    masks: tuple[Masks, ...]
    methods: tuple[MethodResult, ...]
    headline: str
    config: Config | None

    @property
    def classes(self) -> tuple[ClassSection, ...]:
        """Name and colour of each class."""
        if self.config is not None:
            return tuple(self.config.data.classes)
        names = self.scored.kind.classes
        return tuple(ClassSection(name=name, colour=colour) for name, colour in zip(names, cycle(CLASS_COLOURS), strict=False))

    @contextmanager
    def open_labels(self, case: Case) -> Iterator[list[ImageSource]]:
        """Open the labels (1, *S) of a case by each method."""
        with ExitStack() as stack:
            yield [stack.enter_context(masks.open(case)).labels for masks in self.masks]


def _select_metrics(kind: ReferenceKind, options: ComparisonOptions, headline: str) -> Selection:
    if headline not in METRICS:
        raise ConfigError(f"--headline: {headline} unknown; choose from {', '.join(METRICS)}")
    for option, name in (("--headline", headline), *(("--metrics", name) for name in options.metrics)):
        if name in METRICS and METRICS[name].kind in NOT_OF_MASKS:
            raise ConfigError(f"{option}: {name} isn't computed from masks; choose metrics of masks, such as dice")
    names = set(options.metrics) or default_names(kind)
    return select_metrics(kind, sorted({*names, headline}), options.tolerance)


def _segment_with_all(
    bundles: Mapping[int, Bundle], cases: Sequence[Case], shapes: Shapes, scratch: Path, report: Progress
) -> dict[int, BundleMasks]:
    """Segment the cases with each bundle, by the number of the method."""
    grids = {number: shape_only_predictor(bundle.config).grid for number, bundle in bundles.items()}
    tiles = {number: sum(len(grid(shape)) for shape in shapes) for number, grid in grids.items()}
    segmented: dict[int, BundleMasks] = {}
    for number, bundle in bundles.items():
        before = sum(tiles[earlier] for earlier in segmented)

        def on_tiles(done: int, before: int = before) -> None:
            report("tiles", before + done, sum(tiles.values()))

        segmented[number] = segment_cases(bundle, cases, scratch / str(number), on_tiles)
    return segmented


def _score_method(label: str, masks: Masks, cases: Sequence[Case], selection: Selection, shapes: Shapes) -> MethodResult:
    """Score the masks of a method; `shapes` are those of the images at the spacing of training."""
    scores: list[Score] = []
    for case in cases:
        with masks.open(case) as mask:
            scores += score_case(case, mask, selection)
    table = ScoreTable(label, tuple(scores))
    if isinstance(masks, BundleMasks):
        return MethodResult(label=label, kind="bundle", table=table, bundle=masks.facts, cost=masks.cost(shapes))
    return MethodResult(label=label, kind="masks", table=table, bundle=None, cost=None)


def _compare_scores(run: _ScoredMethods) -> Comparison:
    cases, methods = run.scored.cases, run.methods
    tables = [method.table for method in methods]
    metrics, unit_notes = check_units(tables, run.headline)
    pairs = compare_pairs(tables, metrics, run.headline)
    compared_cases, counts = [], []
    for case in cases:
        compared_cases.append(_describe_case(case))
        with prefix_errors(case), run.open_labels(case) as labels:
            counts.append(count_agreements(labels, len(run.classes)))
    binary = len(run.classes) == 2
    baseline = score_threshold_baseline(cases) if binary else None
    headline = METRICS[run.headline]
    return Comparison(
        data=run.data,
        split=run.scored.split,
        dimensions=len(compared_cases[0].shape),
        classes=run.classes,
        spacing_um=run.config.data.spacing_um if run.config else None,
        cases=tuple(compared_cases),
        methods=methods,
        headline=run.headline,
        metrics=metrics,
        pairs=pairs,
        agreements=agreements_of(counts, len(methods)),
        family=family_sentence(pairs, run.headline),
        baseline=baseline,
        baseline_omitted=None if binary else f"one threshold makes two classes, and there are {len(run.classes)}",
        notes=(*_notes(run), *unit_notes),
        pictures=draw_case_pictures(
            cases,
            run.open_labels,
            [list(table.case_values(run.headline).values()) for table in tables],
            headline,
            classes=run.classes,
            labels=[method.label for method in methods],
        ),
        verdict=decide_verdict(_evidence(run, pairs, baseline)),
    )


def _notes(run: _ScoredMethods) -> Iterator[str]:
    """Yield what a reader must know of the cases, of the bundles' training, and of the folders of masks."""
    manifests = [masks.bundle.manifest for masks in run.masks if isinstance(masks, BundleMasks)]
    yield from run.scored.notes
    yield from comparison_notes(run.scored.cases, run.scored.split, manifests)
    folders = {
        method.label: masks for method, masks in zip(run.methods, run.masks, strict=True) if isinstance(masks, MaskFolder)
    }
    for label, folder in folders.items():
        yield from (f"{label}: {note}" for note in folder.notes)
    if folders:
        names = join_names(list(folders))
        yield f"It is not known which cases {names} saw in training: the compared ones may be among them."


def _evidence(run: _ScoredMethods, pairs: Sequence[PairResult], baseline: ThresholdBaseline | None) -> Evidence:
    in_headline = {(pair.first, pair.second): pair for pair in pairs if pair.metric == run.headline}
    contenders = []
    for method in run.methods:
        facts, cost = method.bundle, method.cost
        contenders.append(
            Contender(
                label=method.label,
                method=facts.method if facts else None,
                mean=method.mean(run.headline),
                seconds=cost.seconds if cost else None,
                memory_bytes=cost.memory_bytes if cost else None,
                multiply_adds=cost.multiply_adds_per_pixel if cost else None,
            )
        )
    return Evidence(
        contenders=tuple(contenders),
        metric=METRICS[run.headline],
        unit=run.methods[0].table.unit_of(run.headline),
        cases=len(run.scored.cases),
        differences={numbers: pair.difference for numbers, pair in in_headline.items()},
        corrected_p={numbers: pair.corrected_p for numbers, pair in in_headline.items() if pair.corrected_p is not None},
        baseline_dice=baseline.mean_dice if baseline and run.headline == "dice" else None,
    )


def _describe_case(case: Case) -> ComparedCase:
    with prefix_errors(case), open_case_image(case) as image, open_reference(case) as reference:
        ignored = case.ignore_label
        has_foreground = any(((block > 0) & (block != ignored)).any() for block in reference.blocks())
        return ComparedCase(name=case.name, group=case.group, shape=image.shape, empty=not has_foreground)
