"""The HTTP routes under /v1 and their documentation; thin: receive, segment, answer."""

import base64
import importlib.util
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from imaging.errors import DataError
from imaging.source import MaskFormat
from imaging.writers import suffix_of
from service import bodies
from service.answers import CompareAnswer, ComparedModelAnswer, ErrorAnswer, ModelAnswer, ModelsAnswer
from service.boundary import Boundary, answer_error
from service.engine import Compared, Engine, Segmented, Upload
from service.errors import BadRequest, Refused
from service.limits import Limits
from service.parameters import only

FileFormat = Literal["png", "tiff", "nifti", "geojson", "dicom-seg"]  # a mask as one file; an OME-Zarr is a folder
MEDIA_TYPES: dict[MaskFormat, str] = {
    "png": "image/png",
    "tiff": "image/tiff",
    "nifti": "application/gzip",
    "geojson": "application/geo+json",
    "dicom-seg": "application/dicom",
}

_ASSETS = "/docs/assets"
_DESCRIPTION = "Segments slides and volumes, and compares two methods on one image. For research use."
_BODY = {
    "requestBody": {
        "required": True,
        "description": "The image file itself, not a form: PNG, JPEG, TIFF or a slide; in 3D NIfTI, NRRD, DICOM or TIFF.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "Broken image, or a wrong parameter."},
    404: {"model": ErrorAnswer, "description": "No such model."},
    408: {"model": ErrorAnswer, "description": "The body stopped coming."},
    413: {"model": ErrorAnswer, "description": "More bytes or pixels than the limit."},
    415: {"model": ErrorAnswer, "description": "Not an image of a kind that is read here."},
    422: {"model": ErrorAnswer, "description": "A sound image that isn't one for this model."},
    500: {"model": ErrorAnswer, "description": "The server failed."},
    503: {"model": ErrorAnswer, "description": "Busy or out of space; Retry-After says when to try again."},
}
_MASK: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The mask, on the image's own grid; each pixel is its class's label.",
        "content": {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in MEDIA_TYPES.values()},
        "headers": {
            "X-Overtile-Seconds": {"schema": {"type": "number"}, "description": "From the first tile to the last row."},
            "X-Overtile-Warnings": {"schema": {"type": "string"}, "description": "Codes with commas between; empty for none."},
            "X-Overtile-Label": {
                "schema": {"type": "string"},
                "description": "What the whole image is, percent-encoded; left out where the model says no such label.",
            },
        },
    }
}

Folder = Annotated[Path, Depends(bodies.private_folder)]
SpacingQuery = Annotated[
    str | None,
    Query(
        description="Where the file doesn't say: micrometres between pixels, one number, or one an axis with commas between."
    ),
]


