"""`overtile inspect`, `overtile evaluate` and `overtile compare`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from configs.command_line import exit_codes, progress_bars
from configs.errors import DATA

Metrics = Annotated[
    str | None,
    typer.Option(help="Metrics with commas between, such as dice,hd95, or all. Default: those that suit the references."),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        help="Distance up to which surfaces agree for nsd, in micrometres, or in pixels where the spacing is unknown. "
        "Default: the longest side of a pixel.",
        min=0,
    ),
]


def inspect(
    data: Annotated[Path, typer.Argument(help="Folder with a cases.csv, or in another layout that is recognised.")],
    config: Annotated[
        Path | None, typer.Option(help="Config (YAML) whose channels, classes and spacing the images are checked against.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Number of classes including the background, where no --config gives them.", min=2)
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="HTML page to write, with pictures of the cases.")] = None,
    folds: Annotated[int, typer.Option(help="Number of folds to draw where the data set defines no splits.", min=2)] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the random folds.", min=0)] = 0,
    group_column: Annotated[str | None, typer.Option(help="Column of cases.csv with the patient. Default: group.")] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of cases.csv with the image's label. Default: label.")
    ] = None,
) -> None:
    """Summarise a data set and list its problems.

    Exits with 3 if a problem must be fixed before training. Next step: overtile plan DATA -o CONFIG.
    """
    with exit_codes() as console:
        from configs.schema import load
        from datasets.discovery.rows import Columns
        from evaluation.inspection.data_summary import InspectionOptions, inspect_dataset, print_summary
        from evaluation.inspection.page import write_inspection

        options = InspectionOptions(load(config) if config else None, classes, folds, seed, Columns(group_column, label_column))
        with progress_bars(console) as on_progress:
            inspection = inspect_dataset(data, options, lambda done, total: on_progress("cases", done, total))
        print_summary(inspection, console)
        if out:
            write_inspection(inspection, out)
            console.print(f"Page: {out}")
    raise typer.Exit(DATA if inspection.examination.errors else 0)


def evaluate(
    masks: Annotated[Path, typer.Argument(help="Folder of masks that any tool wrote, each named like its case or image.")],
    data: Annotated[Path, typer.Option(help="Data set with the references.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML page to write; a CSV and a JSON of all scores lie beside it.")],
    split: Annotated[
        Literal["train", "val", "test", "all"] | None,
        typer.Option(help="Cases to score. Default: test, or val where there is no test, or all where there is no split."),
    ] = None,
    metrics: Metrics = None,
    tolerance: Tolerance = None,
    config: Annotated[
        Path | None, typer.Option(help="Config (YAML) whose classes the references have. Default: what the data set declares.")
    ] = None,
    missing: Annotated[
        Literal["refuse", "empty", "leave-out"],
        typer.Option(help="Cases without a mask: refuse the folder, score them as empty masks, or leave them out."),
    ] = "refuse",
) -> None:
    """Score masks that any tool wrote against references: a page, a table as CSV, and a JSON."""
    with exit_codes() as console:
        from configs.schema import load
        from evaluation.report.evaluation_page import write_evaluation
        from evaluation.scoring.evaluate import evaluate_masks, print_scores
        from evaluation.scoring.scored_cases import read_scored_cases
        from evaluation.scoring.selection import default_headline, select_metrics

        _prepare_page(out)
        names = [name.strip() for name in metrics.split(",")] if metrics is not None else []
        scored = read_scored_cases(data, split, load(config) if config else None)
        selection = select_metrics(scored.kind, names, tolerance)
        with progress_bars(console) as on_progress:
            evaluation = evaluate_masks(masks, scored, selection, missing, on_progress)
        page, table, numbers = write_evaluation(evaluation, data.resolve().name, out, headline=default_headline(scored.kind))
        print_scores(evaluation, console)
        console.print(f"Page: {page}\nScores: {table} and {numbers}")


def compare(
    methods: Annotated[
        list[Path], typer.Argument(help="Two or more methods: folders of finished runs, their bundle/, or folders of masks.")
    ],
    data: Annotated[Path, typer.Option(help="Data set with references, whose cases no run was trained or validated on.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML report to write; its numbers lie beside it as CSV and JSON.")],
    split: Annotated[
        Literal["train", "val", "test", "all"] | None,
        typer.Option(help="Cases to compare on. Default: test, or val where there is no test."),
    ] = None,
    metrics: Metrics = None,
    headline: Annotated[
        str | None,
        typer.Option(
            help="Metric that the verdict is about. Default: dice, or pq where references number objects, or quadratic_kappa "
            "for ordered grades."
        ),
    ] = None,
    tolerance: Tolerance = None,
    config: Annotated[
        Path | None, typer.Option(help="Config (YAML) whose classes the references have, where no method is a bundle.")
    ] = None,
    missing: Annotated[
        Literal["refuse", "empty", "leave-out"],
        typer.Option(help="Cases without a mask in a folder: refuse it, score them as empty masks, or leave them out for all."),
    ] = "refuse",
) -> None:
    """Compare two or more methods on held-out cases: which is better, by how much, how certainly, and at what cost."""
    with exit_codes() as console:
        from configs.schema import load
        from evaluation.comparison.compare import ComparisonOptions
        from evaluation.comparison.compare import compare as compare_methods
        from evaluation.report.comparison_files import write_comparison

        _prepare_page(out)
        options = ComparisonOptions(
            split=split,
            metrics=tuple(name.strip() for name in metrics.split(",")) if metrics is not None else (),
            headline=headline,
            tolerance=tolerance,
            config=load(config) if config else None,
            missing=missing,
        )
        with progress_bars(console) as on_progress:
            comparison = compare_methods(methods, data, options, on_progress)
        page, *numbers = write_comparison(comparison, out)
        console.print(f"{comparison.verdict}\nReport: {page}; numbers: {', '.join(map(str, numbers))}")


def _prepare_page(out: Path) -> None:
    """Create the folder of a page, and refuse a path at which no page can be: before the work, not after it."""
    from configs.schema import ConfigError

    if out.is_dir() or out.suffix in (".csv", ".json"):
        problem = "is a folder" if out.is_dir() else f"would be replaced by the table of scores, which ends with {out.suffix}"
        raise ConfigError(f"--out {out}: {problem}; give the name of a page, such as {out.with_suffix('.html')}")
    out.parent.mkdir(parents=True, exist_ok=True)
