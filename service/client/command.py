"""`overtile client`: images to a server, masks back; the same command again goes on where it was."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from service.client.errors import ClientError
    from service.client.http_client import OvertileClient
    from service.schemas import JobAnswer, ModelAnswer

CONFIG, DATA, STORAGE, INTERRUPTED = 2, 3, 6, 130  # exit codes, as those of every command; a server that can't be had is 6

app = typer.Typer(help="Sends images to a server that runs elsewhere, and fetches their masks.", no_args_is_help=True)

Url = Annotated[str, typer.Option(envvar="OVERTILE_URL", help="where the server is")]
Key = Annotated[
    str | None,
    typer.Option(envvar="OVERTILE_KEY", show_default=False, help="as overtile keys add printed it; better in OVERTILE_KEY"),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="a folder for the results")]
JobID = Annotated[str, typer.Argument(metavar="ID", help="of the job, as jobs lists it")]
HERE = "http://127.0.0.1:3000"

_HINTS = {
    "key_required": "give the key with --key, or in OVERTILE_KEY",
    "key_invalid": "give another with --key, or in OVERTILE_KEY",
    "model_not_found": "choose one of: overtile client models",
    "job_not_found": "see them with: overtile client jobs",
}


@app.command()
def submit(
    inputs: Annotated[list[Path], typer.Argument(help="images, slides, volumes, or folders of them")],
    out: Annotated[Path, typer.Option("--out", "-o", help="gets a mask by each input's stem")],
    url: Url = HERE,
    key: Key = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="any number of times; may be left out when only one is loaded")
    ] = None,
    mask_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="png, tiff, nifti, geojson, dicom-seg or ome-zarr, any number of times; left out: each image's own"
        ),
    ] = None,
    kind: Annotated[Literal["segment", "compare"], typer.Option(help="compare: two models on each image")] = "segment",
    spacing_um: Annotated[
        str | None,
        typer.Option(help="micrometres between pixels where the files don't say: 0.25, or one an axis: 2000,500,500"),
    ] = None,
    tissue: Annotated[bool, typer.Option(help="find tissue on RGB slides first, and skip what holds none")] = False,
    uncertainty: Annotated[
        bool, typer.Option(help="how little is known of each pixel, too: 0 sure, 1 all classes alike")
    ] = False,
    probabilities: Annotated[
        Literal["uint8", "float16"] | None, typer.Option(help="each class's probability, too, as this type")
    ] = None,
    as_ensemble: Annotated[bool, typer.Option(help="several models give one mask")] = False,
    disagreement: Annotated[bool, typer.Option(help="of an ensemble: how far its models are apart, too")] = False,
    together: Annotated[
        bool,
        typer.Option("--together", help="the files of a folder are one image, as are those that are named: channels, or DICOM"),
    ] = False,
) -> None:
    """Segments files on a server; one that can't be read doesn't keep the others from it."""
    with _exit_codes() as console, _client(url, key, console) as client:
        from service.client.batch import Wishes
        from service.client.inputs import find_images

        images = find_images(inputs, together=together)
        options = {
            "kind": kind,
            "spacing_um": _spacing(spacing_um),
            "tissue": tissue,
            "uncertainty": uncertainty,
            "probabilities": probabilities,
            "as_ensemble": as_ensemble,
            "disagreement": disagreement,
        }
        formats = _formats(mask_format or [])
        wishes = Wishes(_chosen(client, model or [], kind), formats, options)
        code = _carry_out(client, images, wishes, out, console)
    raise typer.Exit(code)


@app.command()
def models(url: Url = HERE, key: Key = None) -> None:
    """Prints a line a model: name, method, dimensions, channels, classes, validation."""
    with _exit_codes() as console, _client(url, key, console) as client:
        answer = client.models()
        for model in answer.models:
            typer.echo(_model_line(model))
        for broken in answer.broken:
            console.print(f"{broken.name}: {broken.message}", style="bold red")


@app.command("jobs")
def list_jobs(
    url: Url = HERE,
    key: Key = None,
    state: Annotated[
        Literal["queued", "running", "done", "failed", "cancelled"] | None, typer.Option(help="only those")
    ] = None,
    limit: Annotated[int, typer.Option(help="of the newest", min=1, max=1000)] = 100,
) -> None:
    """Prints a line a job, newest first: ID, state, progress, models, files."""
    with _exit_codes() as console, _client(url, key, console) as client:
        for job in client.jobs(state, limit):
            typer.echo(_job_line(job))


@app.command()
def fetch(job_id: JobID, out: Out, url: Url = HERE, key: Key = None) -> None:
    """Waits for a job and fetches its results; what came before isn't fetched again."""
    with _exit_codes() as console, _client(url, key, console) as client:
        client.wait(job_id)
        for path in client.fetch(job_id, out):
            typer.echo(str(path))


@app.command()
def cancel(job_id: JobID, url: Url = HERE, key: Key = None) -> None:
    """Calls a job off; one that is finished stays."""
    with _exit_codes() as console, _client(url, key, console) as client:
        typer.echo(_job_line(client.cancel(job_id)))


