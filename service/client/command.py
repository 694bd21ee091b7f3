"""`overtile client`: sends images to a server and fetches masks; the same command again continues where it stopped."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from configs.command_line import exit_codes
from configs.errors import INTERRUPTED, STORAGE

if TYPE_CHECKING:
    from rich.console import Console

    from service.client.batch import BatchSettings
    from service.client.errors import ClientError
    from service.client.http_client import OvertileClient
    from service.client.inputs import InputImage
    from service.schemas import JobAnswer, ModelAnswer

app = typer.Typer(
    help="Segment images on a server (overtile serve) that runs on another machine.\n\n"
    "Each command needs the server's address in --url or OVERTILE_URL, and a key in OVERTILE_KEY if the server has keys.",
    epilog="Example: overtile client submit slides/ -o masks --url https://HOST",
    no_args_is_help=True,
)

Url = Annotated[str, typer.Option(envvar="OVERTILE_URL", help="Address of the server.")]
Key = Annotated[
    str | None,
    typer.Option(
        envvar="OVERTILE_KEY",
        show_default=False,
        help="Key that overtile keys add printed; safer in OVERTILE_KEY, where other users of this machine can't read it.",
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]
JobID = Annotated[str, typer.Argument(metavar="ID", help="ID of the job, as overtile client jobs prints it.")]
DEFAULT_URL = "http://127.0.0.1:3000"

_HINTS = {
    "key_required": "give the key with --key, or in OVERTILE_KEY",
    "key_invalid": "give another with --key, or in OVERTILE_KEY",
    "model_not_found": "choose one of: overtile client models",
    "job_not_found": "see them with: overtile client jobs",
}


@app.command(epilog="Example: overtile client submit slides/ -o masks --url https://HOST")
def submit(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images, slides, volumes, folders of them, or a cases.csv. Files with ; between are the channels of one image."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the masks; each mask gets its image's name with another suffix.")
    ],
    url: Url = DEFAULT_URL,
    key: Key = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="Name of a model. Repeat it for several. Default: the server's only model, if it has one."
        ),
    ] = None,
    mask_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="Format of the masks: png, tiff, nifti, geojson, dicom-seg or ome-zarr. Repeat it for several. "
            "Default: depends on the image's own format.",
        ),
    ] = None,
    kind: Annotated[
        Literal["segment", "compare"],
        typer.Option(help="segment: write masks; compare: also write how far the masks of two models agree."),
    ] = "segment",
    spacing_um: Annotated[
        str | None,
        typer.Option(
            help="Distance between pixels in micrometres, for images that don't state it: one number, for example 0.25, "
            "or one per axis (z,)y,x, for example 2000,500,500."
        ),
    ] = None,
    axes: Annotated[
        Literal["ZYX", "CYX", "CZYX", "ZCYX", "YXC", "ZYXC"] | None,
        typer.Option(
            help="Axes of TIFF stacks that don't name them, in the file's order. Default: as the file says; for a 3D model, "
            "the one axis without a name is Z."
        ),
    ] = None,
    tissue: Annotated[
        bool, typer.Option(help="On RGB slides, detect tissue first and skip tiles without any; they become background.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option(help="Also write per-pixel uncertainty: 0 certain, 1 all classes equally likely.")
    ] = False,
    probabilities: Annotated[
        Literal["uint8", "float16"] | None,
        typer.Option(help="Also write the probability of each class, as this type (uint8: 0 to 255)."),
    ] = None,
    objects: Annotated[
        bool | None,
        typer.Option(
            help="Also number and measure the masks' objects: an image of numbers, a CSV and, in 2D, outlines for QuPath. "
            "Default: for models that were trained on numbered objects."
        ),
    ] = None,
    outlines: Annotated[
        Literal["exact", "smooth"],
        typer.Option(help="Outlines of the objects: exact follows the pixels' sides; smooth is for people."),
    ] = "exact",
    object_type: Annotated[
        Literal["detection", "annotation"], typer.Option(help="What the objects are in QuPath.")
    ] = "detection",
    as_ensemble: Annotated[bool, typer.Option(help="Average several models into one mask.")] = False,
    disagreement: Annotated[
        bool,
        typer.Option(help="With --as-ensemble: also write how much the models differ at each pixel, from 0 (not at all) to 1."),
    ] = False,
    together: Annotated[
        bool,
        typer.Option(
            "--together",
            help="Treat the files of each folder as one image, and the files named here as another: channels, or DICOM slices.",
        ),
    ] = False,
) -> None:
    """Segment images on the server and fetch their masks.

    Files that the server can't read are reported and skipped; the command then exits with 3. After an interruption, the same
    command continues: nothing is sent or computed twice.
    """
    with _connection(url, key) as (client, console):
        from configs.quantities import parse_spacing
        from datasets.inputs import skipped_text
        from service.client.batch import BatchSettings
        from service.client.inputs import find_images

        images, skipped = find_images(inputs, together=together)
        if skipped:
            console.print(f"Skipped {len(skipped)} files that are no images: {skipped_text(skipped)}")
        options = {
            "kind": kind,
            "spacing_um": parse_spacing(spacing_um) if spacing_um is not None else None,
            "axes": axes,
            "tissue": tissue,
            "uncertainty": uncertainty,
            "probabilities": probabilities,
            "objects": objects,
            "outlines": outlines,
            "object_type": object_type,
            "as_ensemble": as_ensemble,
            "disagreement": disagreement,
        }
        formats = _mask_formats(mask_format or [])
        settings = BatchSettings(_select_models(client, model or [], kind), formats, options)
        code = _run_batch(client, images, settings, out, console)
    raise typer.Exit(code)


@app.command(epilog="Example: overtile client models --url https://HOST")
def models(url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Print a line for each model: name, method, dimensions, channels, classes, validation scores."""
    with _connection(url, key) as (client, console):
        answer = client.models()
        for model in answer.models:
            classes = ",".join(each.name for each in model.classes)
            scores = " ".join(f"{name}={value:.3g}" for name, value in model.validation.items())
            channels = ",".join(model.channels)
            typer.echo(f"{model.name} {model.method} {model.dimensions}D {channels} {classes} {scores}".rstrip())
        for broken in answer.broken:
            console.print(f"{broken.name}: {broken.message}", style="bold red")


