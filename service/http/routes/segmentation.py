"""Routes of small images whose client waits for the answer: segment, and compare two models."""

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse

from configs import quantities
from configs.schema import ConfigError
from service.errors import BadRequest, UnknownModel, Unsuitable
from service.http import request_body
from service.http.access import owner_of
from service.http.routes.dependencies import ServerEngine, ServerLimits, only
from service.http.routes.openapi import BINARY, errors, files
from service.schemas import MEDIA_TYPES, CompareAnswer, ModelAnswer, TiffAxes

FileFormat = Literal["png", "tiff", "nifti", "geojson", "dicom-seg"]  # masks in one file; an OME-Zarr is a folder

_BODY = {
    "requestBody": {
        "required": True,
        "description": "The image file itself, not a form: in 2D PNG, JPEG, TIFF or a slide; in 3D NIfTI, NRRD, DICOM or TIFF.",
        "content": {"application/octet-stream": BINARY},
    }
}
_MASK: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The mask, in the image's own resolution; each pixel has the label of its class.",
        "content": files(MEDIA_TYPES[ending] for ending in (".png", ".tiff", ".nii.gz", ".geojson", ".dcm")),
        "headers": {
            "X-Overtile-Seconds": {"schema": {"type": "number"}, "description": "Seconds that the segmentation took."},
            "X-Overtile-Warnings": {
                "schema": {"type": "string"},
                "description": "Codes of warnings separated by commas; empty without warnings.",
            },
            "X-Overtile-Label": {
                "schema": {"type": "string"},
                "description": "Label of the whole image, percent-encoded; only of models that predict one.",
            },
        },
    }
}
_ERRORS = errors(404, 408, 413, 415, 422, 503, 504)

PrivateFolder = Annotated[Path, Depends(request_body.private_folder)]
SpacingQuery = Annotated[
    str | None,
    Query(
        description="Spacing in micrometres, for a file that has none: one number, or one for each axis separated by commas."
    ),
]
AxesQuery = Annotated[
    TiffAxes | None,
    Query(description="Axes of a TIFF that doesn't name them, in the file's order."),
]


router = APIRouter()


@router.post("/v1/segment", summary="Segment an image", response_class=FileResponse, responses=_MASK | _ERRORS,
             openapi_extra=_BODY, dependencies=[Depends(only("model", "format", "spacing_um", "axes"))])  # fmt: skip
async def segment(
    request: Request,
    folder: PrivateFolder,
    calls: ServerEngine,
    limits: ServerLimits,
    model: Annotated[
        str | None, Query(description="Name of a model of GET /v1/models; optional if only one is loaded.")
    ] = None,
    mask_format: Annotated[
        FileFormat | None, Query(alias="format", description="Format of the mask; default: the format of the image.")
    ] = None,
    spacing_um: SpacingQuery = None,
    axes: AxesQuery = None,
) -> FileResponse:
    """Segment the image in the body, and return the mask; send large images as jobs."""
    name = model_name(calls.engine.models, model)
    spacing, path, owner = parse_spacing(spacing_um), folder / "image", owner_of(request)
    await request_body.receive(request, path, limits, setting="max_body_bytes")
    with calls.seat(owner):
        await calls.wait_until_ready()
        call = calls.engine.ask(
            "segment", owner=owner, path=str(path), model=name, format=mask_format, spacing_um=spacing, axes=axes
        )
        answer = await calls.answer(call, request)
    mask = Path(answer["file"])
    return FileResponse(mask, media_type=answer["media_type"], filename=mask.name, headers=answer["headers"])


@router.post("/v1/compare", summary="Compare two models on an image", responses=_ERRORS, openapi_extra=_BODY,
             dependencies=[Depends(only("models", "spacing_um", "axes"))])  # fmt: skip
async def compare(
    request: Request,
    folder: PrivateFolder,
    calls: ServerEngine,
    limits: ServerLimits,
    models: Annotated[str, Query(description="Names of two models of GET /v1/models, separated by a comma.")],
    spacing_um: SpacingQuery = None,
    axes: AxesQuery = None,
) -> CompareAnswer:
    """Segment a small image with two models, and return both masks and their agreement."""
    pair = model_pair(calls.engine.models, models.split(","))
    spacing, path, owner = parse_spacing(spacing_um), folder / "image", owner_of(request)
    await request_body.receive(request, path, limits, setting="compare_max_body_bytes")
    with calls.seat(owner):
        await calls.wait_until_ready()
        limit = limits.compare_max_pixels
        call = calls.engine.ask(
            "compare", owner=owner, path=str(path), models=pair, max_pixels=limit, spacing_um=spacing, axes=axes
        )
        answer = await calls.answer(call, request)
    return CompareAnswer.model_validate(answer)


def model_name(models: dict[str, ModelAnswer], name: str | None) -> str:
    """Return the name, or the only model's name where none is given.

    Raises:
        UnknownModel: no model has that name.
        BadRequest: no name is given, and several models are loaded.
    """
    if name is None and len(models) == 1:
        return next(iter(models))
    if name is None:
        message = f"{len(models)} models are loaded; choose one of GET /v1/models with model=NAME"
        raise BadRequest("parameter_missing", message, field="model")
    if name not in models:
        raise UnknownModel("model_not_found", "no model of that name is loaded; GET /v1/models lists them", field="model")
    return name


def model_pair(models: dict[str, ModelAnswer], names: list[str]) -> list[str]:
    """Return the two names after checking that their models can be compared.

    Raises:
        BadRequest: the names aren't two different ones.
        UnknownModel: one of them isn't loaded.
        Unsuitable: their classes differ.
    """
    if len(names) != 2 or names[0] == names[1]:
        raise BadRequest("parameter_invalid", "models takes two different names separated by a comma", field="models")
    if not set(names) <= set(models):
        message = "a model of that name isn't loaded; GET /v1/models lists them"
        raise UnknownModel("model_not_found", message, field="models")
    first, second = ([each.name for each in models[name].classes] for name in names)
    if first != second:
        message = "the two models have different classes; choose models that were trained on the same classes"
        raise Unsuitable("classes_differ", message, field="models")
    return names


def parse_spacing(text: str | None) -> tuple[float, ...] | None:
    """Return the numbers of a parameter such as `0.25` or `2000,500,500`.

    Raises:
        BadRequest: the text isn't numbers separated by commas.
    """
    try:
        return quantities.parse_spacing(text) if text is not None else None
    except ConfigError as error:
        message = "spacing_um takes one number, or one for each axis separated by commas, in micrometres"
        raise BadRequest("parameter_invalid", message, field="spacing_um") from error