def make_api(engine: Engine, limits: Limits) -> FastAPI:
    """The routes, their error handling and their documentation, as one ASGI app."""
    api = FastAPI(
        title="Overtile", version="1", description=_DESCRIPTION, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    api.add_middleware(Boundary)
    for expected in (DataError, Refused, RequestValidationError, HTTPException, OSError, ClientDisconnect):
        api.add_exception_handler(expected, answer_error)
    _add_docs(api)
    _add_models(api, engine)
    _add_segment(api, engine, limits)
    _add_compare(api, engine, limits)
    return api


def _add_models(api: FastAPI, engine: Engine) -> None:
    @api.get("/v1/models", summary="What is loaded", dependencies=[Depends(only())])
    def models() -> ModelsAnswer:
        """Every loaded model, with its classes and how well it did on its validation cases."""
        return ModelsAnswer(models=[ModelAnswer.of(manifest) for manifest in engine.manifests.values()])


def _add_segment(api: FastAPI, engine: Engine, limits: Limits) -> None:
    known = Depends(only("model", "format", "spacing_um"))

    @api.post("/v1/segment", summary="An image in, its mask out", response_class=FileResponse, responses=_MASK | _ERRORS,
              openapi_extra=_BODY, dependencies=[known])  # fmt: skip
    async def segment(
        request: Request,
        folder: Folder,
        model: Annotated[
            str | None, Query(description="A name of /v1/models; may be left out when only one is loaded.")
        ] = None,
        mask_format: Annotated[
            FileFormat | None, Query(alias="format", description="The mask's; left out, the image's own.")
        ] = None,
        spacing_um: SpacingQuery = None,
    ) -> FileResponse:
        """Segments the image in the body; the mask lies on the image's own grid."""
        name = engine.check_model(model)
        upload = Upload(folder / "image", spacing_of(spacing_um))
        await bodies.receive(request, upload.path, limits, setting="max_body_bytes")
        segmented = await run_in_threadpool(engine.segment, upload, name, mask_format, folder)
        return _mask_response(segmented)


def _add_compare(api: FastAPI, engine: Engine, limits: Limits) -> None:
    known = Depends(only("models", "spacing_um"))

    @api.post("/v1/compare", summary="Two models on one image", responses=_ERRORS, openapi_extra=_BODY, dependencies=[known])
    async def compare(
        request: Request,
        folder: Folder,
        models: Annotated[str, Query(description="Two names of /v1/models with a comma between.")],
        spacing_um: SpacingQuery = None,
    ) -> CompareAnswer:
        """Segments a small image with both models and says how far they agree."""
        pair = engine.check_pair(models.split(","))
        upload = Upload(folder / "image", spacing_of(spacing_um))
        await bodies.receive(request, upload.path, limits, setting="compare_max_body_bytes")
        compared = await run_in_threadpool(engine.compare, upload, pair, limits.compare_max_pixels, folder)
        return await run_in_threadpool(_compare_answer, compared, engine)


def spacing_of(text: str | None) -> tuple[float, ...] | None:
    """The numbers of a parameter such as `0.25` or `2000,500,500`.

    Raises:
        BadRequest: not numbers with commas between.
    """
    try:
        return tuple(float(part) for part in text.split(",")) if text is not None else None
    except ValueError as error:
        message = "spacing_um takes one number, or one for each axis with commas between, in micrometres"
        raise BadRequest("parameter_invalid", message, field="spacing_um") from error


def _mask_response(segmented: Segmented) -> FileResponse:
    known = segmented.segmentation
    return FileResponse(
        segmented.path,
        media_type=MEDIA_TYPES[segmented.mask_format],
        filename=f"mask{suffix_of(segmented.mask_format)}",
        headers={
            "X-Overtile-Seconds": f"{known.seconds:.3f}",
            "X-Overtile-Warnings": ",".join(known.warnings),
            **({"X-Overtile-Label": quote(known.label.name, safe="")} if known.label else {}),
        },
    )


def _compare_answer(compared: Compared, engine: Engine) -> CompareAnswer:
    media_type = MEDIA_TYPES[compared.mask_format]
    parts = [
        ComparedModelAnswer(
            name=part.name,
            method=engine.manifests[part.name].method,
            seconds=part.seconds,
            class_shares=part.class_shares,
            mask=_base64(part.mask),
            media_type=media_type,
        )
        for part in compared.models
    ]
    return CompareAnswer(
        models=parts,
        agreement=compared.comparison.agreement,
        dice=compared.comparison.dice,
        disagreement=_base64(compared.disagreement),
        media_type=media_type,
    )


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _add_docs(api: FastAPI) -> None:
    """Swagger's page; its files come with BentoML, so that it works without the internet."""

    @api.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Overtile",
            swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{_ASSETS}/favicon-light-32x32.png",
        )

    bentoml = importlib.util.find_spec("bentoml")
    locations = bentoml.submodule_search_locations if bentoml else None
    for location in locations or ():
        api.mount(_ASSETS, StaticFiles(directory=Path(location) / "_internal/server/static_content"))