@app.command("jobs", epilog="Example: overtile client jobs --state running --url https://HOST")
def list_jobs(
    url: Url = DEFAULT_URL,
    key: Key = None,
    state: Annotated[
        Literal["queued", "running", "done", "failed", "cancelled"] | None,
        typer.Option(help="Print only jobs in this state. Default: all jobs."),
    ] = None,
    limit: Annotated[int, typer.Option(help="Print at most this many jobs.", min=1, max=1000)] = 100,
) -> None:
    """Print a line for each job, newest first: ID, state, progress, models, files."""
    with _connection(url, key) as (client, _):
        for job in client.jobs(state, limit):
            typer.echo(_job_line(job))


@app.command(epilog="Example: overtile client fetch 5f0c27ab -o masks --url https://HOST")
def fetch(job_id: JobID, out: Out, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Wait for a job and fetch its results; files that are complete aren't fetched again."""
    with _connection(url, key) as (client, _):
        client.wait(job_id)
        for path in client.fetch(job_id, out):
            typer.echo(str(path))


@app.command(epilog="Example: overtile client cancel 5f0c27ab --url https://HOST")
def cancel(job_id: JobID, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Cancel a job; a job that is finished stays as it is."""
    with _connection(url, key) as (client, _):
        typer.echo(_job_line(client.cancel(job_id)))


def _run_batch(
    client: "OvertileClient", images: "Sequence[InputImage]", settings: "BatchSettings", out: Path, console: "Console"
) -> int:
    """Segment the images, print a line for each, and return the exit code."""
    from configs.errors import OvertileError
    from imaging.remarks import remark_text
    from service.client.batch import Batch
    from service.client.progress_bars import batch_progress

    codes = {0}
    with batch_progress(console) as bars:
        for outcome in Batch(client, settings, out, bars).run(images):
            if isinstance(outcome.result, Exception):
                codes.add(outcome.result.exit_code if isinstance(outcome.result, OvertileError) else STORAGE)
                console.print(f"{outcome.image.path}: {_message(outcome.result)}", style="bold red")
            else:
                files = " and ".join(map(str, outcome.result))
                warnings = (*outcome.warnings, *(["files_skipped"] if outcome.image.has_strangers else []))
                remarks = "".join(f", {remark_text(code)}" for code in dict.fromkeys(warnings))
                console.print(f"{outcome.image.path} -> {files} (job {outcome.job_id}{remarks})")
    return max(codes)


def _select_models(client: "OvertileClient", names: Sequence[str], kind: str) -> list["ModelAnswer"]:
    """Return the models of these names; without any name, the only one that is loaded.

    Raises:
        ClientError: a model isn't loaded, or the number of models doesn't fit.
    """
    from service.client.errors import ClientError

    loaded = {model.name: model for model in client.models().models}
    names = list(dict.fromkeys(names)) or (list(loaded) if len(loaded) == 1 else [])
    if not names or not set(names) <= set(loaded):
        if names:
            problem = f"no model {', '.join(set(names) - set(loaded))} is"
        else:
            problem = "several models are" if loaded else "no model is"
        remedy = f"choose of {', '.join(sorted(loaded))} with --model" if loaded else "serve one there with overtile serve"
        raise ClientError("model_not_found", f"{problem} loaded at the server; {remedy}")
    if kind == "compare" and len(names) != 2:
        raise ClientError("parameter_invalid", f"--kind compare takes two models, not {len(names)}; name them with --model")
    return [loaded[name] for name in names]


def _mask_formats(names: Sequence[str]) -> tuple[str, ...]:
    """Return the formats without repetitions.

    Raises:
        ClientError: a name isn't that of a format.
    """
    from service.client.errors import ClientError
    from service.schemas import FORMATS

    for unknown in set(names) - set(FORMATS):
        message = f"--format {unknown!r}: not a format; give {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise ClientError("parameter_invalid", message)
    return tuple(dict.fromkeys(names))


def _job_line(job: "JobAnswer") -> str:
    """Return one line on a job, with the reason where it failed."""
    names = ",".join(name or "?" for name in job.names[:3]) + (f" and {len(job.names) - 3} more" if len(job.names) > 3 else "")
    reason = f" {job.error.code}: {job.error.message}" if job.error else ""
    return f"{job.id} {job.state} {job.progress:.0%} {','.join(job.models)} {names}{reason}"


@contextmanager
def _connection(url: str, key: str | None) -> "Iterator[tuple[OvertileClient, Console]]":
    """Open a client and a console; errors and Ctrl-C are printed, and the command exits with their code."""
    with exit_codes(_message) as console:

        def print_pause(error: "ClientError", pause_s: float) -> None:
            if pause_s > 2:
                console.print(f"{error}; trying again in {pause_s:.0f} s")

        try:
            from service.client.http_client import OvertileClient

            with OvertileClient(url, key, on_pause=print_pause) as client:
                yield client, console
        except KeyboardInterrupt as error:
            console.print("stopped; submitted jobs continue on the server, and the same command continues where it stopped")
            raise typer.Exit(INTERRUPTED) from error


def _message(error: Exception) -> str:
    """Return the message of an error, with the option or command that helps."""
    hint = _HINTS.get(getattr(error, "code", ""))
    return f"{error}; {hint}" if hint and "--model" not in str(error) else str(error)
