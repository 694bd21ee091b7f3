"""The command line: one front door, each command a few lines; what a command needs is imported when it runs."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from service import keys_command
from service.client import command

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from imaging.source import MaskFormat
    from inference.predict import Outcome

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version at import
os.environ["BENTOML_DO_NOT_TRACK"] = "True"

app = typer.Typer(
    help="Trains, serves and compares biomedical segmentation on histology slides and MRI volumes.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.add_typer(keys_command.app, name="keys")
app.add_typer(command.app, name="client")

CONFIG, DATA, NUMERIC, STORAGE = 2, 3, 5, 6  # exit codes; 0 is done, 143 and 130 stopped by a signal


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="where everything of the demo goes")] = Path("demo-output"),
) -> None:
    """Real data, both methods: trained, packaged, served, compared; ends with a report. Some minutes without a GPU."""
    with _exit_codes() as console:
        from demo import run_demo

        run_demo(folder, console)


@app.command()
def inspect(
    data: Annotated[Path, typer.Argument(help="a folder with cases.csv, or with a layout that is recognised")],
    config: Annotated[Path | None, typer.Option(help="says which channels, classes and spacing are meant")] = None,
    classes: Annotated[int | None, typer.Option(help="how many, the background included, where no config says", min=2)] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="an HTML page with pictures")] = None,
    folds: Annotated[int, typer.Option(help="to draw where the data has no splits", min=2)] = 5,
    seed: Annotated[int, typer.Option(help="of that draw", min=0)] = 0,
) -> None:
    """Reads a data set, says what it is and all that is wrong with it; exit code 3 if something would spoil a training."""
    with _exit_codes() as console:
        from configs.schema import load
        from evaluation.inspection.data_summary import Wanted
        from evaluation.inspection.data_summary import inspect as inspect_data
        from evaluation.inspection.page import write_inspection
        from evaluation.inspection.terminal_text import tell

        wanted = Wanted(load(config) if config else None, classes, folds, seed)
        with _bar(console) as on_progress:
            inspection = inspect_data(data, wanted, lambda done, total: on_progress("cases", done, total))
        tell(inspection, console)
        if out:
            write_inspection(inspection, out)
            console.print(f"Page: {out}")
    raise typer.Exit(DATA if inspection.examination.stops else 0)


@app.command()
def plan(
    data: Annotated[Path, typer.Argument(help="a data set's folder")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the config that is written; not over one that is there")],
    method: Annotated[Literal["unet", "sliding_window"], typer.Option(help="what is to be trained")] = "unet",
    memory: Annotated[str, typer.Option(help="that training may take, for example 8GB or 500MB")] = "8GB",
    minutes: Annotated[float | None, typer.Option(help="that a run may take on this machine, which is timed", min=0.1)] = None,
    channels: Annotated[str, typer.Option(help="names of the channels: T1,T2; CT has rules of its own")] = "",
    classes: Annotated[str, typer.Option(help="names of the labels, background first: background,tumour")] = "",
    name: Annotated[str, typer.Option(help="of the run; left out: the folder's and the method's")] = "",
) -> None:
    """Writes a config that suits the images and the memory there is, with a word on why each value is what it is."""
    with _exit_codes() as console:
        from configs.quantities import parse_memory
        from datasets.fingerprint import read_facts
        from inference.predictors.predictor import best_device
        from training.planning.plan import PlanRequest, planning_cases, write_config
        from training.planning.plan import plan as plan_config

        request = PlanRequest(data, method, parse_memory(memory), minutes, _names(channels), _names(classes), name)
        cases = planning_cases(data)
        with _bar(console) as on_progress:
            facts = []
            for case in cases:
                facts.append(read_facts(case))
                on_progress("cases", len(facts), len(cases))
        planned = plan_config(facts, request, best_device())
        write_config(planned.text, out)
        console.print(f"{planned.summary}\n{out}: train it with: overtile train {out}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="a YAML file, for example configs/histology_unet.yaml")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value, any number of them")] = None,
) -> None:
    """Trains a run, or one for each of trainer.folds; the same command again goes on where it stopped."""
    with _exit_codes() as console:
        from configs.schema import load

        loaded = load(config, overrides or [])

        from training.run import train as train_run
        from training.sweeps.folds import train_folds

        (train_folds if loaded.trainer.folds else train_run)(loaded, console)


@app.command()
def tune(
    config: Annotated[Path, typer.Argument(help="a YAML file: what all trials have in common")],
    ranges: Annotated[Path, typer.Argument(help="a YAML file: what they differ in; docs/many_runs.md has an example")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value, any number of them")] = None,
    trials: Annotated[int, typer.Option(help="in all, those of earlier sittings counted", min=1)] = 20,
    minutes: Annotated[float | None, typer.Option(help="after which no new trial begins", min=0)] = None,
    storage: Annotated[str | None, typer.Option(help="URL of Optuna's database; left out: a file in the run's folder")] = None,
) -> None:
    """Trains a run many times with other values each, and writes the config of the best; goes on where it stopped."""
    with _exit_codes() as console:
        from configs.schema import load

        loaded = load(config, overrides or [])

        from training.sweeps.tune import TuningLimits
        from training.sweeps.tune import tune as tune_run

        tune_run(loaded, ranges, TuningLimits(trials, minutes), console, storage)


@app.command()
def check(
    config: Annotated[Path, typer.Argument(help="a YAML file, for example configs/histology_unet.yaml")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value, any number of them")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="an HTML page with pictures")] = None,
    only: Annotated[str, typer.Option(help="numbers of some of the checks: 3,6")] = "",
    minutes: Annotated[float, typer.Option(help="for all checks; no one takes more than a third", min=0)] = 15,
) -> None:
    """Asks fourteen questions of a run before hours go into it; exit code 3 if one fails, 5 if a loss is NaN or infinite."""
    with _exit_codes() as console:
        from configs.schema import load

        loaded = load(config, overrides or [])

        from training.sanity_checks.suite import parse_check_numbers, run_checks, write_checks

        numbers, outcomes = parse_check_numbers(only), []
        with _bar(console) as on_progress:
            for outcome in run_checks(loaded, numbers, minutes, on_progress):
                console.print(str(outcome), style="bold red" if outcome.stops else None)
                outcomes.append(outcome)
        if out:
            write_checks(loaded, outcomes, out)
            console.print(f"Page: {out}")
    numeric = any(outcome.numeric for outcome in outcomes)
    raise typer.Exit(NUMERIC if numeric else DATA if any(outcome.stops for outcome in outcomes) else 0)


@app.command()
def find_rate(
    config: Annotated[Path, typer.Argument(help="a YAML file, for example configs/histology_unet.yaml")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value, any number of them")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="gets a picture (PNG) of the losses")] = None,
) -> None:
    """Tries a hundred learning rates on a run's data and says which one to train at; the run itself isn't touched."""
    with _exit_codes() as console:
        from configs.schema import load

        loaded = load(config, overrides or [])

        from training.find_rate import find_rate as test_rates
        from training.find_rate import plot

        with _bar(console) as on_progress:
            test = test_rates(loaded, on_progress)
        if out:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(plot(test))
            console.print(f"Picture: {out}")
        console.print(f"use it: overtile train {config} optimizer.learning_rate={test.suggestion:.2g}")


@app.command()
def pretrain(
    config: Annotated[Path, typer.Argument(help="a YAML file whose model is a unet")],
    overrides: Annotated[list[str] | None, typer.Argument(help="pretrain.images=FOLDER, and section.key=value")] = None,
) -> None:
    """Trains the encoder of a U-Net on images without references, for a training to begin with."""
    with _exit_codes() as console:
        from configs.schema import load

        loaded = load(config, overrides or [])

        from training.pretraining.denoising import pretrain as pretrain_encoder

        with _bar(console) as on_progress:
            made = pretrain_encoder(loaded, on_progress)
        console.print(f"{loaded.run.name}: loss {made.losses[0]:.3f} -> {made.losses[-1]:.3f}; see {made.picture}")
        console.print(f"use it: overtile train {config} warm_start.weights={made.weights}")


@app.command()
def predict(
    inputs: Annotated[list[Path], typer.Argument(help="images, slides, volumes, or folders of them")],
    bundle: Annotated[
        list[Path], typer.Option("--bundle", "-b", help="the bundle/ folder of a finished run; several are an ensemble")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="gets a mask by each input's stem")],
    mask_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="png, tiff, nifti, geojson, dicom-seg or ome-zarr, any number of times; left out: each image's own"
        ),
    ] = None,
    probabilities: Annotated[
        Literal["uint8", "float16"] | None, typer.Option(help="write each class's probability beside the masks, as this type")
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option(help="write how little is known of each pixel beside the masks: 0 sure, 1 all classes alike")
    ] = False,
    disagreement: Annotated[
        bool, typer.Option(help="of several networks: write how far they are apart at each pixel, 0 where all say the same")
    ] = False,
    dropout_passes: Annotated[
        int | None,
        typer.Option(help="go over each image that many times, each time with dropout drawn anew, as several networks do"),
    ] = None,
    spacing_um: Annotated[
        str | None,
        typer.Option(help="micrometres between pixels where the files don't say: 0.25, or one an axis: 2000,500,500"),
    ] = None,
    tissue: Annotated[
        bool, typer.Option(help="find tissue on RGB slides first and skip tiles without any, which become background")
    ] = False,
    region: Annotated[
        list[str] | None,
        typer.Option(help="top,left,height,width in pixels, any number of times: what lies outside of all is background"),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="that the process may take, for example 2GB; left out: a quarter of what is free")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what each file would take of memory, disk and time, and write nothing")
    ] = False,
    runtime: Annotated[
        Literal["auto", "torch", "torch_bfloat16", "compile", "graphs", "openvino", "openvino_bfloat16", "onnxruntime"] | None,
        typer.Option(help="what runs the network; auto: the fastest that answers as torch does; left out: as the bundle says"),
    ] = None,
) -> None:
    """Segments files; one that can't be read doesn't keep the others from it."""
    with _exit_codes() as console:
        from configs.quantities import parse_memory
        from inference.predict import estimates, find_images
        from inference.predict import predict as predict_images
        from inference.predictors.ensemble import load_ensemble
        from inference.request import OutputRequest
        from models.bundle import load

        request = OutputRequest(
            mask_formats=_formats(mask_format or []),
            probabilities=probabilities,
            uncertainty=uncertainty,
            disagreement=disagreement,
            spacing_um=_spacing(spacing_um),
            tissue=tissue,
            regions=_regions(region or []),
        )
        images = find_images(inputs)
        memory_bytes = parse_memory(memory) if memory else None
        bundles = [load(folder) for folder in bundle]
        predictor = load_ensemble(
            bundles, None, runtime, memory_bytes, disagreement=disagreement, dropout_passes=dropout_passes
        )
        with _bar(console) as on_progress:
            wanted = (images, predictor, out, request)
            done = estimates(*wanted) if dry_run else predict_images(*wanted, on_progress)
            failed = _tell(done, console)
    raise typer.Exit(DATA if failed else 0)


@app.command()
def compare(
    bundles: Annotated[tuple[Path, Path], typer.Argument(help="bundle/ folders of two finished runs")],
    data: Annotated[Path, typer.Option(help="a folder with cases.csv that holds cases neither has seen")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the HTML report")],
    split: Annotated[Literal["val", "test"] | None, typer.Option(help="left out: test, or val where there is no test")] = None,
) -> None:
    """Runs two bundles over the same held-out cases and writes which is better, by how much, at what cost."""
    with _exit_codes() as console:
        from evaluation.comparison.compare import compare as compare_bundles
        from evaluation.report.comparison_page import write_report

        out.parent.mkdir(parents=True, exist_ok=True)  # a wrong path is told now, not after the work
        with _bar(console) as on_progress:
            comparison = compare_bundles(bundles, data, split, lambda done, total: on_progress("tiles", done, total))
        write_report(comparison, out)
        console.print(f"{comparison.verdict}\nReport: {out}")


@app.command()
def package(
    bundles: Annotated[list[Path], typer.Argument(help="bundle/ folders of finished runs")],
    export: Annotated[
        Path | None, typer.Option(help="folder: write ONNX files and bioimage.io packages for other programs, and no Bento")
    ] = None,
    author: Annotated[list[str] | None, typer.Option(help="with --export: who made the model; once for each")] = None,
    licence: Annotated[str | None, typer.Option(help="with --export: SPDX identifier, such as CC-BY-4.0")] = None,
) -> None:
    """Puts bundles into the BentoML model store and builds a Bento that serves them, once it reproduces their samples."""
    with _exit_codes() as console:
        if export is not None:
            from service.packaging.bioimageio import Credits
            from service.packaging.export import export as export_bundles

            export_bundles(bundles, export, Credits(tuple(author or ()), licence), console.print)
            return
        from service.packaging.package import package as package_bundles

        lines: list[str] = []
        tag = package_bundles(bundles, tell=lines.append)
        console.print("\n".join([f"{tag}: built; serve it with: overtile serve {tag}", *lines]))


@app.command()
def serve(
    bento: Annotated[str | None, typer.Argument(help="a Bento's tag; left out: the newest")] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port")] = 3000,
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="where there are no keys, let everybody in who reaches the address")
    ] = False,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file, for HTTPS; with --tls-key")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file without a password")] = None,
) -> None:
    """Serves a Bento over HTTP, on CUDA where there is one, until it is told to stop."""
    with _exit_codes():
        from service.launch import serve as serve_bento
        from service.launch import tls_files

        serve_bento(bento, host, port, without_keys=without_keys, tls=tls_files(tls_certificate, tls_key))


def _spacing(text: str | None) -> tuple[float, ...] | None:
    from configs.schema import ConfigError

    try:
        return tuple(float(part) for part in text.split(",")) if text is not None else None
    except ValueError as error:
        raise ConfigError(f"--spacing-um {text!r}: not one number, or one an axis with commas between") from error


def _formats(names: list[str]) -> tuple["MaskFormat", ...]:
    from configs.schema import ConfigError
    from imaging.source import MaskFormat

    known: dict[str, MaskFormat] = {name: name for name in get_args(MaskFormat)}
    for unknown in set(names) - set(known):
        raise ConfigError(f"--format {unknown!r}: not a format of masks; choose {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


def _regions(texts: list[str]) -> tuple[tuple[int, ...], ...]:
    from configs.schema import ConfigError

    try:
        return tuple(tuple(int(part) for part in text.split(",")) for text in texts)
    except ValueError as error:
        raise ConfigError(
            f"--region {' '.join(texts)!r}: not whole numbers with commas between: top,left,height,width"
        ) from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@contextmanager
def _exit_codes() -> Iterator["Console"]:
    """Turns errors that say what to do into their text and their exit code; a defect of ours keeps its traceback."""
    from rich.console import Console

    from configs.schema import ConfigError
    from imaging.errors import DataError
    from models.errors import BundleError
    from service.launch import ServeError
    from training.errors import NumericError

    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    codes: dict[type[Exception], int] = {
        ConfigError: CONFIG,
        BundleError: CONFIG,
        ServeError: CONFIG,
        DataError: DATA,
        NumericError: NUMERIC,
        OSError: STORAGE,
    }
    try:
        yield console
    except tuple(codes) as error:
        console.print(str(error), style="bold red")
        raise typer.Exit(next(code for kind, code in codes.items() if isinstance(error, kind))) from error


@contextmanager
def _bar(console: "Console") -> Iterator[Callable[[object, int, int], None]]:
    """A progress bar with an ETA for each thing that the given function is called with: (what, done, total)."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    tasks: dict[object, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def on_progress(what: object, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(str(what))
            progress.update(tasks[what], completed=done, total=total)

        yield on_progress


def _tell(outcomes: Iterable["Outcome"], console: "Console") -> int:
    """Prints a line an image and gives the number of those that failed."""
    failed = 0
    for outcome in outcomes:
        if isinstance(outcome.result, Exception):
            failed += 1
            console.print(f"{outcome.image}: {outcome.result}", style="bold red")
        else:
            console.print(f"{outcome.image} -> {' and '.join(map(str, outcome.files))} ({outcome.result.text})")
    return failed


if __name__ == "__main__":
    app()
