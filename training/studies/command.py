"""`overtile study window`, `shift` and `cases`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.command_line import exit_codes, parse_names

if TYPE_CHECKING:
    from training.studies.result import StudyResult
    from training.studies.study import Study

app = typer.Typer(
    help="Answer a question about the two methods by many small trainings: a page, a picture and a table.\n\n"
    "The same command again continues a stopped study.",
    epilog="Example: overtile study window plan.yaml -o studies/window --minutes 25",
    no_args_is_help=True,
)

ConfigFile = Annotated[Path, typer.Argument(help="Config (YAML) of one method; the other one is planned on the same data.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Values that replace those of the config: section.key=value.")]
Folder = Annotated[Path, typer.Option("--out", "-o", help="Folder of the study: runs, scores, page, picture and table.")]
Minutes = Annotated[
    float | None,
    typer.Option(help="Time of all trainings together, in equal shares. Default: each as long as its config says.", min=0.01),
]
Metrics = Annotated[
    str, typer.Option(help="Names of metrics with commas between, the headline first. Default: dice,assd, and pq of objects.")
]


@app.command(epilog="Example: overtile study window plan.yaml -o studies/window --minutes 25")
def window(
    config: ConfigFile,
    out: Folder,
    overrides: Overrides = None,
    minutes: Minutes = None,
    metrics: Metrics = "",
    sizes: Annotated[str, typer.Option(help="Sides of the windows in pixels, with commas between. Default: five.")] = "",
) -> None:
    """Train sliding windows of several sizes and a U-Net: overlap, boundary distance and cost of each."""
    from training.studies.window import study_window

    _run(config, overrides, out, minutes, metrics, lambda study: study_window(study, _numbers("--sizes", sizes, smallest=3)))


@app.command(epilog="Example: overtile study shift plan.yaml -o studies/shift --minutes 20")
def shift(
    config: ConfigFile,
    out: Folder,
    overrides: Overrides = None,
    minutes: Minutes = None,
    metrics: Metrics = "",
    shifts: Annotated[
        str,
        typer.Option(
            help="Shifts with commas between: stain, brightness, blur, noise, inversion, resolution, jpeg. "
            "Default: all that suit the images."
        ),
    ] = "",
) -> None:
    """Train both methods, and score them on held-out images under graded shifts, as other scanners and stains cause them."""
    from training.studies.shift import study_shift

    _run(config, overrides, out, minutes, metrics, lambda study: study_shift(study, parse_names(shifts)))


@app.command(epilog="Example: overtile study cases plan.yaml -o studies/cases --minutes 28")
def cases(
    config: ConfigFile,
    out: Folder,
    overrides: Overrides = None,
    minutes: Minutes = None,
    metrics: Metrics = "",
    counts: Annotated[
        str, typer.Option(help="Numbers of training cases with commas between. Default: 1, 2, 5, 10, .. and all.")
    ] = "",
) -> None:
    """Train both methods on more and more cases, and score each on the same held-out cases."""
    from training.studies.case_number import study_cases

    _run(config, overrides, out, minutes, metrics, lambda study: study_cases(study, _numbers("--counts", counts, smallest=1)))


def _run(
    config: Path,
    overrides: list[str] | None,
    out: Path,
    minutes: float | None,
    metrics: str,
    study_question: Callable[["Study"], "StudyResult"],
) -> None:
    """Run a study in its locked folder, write its files and print its answer."""
    with exit_codes() as console:
        from configs.schema import load
        from training.studies.page import write_study
        from training.studies.study import open_study

        with open_study(load(config, overrides or []), out, console, minutes=minutes, metrics=parse_names(metrics)) as study:
            result = study_question(study)
            page = write_study(result, study.config.data.path.resolve().name, out)
        for sentence in result.answer:
            console.print(sentence)
        console.print(f"Page: {page}")


def _numbers(option: str, text: str, *, smallest: int) -> tuple[int, ...]:
    """Return the whole numbers in a list with commas between.

    Raises:
        ConfigError: a part isn't a whole number, or is too small.
    """
    from configs.schema import ConfigError

    names = parse_names(text)
    if not all(name.isdecimal() and int(name) >= smallest for name in names):
        raise ConfigError(f"{option} {text!r}: not whole numbers from {smallest} on with commas between, such as 15,35")
    return tuple(int(name) for name in names)
