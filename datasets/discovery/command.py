"""`overtile cases`."""

from pathlib import Path
from typing import Annotated

import typer

from configs.command_line import exit_codes


def cases(
    data: Annotated[Path, typer.Argument(help="Folder of the data set, in a layout that is recognised or named by options.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Table to write, DATA/cases.csv as a rule; none is replaced.")],
    split: Annotated[
        str, typer.Option(help="Share of each split, for example train=0.7,val=0.2,test=0.1. Default: the layout's splits.")
    ] = "",
    group_pattern: Annotated[
        str,
        typer.Option(
            help="Regular expression that finds the patient in the case's name or the image's path, for example '^([^_]+)_'."
        ),
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of the draw of the splits.", min=0)] = 0,
    images: Annotated[str, typer.Option(help="Folder of the images in DATA, with --references.")] = "",
    references: Annotated[str, typer.Option(help="Folder of the references in DATA, with --images.")] = "",
    reference_suffix: Annotated[
        str, typer.Option(help="What follows NAME in the names of references beside images, for example _lesion.")
    ] = "",
) -> None:
    """Write the table of a data set's cases, with splits that divide no patient.

    Next step: overtile inspect DATA.
    """
    with exit_codes() as console:
        from datasets.discovery.case_tables import CaseTableRequest, make_case_table

        request = CaseTableRequest(data, split, group_pattern, seed, images, references, reference_suffix)
        for line in make_case_table(request, out):
            console.print(line)
