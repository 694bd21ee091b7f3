"""The command line: one front door, each command a few lines; what a command needs is imported when it runs."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from inference.predict import Outcome

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version at import
os.environ["BENTOML_DO_NOT_TRACK"] = "True"

app = typer.Typer(
    help="Trains, serves and compares biomedical segmentation on histology slides and MRI volumes.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)

CONFIG, DATA, NUMERIC, STORAGE = 2, 3, 5, 6  # exit codes; 0 is done


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="where everything of the demo goes")] = Path("demo-output"),
) -> None:
    """Real data, both methods: trained, packaged, served, compared; ends with a report. Some minutes without a GPU."""
    with _exit_codes() as console:
        from demo import run_demo

        run_demo(folder, console)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="a YAML file, for example configs/histology_unet.yaml")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value, any number of them")] = None,
) -> None:
    """Trains a run; the same command again goes on where it stopped."""
    with _exit_codes() as console:
        from configs.schema import load

        loaded = load(config, overrides or [])

        from training.run import train as train_run

        train_run(loaded, console)


@app.command()
def predict(
    inputs: Annotated[list[Path], typer.Argument(help="images, slides, volumes, or folders of them")],
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="the bundle/ folder of a finished run")],
    out: Annotated[Path, typer.Option("--out", "-o", help="gets a mask by each input's stem")],
    mask_format: Annotated[Literal["png", "tiff", "nifti"] | None, typer.Option("--format", help="of the masks")] = None,
) -> None:
    """Segments files; one that can't be read doesn't keep the others from it."""
    with _exit_codes() as console:
        from inference.predict import find_images
        from inference.predict import predict as predict_images
        from inference.predictor import load_predictor
        from models.bundle import load

        images = find_images(inputs)
        predictor = load_predictor(load(bundle))
        with _bar(console) as on_progress:
            failed = _tell(predict_images(images, predictor, out, mask_format, on_progress), console)
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
        from evaluation.compare import compare as compare_bundles
        from evaluation.report import write_report

        out.parent.mkdir(parents=True, exist_ok=True)  # a wrong path is told now, not after the work
        with _bar(console) as on_progress:
            comparison = compare_bundles(bundles, data, split, lambda done, total: on_progress("tiles", done, total))
        write_report(comparison, out)
        console.print(f"{comparison.verdict}\nReport: {out}")


@app.command()
def package(
    bundles: Annotated[list[Path], typer.Argument(help="bundle/ folders of finished runs")],
) -> None:
    """Puts bundles into the BentoML model store and builds a Bento that serves them."""
    with _exit_codes() as console:
        from service.package import package as package_bundles

        tag = package_bundles(bundles)
        console.print(f"{tag}: built; serve it with: overtile serve {tag}")


@app.command()
def serve(
    bento: Annotated[str | None, typer.Argument(help="a Bento's tag; left out: the newest")] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port")] = 3000,
    without_keys: Annotated[bool, typer.Option("--without-keys", help="let everybody in who reaches the address")] = False,
) -> None:
    """Serves a Bento over HTTP, on CUDA where there is one, until it is told to stop."""
    with _exit_codes():
        from service.serve import serve as serve_bento

        serve_bento(bento, host, port, without_keys=without_keys)


@contextmanager
def _exit_codes() -> Iterator["Console"]:
    """Turns errors that say what to do into their text and their exit code; a defect of ours keeps its traceback."""
    from rich.console import Console

    from configs.schema import ConfigError
    from imaging.errors import DataError
    from models.errors import BundleError
    from service.serve import ServeError
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
            remarks = "".join(f", {warning}" for warning in outcome.result.warnings)
            console.print(f"{outcome.image} -> {outcome.mask} ({outcome.result.seconds:.1f} s{remarks})")
    return failed


if __name__ == "__main__":
    app()
