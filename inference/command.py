"""`overtile predict`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from configs.command_line import exit_codes, progress_bars
from configs.errors import DATA

if TYPE_CHECKING:
    from rich.console import Console

    from imaging.source import MaskFormat
    from inference.predict import Outcome


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images, slides, volumes, folders of them, or a cases.csv. Files with ; between are the channels of one image."
        ),
    ],
    bundle: Annotated[
        list[Path],
        typer.Option("--bundle", "-b", help="Folder of a finished run, or its bundle/. Repeat it to average several networks."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the masks; each mask gets its image's name with another suffix.")
    ],
    mask_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="Format of the masks: png, tiff, nifti, geojson, dicom-seg or ome-zarr. Repeat it for several. "
            "Default: depends on the image's own format.",
        ),
    ] = None,
    probabilities: Annotated[
        Literal["uint8", "float16"] | None,
        typer.Option(help="Also write the probability of each class, as this type (uint8: 0 to 255)."),
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option(help="Also write per-pixel uncertainty: 0 certain, 1 all classes equally likely.")
    ] = False,
    disagreement: Annotated[
        bool,
        typer.Option(help="With several networks: also write how much they differ at each pixel, from 0 (not at all) to 1."),
    ] = False,
    dropout_passes: Annotated[
        int | None,
        typer.Option(help="Run each network this many times with random dropout, and treat the passes as several networks."),
    ] = None,
    objects: Annotated[
        bool | None,
        typer.Option(
            help="Also number and measure the masks' objects: an image of numbers, a CSV and, in 2D, outlines for QuPath. "
            "Default: for networks that were trained on numbered objects (data.instances)."
        ),
    ] = None,
    outlines: Annotated[
        Literal["exact", "smooth"],
        typer.Option(help="Outlines of the objects: exact follows the pixels' sides; smooth is for people."),
    ] = "exact",
    object_type: Annotated[
        Literal["detection", "annotation"], typer.Option(help="What the objects are in QuPath.")
    ] = "detection",
    spacing_um: Annotated[
        str | None,
        typer.Option(
            help="Distance between pixels in micrometres, for images that don't state it: one number, for example 0.25, "
            "or one per axis (z,)y,x, for example 2000,500,500."
        ),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            help="Axes of TIFF stacks that don't name them, one letter each of Z, C, Y and X in the file's order, for example "
            "ZYX. Default: as the file says; for a 3D model, the one axis without a name is Z."
        ),
    ] = None,
    tissue: Annotated[
        bool, typer.Option(help="On RGB slides, detect tissue first and skip tiles without any; they become background.")
    ] = False,
    region: Annotated[
        list[str] | None,
        typer.Option(
            help="Region to segment, in pixels: top,left,height,width, or front,top,left,depth,height,width in a volume. "
            "Repeat it for several; the rest becomes background. Default: the whole image."
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="Memory that the process may use, such as 2GB. Default: a quarter of the free memory."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only estimate memory, disk space and time for each image; write nothing.")
    ] = False,
    runtime: Annotated[
        Literal["auto", "torch", "torch_bfloat16", "compile", "graphs", "openvino", "openvino_bfloat16", "onnxruntime"] | None,
        typer.Option(
            help="Library that runs the network. auto: the fastest whose output matches float32 PyTorch. "
            "Default: inference.runtime of the bundle's config."
        ),
    ] = None,
) -> None:
    """Segment images, slides and volumes of any size with a trained network.

    Unreadable files are reported and skipped; the command then exits with 3.
    """
    with exit_codes() as console:
        from configs.quantities import parse_memory, parse_spacing
        from datasets.inputs import find_inputs, skipped_text
        from inference.predict import estimates
        from inference.predict import predict as predict_images
        from inference.predictors.ensemble import load_ensemble
        from inference.request import OutputRequest
        from models.bundle import load

        request = OutputRequest(
            mask_formats=_mask_formats(mask_format or []),
            probabilities=probabilities,
            uncertainty=uncertainty,
            disagreement=disagreement,
            objects=objects,
            outlines=outlines,
            object_type=object_type,
            spacing_um=parse_spacing(spacing_um) if spacing_um is not None else None,
            tissue=tissue,
            regions=_regions(region or []),
            axes=axes,
        )
        found = find_inputs(inputs)
        if found.skipped:
            console.print(f"Skipped {len(found.skipped)} files that are no images: {skipped_text(found.skipped)}")
        images = found.images
        memory_bytes = parse_memory(memory) if memory else None
        bundles = [load(folder) for folder in bundle]
        predictor = load_ensemble(
            bundles, None, runtime, memory_bytes, disagreement=disagreement, dropout_passes=dropout_passes
        )
        with progress_bars(console) as on_progress:
            if dry_run:
                outcomes = estimates(images, predictor, out, request)
            else:
                outcomes = predict_images(images, predictor, out, request, on_progress)
            failures = _print_outcomes(outcomes, console)
    raise typer.Exit(DATA if failures else 0)


def _mask_formats(names: list[str]) -> tuple["MaskFormat", ...]:
    from configs.schema import ConfigError
    from imaging.source import MaskFormat

    formats: dict[str, MaskFormat] = {name: name for name in get_args(MaskFormat)}
    for unknown in set(names) - set(formats):
        raise ConfigError(f"--format {unknown!r}: not a format of masks; choose {', '.join(formats)}")
    return tuple(formats[name] for name in dict.fromkeys(names))


def _regions(texts: list[str]) -> tuple[tuple[int, ...], ...]:
    from configs.schema import ConfigError

    try:
        return tuple(tuple(int(part) for part in text.split(",")) for text in texts)
    except ValueError as error:
        raise ConfigError(
            f"--region {' '.join(texts)!r}: not whole numbers with commas between: top,left,height,width"
        ) from error


def _print_outcomes(outcomes: Iterable["Outcome"], console: "Console") -> int:
    """Print one line per image, and return the number of images that failed."""
    failures = 0
    for outcome in outcomes:
        if isinstance(outcome.result, Exception):
            failures += 1
            console.print(f"{outcome.image}: {outcome.result}", style="bold red")
        else:
            console.print(f"{outcome.image} -> {' and '.join(map(str, outcome.files))} ({outcome.result.text})")
    return failures