def _carry_out(client: "OvertileClient", images: Sequence[Any], wishes: Any, out: Path, console: "Console") -> int:
    """Prints a line an image and gives the exit code."""
    from service.client.batch import Works
    from service.client.progress_bars import shown

    codes = {0}
    with shown(console) as bars:
        for outcome in Works(client, wishes, out, bars).run(images):
            if isinstance(outcome.result, Exception):
                codes.add(_code_of(outcome.result))
                console.print(f"{outcome.image.path}: {_text_of(outcome.result)}", style="bold red")
            else:
                files = " and ".join(map(str, outcome.result))
                console.print(f"{outcome.image.path} -> {files} (job {outcome.job_id})")
    return max(codes)


def _chosen(client: "OvertileClient", names: Sequence[str], kind: str) -> list["ModelAnswer"]:
    """The models of these names; without any, the only one that is loaded."""
    from service.client.errors import ClientError

    loaded = {model.name: model for model in client.models().models}
    names = list(dict.fromkeys(names)) or (list(loaded) if len(loaded) == 1 else [])
    if not names or not set(names) <= set(loaded):
        what = (
            f"no model {', '.join(set(names) - set(loaded))} is" if names else "several models are" if loaded else "no model is"
        )
        known = f"; choose of {', '.join(sorted(loaded))} with --model" if loaded else "; serve one there with overtile serve"
        raise ClientError("model_not_found", f"{what} loaded at the server{known}")
    if kind == "compare" and len(names) != 2:
        raise ClientError("parameter_invalid", f"--kind compare takes two models, not {len(names)}; name them with --model")
    return [loaded[name] for name in names]


def _spacing(text: str | None) -> list[float] | None:
    from service.client.errors import ClientError

    try:
        return [float(part) for part in text.split(",")] if text is not None else None
    except ValueError as error:
        message = f"--spacing-um {text!r}: not one number, or one an axis with commas between"
        raise ClientError("parameter_invalid", message) from error


def _formats(names: Sequence[str]) -> tuple[str, ...]:
    from service.client.errors import ClientError
    from service.media_types import FORMATS

    for unknown in set(names) - set(FORMATS):
        message = f"--format {unknown!r}: not a format; give {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise ClientError("parameter_invalid", message)
    return tuple(dict.fromkeys(names))


def _model_line(model: "ModelAnswer") -> str:
    classes = ",".join(each.name for each in model.classes)
    scores = " ".join(f"{name}={value:.3g}" for name, value in model.validation.items())
    return f"{model.name} {model.method} {model.dimensions}D {','.join(model.channels)} {classes} {scores}".rstrip()


def _job_line(job: "JobAnswer") -> str:
    names = ",".join(name or "?" for name in job.names[:3]) + (f" and {len(job.names) - 3} more" if len(job.names) > 3 else "")
    why = f" {job.error.code}: {job.error.message}" if job.error else ""
    return f"{job.id} {job.state} {job.progress:.0%} {','.join(job.models)} {names}{why}"


@contextmanager
def _client(url: str, key: str | None, console: "Console") -> Iterator["OvertileClient"]:
    """Says when it waits for more than a moment."""
    from service.client.http_client import OvertileClient

    def tell(error: "ClientError", pause_s: float) -> None:
        if pause_s > 2:
            console.print(f"{error}; trying again in {pause_s:.0f} s")

    with OvertileClient(url, key, on_pause=tell) as client:
        yield client


@contextmanager
def _exit_codes() -> Iterator["Console"]:
    """Turns errors that say what to do into their text and their exit code."""
    from rich.console import Console

    from service.client.errors import ClientError

    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    try:
        yield console
    except (ClientError, OSError) as error:
        console.print(_text_of(error), style="bold red")
        raise typer.Exit(_code_of(error)) from error
    except KeyboardInterrupt as error:
        console.print("stopped; jobs that were handed over go on, and the same command goes on where it was")
        raise typer.Exit(INTERRUPTED) from error


def _text_of(error: Exception) -> str:
    hint = _HINTS.get(getattr(error, "code", ""))
    return f"{error}; {hint}" if hint and "--model" not in str(error) else str(error)


def _code_of(error: Exception) -> int:
    """Refused requests, images that don't suit, and whatever may go well another time."""
    from service.client.errors import ClientError, Damaged, JobFailed, NotAllowed, Unreachable, UploadHeld

    usage = ("no_such_file", "no_inputs", "same_stem", "url_invalid", "parameter_invalid", "model_not_found", "field_unknown")
    if not isinstance(error, ClientError) or isinstance(error, Damaged | UploadHeld):
        return STORAGE
    if isinstance(error, NotAllowed) or error.code in usage or error.status in (404, 405, 412):
        return CONFIG
    if (
        isinstance(error, Unreachable)
        or error.retry_s is not None
        or (error.status or 0) >= 500
        or error.code == "not_overtile"
    ):
        return STORAGE
    return DATA if isinstance(error, JobFailed) or error.status is not None or error.code == "body_empty" else STORAGE
