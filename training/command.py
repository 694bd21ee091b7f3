"""`overtile plan`, `train`, `tune`, `check`, `find-rate`, `pretrain` and `runs`."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from configs.command_line import exit_codes, parse_names, progress_bars
from configs.errors import DATA, NUMERIC

ConfigFile = Annotated[Path, typer.Argument(help="Config (YAML), for example configs/histology_unet.yaml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Values that replace those of the config: section.key=value, for example trainer.max_steps=2000."),
]


def plan(
    data: Annotated[Path, typer.Argument(help="Folder of the data set, with references.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Config to write; an existing file isn't replaced.")],
    method: Annotated[Literal["unet", "sliding_window"], typer.Option(help="Network that the config trains.")] = "unet",
    memory: Annotated[str, typer.Option(help="Memory that training may use, for example 8GB or 500MB.")] = "8GB",
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Duration of the run on this machine, which is timed. Default: as long as the planned steps take.", min=0.1
        ),
    ] = None,
    channels: Annotated[
        str, typer.Option(help="Names of the channels, for example T1,T2; a channel named CT gets the normalisation for CT.")
    ] = "",
    classes: Annotated[str, typer.Option(help="Names of the classes, background first, for example background,tumour.")] = "",
    ignore: Annotated[
        int | None,
        typer.Option(help="Label of pixels that nobody labelled, for example 255. Default: as the data set declares."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the run. Default: names of the folder and the method.")] = "",
    group_column: Annotated[str | None, typer.Option(help="Column of cases.csv with the patient. Default: group.")] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of cases.csv with the label of the whole image, which the run then learns too.")
    ] = None,
) -> None:
    """Write a config that suits a data set and the available memory, with a reason for each value.

    Next step: overtile train CONFIG.
    """
    with exit_codes() as console:
        from configs.quantities import parse_memory
        from datasets.cases import read_remarks
        from datasets.discovery.rows import Columns
        from datasets.fingerprint import read_facts
        from evaluation.number_text import seconds
        from inference.predictors.predictor import best_device
        from training.planning.plan import PlanRequest, planning_cases, write_config
        from training.planning.plan import plan as plan_config

        start = time.monotonic()
        names = parse_names(classes)
        columns = Columns(group_column, label_column)
        request = PlanRequest(data, method, parse_memory(memory), minutes, parse_names(channels), names, name, ignore, columns)
        cases = planning_cases(data, names, ignore, columns)
        for remark in read_remarks(data):
            console.print(f"note: {remark}")
        with progress_bars(console) as on_progress:
            facts = []
            for case in cases:
                facts.append(read_facts(case))
                on_progress("cases", len(facts), len(cases))
        labels = {case.label for case in cases if case.label}
        planned = plan_config(facts, request, best_device(), cases[0].declaration, labels)
        write_config(planned.text, out)
        if minutes:
            console.print(
                f"Planning took {seconds(time.monotonic() - start)}, which doesn't count: the {minutes:g} minutes are the time "
                "from the start of overtile train to its bundle, with reading, validation and writing"
            )
        console.print(f"{planned.summary}\n{out}: train it with: overtile train {out}")


def train(config: ConfigFile, overrides: Overrides = None) -> None:
    """Train a network and write its bundle; with trainer.folds, train one network per fold.

    The same command again continues a stopped run. Next step: overtile predict IMAGES -b RUN/bundle -o FOLDER.
    """
    with exit_codes() as console:
        from configs.schema import load

        loaded = load(config, overrides or [])

        from datasets.cases import read_remarks
        from imaging.errors import DataError
        from training.run import train as train_run
        from training.sweeps.folds import train_folds

        with suppress(DataError):  # raised again when the cases are read
            for remark in read_remarks(loaded.data.path):
                console.print(f"note: {remark}")
        (train_folds if loaded.trainer.folds else train_run)(loaded, console)


def tune(
    config: Annotated[Path, typer.Argument(help="Config (YAML) with the values that all trials share.")],
    ranges: Annotated[
        Path, typer.Argument(help="YAML file with the values to try for each key; docs/many_runs.md has an example.")
    ],
    overrides: Overrides = None,
    trials: Annotated[int, typer.Option(help="Number of trials, including those of earlier calls.", min=1)] = 20,
    minutes: Annotated[float | None, typer.Option(help="Start no new trial after this time. Default: no limit.", min=0)] = None,
    storage: Annotated[
        str | None, typer.Option(help="URL of a database for Optuna. Default: a file in the run's folder.")
    ] = None,
) -> None:
    """Search a config's values with Optuna, and write the config of the best trial.

    The same command again continues a stopped search. Next step: overtile train RUN/best.yaml.
    """
    with exit_codes() as console:
        from configs.schema import load

        loaded = load(config, overrides or [])

        from training.sweeps.tune import TuningLimits
        from training.sweeps.tune import tune as tune_run

        tune_run(loaded, ranges, TuningLimits(trials, minutes), console, storage)


def check(
    config: ConfigFile,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="HTML page to write, with pictures.")] = None,
    only: Annotated[str, typer.Option(help="Numbers of the checks to run, for example 3,6. Default: all.")] = "",
    minutes: Annotated[
        float, typer.Option(help="Time for all checks, in minutes; each may take at most a third of it.", min=0)
    ] = 15,
) -> None:
    """Run fourteen checks of data, network, loss and augmentation before a long training.

    Exits with 3 if a check fails, and with 5 if a loss is NaN or infinite.
    """
    with exit_codes() as console:
        from configs.schema import load

        loaded = load(config, overrides or [])

        from training.sanity_checks.suite import parse_check_numbers, run_checks, write_checks

        numbers, outcomes = parse_check_numbers(only), []
        with progress_bars(console) as on_progress:
            for outcome in run_checks(loaded, numbers, minutes, on_progress):
                console.print(str(outcome), style="bold red" if outcome.is_failure else None)
                outcomes.append(outcome)
        if out:
            write_checks(loaded, outcomes, out)
            console.print(f"Page: {out}")
    numeric = any(outcome.is_numeric_error for outcome in outcomes)
    raise typer.Exit(NUMERIC if numeric else DATA if any(outcome.is_failure for outcome in outcomes) else 0)


def find_rate(
    config: ConfigFile,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="PNG to write: the loss at each learning rate.")] = None,
) -> None:
    """Try rising learning rates on a run's data for 100 steps, and suggest one; the run itself isn't changed."""
    with exit_codes() as console:
        from configs.schema import load

        loaded = load(config, overrides or [])

        from training.find_rate import find_rate as test_rates
        from training.find_rate import plot_rate_test

        with progress_bars(console) as on_progress:
            test = test_rates(loaded, on_progress)
        if out:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(plot_rate_test(test))
            console.print(f"Picture: {out}")
        console.print(f"use it: overtile train {config} optimizer.learning_rate={test.suggestion:.2g}")


def pretrain(
    config: Annotated[Path, typer.Argument(help="Config (YAML) whose model is a unet.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="pretrain.images=FOLDER, and any other section.key=value that replaces a value of the config."),
    ] = None,
) -> None:
    """Train a U-Net's encoder on images without references, to start a training from its weights.

    Next step, which is printed with the path: overtile train CONFIG warm_start.weights=FILE.
    """
    with exit_codes() as console:
        from configs.schema import load

        loaded = load(config, overrides or [])

        from datasets.inputs import skipped_text
        from training.pretraining.denoising import pretrain as pretrain_encoder

        with progress_bars(console) as on_progress:
            result = pretrain_encoder(loaded, on_progress)
        if result.skipped:
            console.print(f"Skipped {len(result.skipped)} files that are no images: {skipped_text(result.skipped)}")
        console.print(f"{loaded.run.name}: loss {result.losses[0]:.3f} -> {result.losses[-1]:.3f}; see {result.picture}")
        console.print(f"use it: overtile train {config} warm_start.weights={result.weights}")


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder of the runs: run.folder of their configs.")] = Path("runs"),
) -> None:
    """List the runs in a folder, newest first: state, method, best validation score, age and path.

    A run is finished, running, or stopped at a step; the same overtile train again resumes a stopped one.
    """
    with exit_codes():
        from training.run_table import find_runs, table_lines

        summaries = find_runs(folder)
        if not summaries:
            typer.echo(f"no runs in {folder} yet; start one with: overtile train CONFIG", err=True)
            return
        for line in table_lines(summaries):
            typer.echo(line)
