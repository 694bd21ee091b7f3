"""Models, and small images whose client waits for the answer."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, Response
from starlette.concurrency import run_in_threadpool

from service.engine.errors import Cancelled, EngineCrashed, ModelGone, OutOfMemory
from service.engine.supervisor import Call, Supervisor
from service.errors import BadRequest, Busy, DeadlineExceeded, Unavailable, UnknownModel, Unsuitable
from service.http import request_body
from service.http.owner import owner_of
from service.http.parameters import only
from service.http.routes.common import errors, files, json_of, json_schema
from service.limits import Limits
from service.media_types import MEDIA_TYPES
from service.packaging.model_store import bundle_of
from service.schemas import CompareAnswer, LoadRequest, ModelAnswer, ModelsAnswer

FileFormat = Literal["png", "tiff", "nifti", "geojson", "dicom-seg"]  # a mask as one file; an OME-Zarr is a folder
POLL_S = 0.25
END_S = 5.0  # for the engine to end what nobody waits for; then it is killed

_BODY = {
    "requestBody": {
        "required": True,
        "description": "The image file itself, not a form: PNG, JPEG, TIFF or a slide; in 3D NIfTI, NRRD, DICOM or TIFF.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_MASK: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The mask, on the image's own grid; each pixel is its class's label.",
        "content": files(MEDIA_TYPES[ending] for ending in (".png", ".tiff", ".nii.gz", ".geojson", ".dcm")),
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
_WORK = errors(404, 408, 413, 415, 422, 503, 504)

Folder = Annotated[Path, Depends(request_body.private_folder)]
SpacingQuery = Annotated[
    str | None,
    Query(
        description="Where the file doesn't say: micrometres between pixels, one number, or one an axis with commas between."
    ),
]


class Direct:
    """Calls that wait for the engine: no more at a time than there are seats.

    Args:
        engine: that answers.
        limits: seats and the deadline.
    """

    def __init__(self, engine: Supervisor, limits: Limits) -> None:
        self.engine, self._limits = engine, limits
        self._seats = limits.max_waiting + 1
        self._taken: Counter[str] = Counter()

    @contextmanager
    def seat(self, owner: str) -> Iterator[None]:
        """A place among those who wait; who has half of all leaves a quarter to others.

        Raises:
            Busy: there is none.
        """
        free = self._seats - self._taken.total()
        if free <= (self._seats // 4 if self._taken[owner] >= self._seats // 2 else 0):
            raise Busy("busy", "as many requests are waiting as may wait; send it again after the seconds in Retry-After")
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken -= Counter([owner])

    async def wait(self) -> None:
        """Until the engine is there, which starts again within seconds.

        Raises:
            Unavailable: it isn't.
        """
        try:
            await run_in_threadpool(self.engine.wait)
        except EngineCrashed as error:
            raise unavailable(error) from error

    async def answer(self, call: Call, request: Request | None = None) -> dict[str, Any]:
        """The engine's, unless the client leaves or the deadline passes; then the work is ended.

        Raises:
            DataError: what is wrong with the image.
            DeadlineExceeded: it took longer than a client may wait.
            Unavailable: the engine crashed at it, or the model is gone.
        """
        waited = 0.0
        future = asyncio.wrap_future(call.future)
        try:
            while True:
                done, _ = await asyncio.wait({future}, timeout=POLL_S)
                if done:
                    return future.result()
                waited += POLL_S
                if waited > self._limits.direct_timeout_s:
                    raise DeadlineExceeded(
                        "deadline_exceeded", "the image takes longer than a direct call may; send it as a job"
                    )
                if request is not None and await request.is_disconnected():
                    raise Cancelled
        except (EngineCrashed, ModelGone, OutOfMemory) as error:
            raise unavailable(error) from error
        finally:
            if not call.future.done():
                self._end(call)

    def _end(self, call: Call) -> None:
        """Calls it off; the engine is killed where it doesn't listen."""
        call.cancel()

        def kill_if_running(future: Future[Any] = call.future) -> None:
            if not future.done():
                self.engine.restart()

        threading.Timer(END_S, kill_if_running).start()


def unavailable(error: Exception) -> Unavailable:
    """What a client is told of an engine that couldn't."""
    if isinstance(error, ModelGone):
        return Unavailable("model_unavailable", "the model was unloaded meanwhile; GET /v1/models lists what is loaded")
    if isinstance(error, OutOfMemory):
        return Unavailable("out_of_memory", "the image takes more memory than there is now; send it as a job, or a part of it")
    return Unavailable("worker_crashed", "the process that worked on the image ended; send it again")


def add_models(api: FastAPI, direct: Direct, limits: Limits) -> None:
    """What is loaded, and loading more."""
    engine = direct.engine

    @api.get("/v1/models", summary="What is loaded", dependencies=[Depends(only())], responses=errors())
    def models() -> ModelsAnswer:
        """Every loaded model, with its classes and how well it did on its validation cases; and the broken ones."""
        return ModelsAnswer(models=list(engine.models.values()), broken=list(engine.broken.values()))

    @api.post("/v1/models", summary="Load another", dependencies=[Depends(only())], openapi_extra=json_schema(LoadRequest),
              responses=errors(404, 408, 413, 415, 422, 503, 504))  # fmt: skip
    async def load(wanted: Annotated[LoadRequest, Depends(json_of(LoadRequest, limits))]) -> ModelsAnswer:
        """Loads a bundle of the server's model store beside the others, or in place of one of its name."""
        folder = bundle_of(wanted.tag)
        if folder is None:
            raise UnknownModel(
                "model_not_found", "the server's model store has no such model; package it there first", field="tag"
            )
        await direct.answer(engine.load(wanted.tag, folder))
        if (broken := engine.broken.get(wanted.tag)) is not None:
            raise Unsuitable(broken.code, broken.message, field="tag")
        return models()

    @api.delete(
        "/v1/models/{name}", summary="Unload one", status_code=204, dependencies=[Depends(only())], responses=errors(404, 503)
    )
    async def unload(name: Annotated[str, PathParameter(max_length=200)]) -> Response:
        """Forgets a model; jobs that wait for it fail."""
        if name not in engine.models and name not in engine.broken:
            raise UnknownModel("model_not_found", "no model of that name is loaded; GET /v1/models lists them")
        await direct.answer(engine.unload(name))
        return Response(status_code=204)


def add_segment(api: FastAPI, direct: Direct, limits: Limits) -> None:
    """An image in, its mask out."""
    takes = Depends(only("model", "format", "spacing_um"))

    @api.post("/v1/segment", summary="An image in, its mask out", response_class=FileResponse, responses=_MASK | _WORK,
              openapi_extra=_BODY, dependencies=[takes])  # fmt: skip
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
        name = check_model(direct.engine.models, model)
        spacing, path = spacing_of(spacing_um), folder / "image"
        await request_body.receive(request, path, limits, setting="max_body_bytes")
        with direct.seat(owner := owner_of(request)):
            await direct.wait()
            words: dict[str, Any] = {"format": mask_format, "spacing_um": spacing}
            call = direct.engine.ask("segment", owner=owner, path=str(path), model=name, **words)
            answer = await direct.answer(call, request)
        made = Path(answer["file"])
        return FileResponse(made, media_type=answer["media_type"], filename=made.name, headers=answer["headers"])


def add_compare(api: FastAPI, direct: Direct, limits: Limits) -> None:
    """Two models on one image."""
    takes = Depends(only("models", "spacing_um"))

    @api.post("/v1/compare", summary="Two models on one image", responses=_WORK, openapi_extra=_BODY, dependencies=[takes])
    async def compare(
        request: Request,
        folder: Folder,
        models: Annotated[str, Query(description="Two names of /v1/models with a comma between.")],
        spacing_um: SpacingQuery = None,
    ) -> CompareAnswer:
        """Segments a small image with both models and says how far they agree."""
        pair = check_pair(direct.engine.models, models.split(","))
        spacing, path = spacing_of(spacing_um), folder / "image"
        await request_body.receive(request, path, limits, setting="compare_max_body_bytes")
        with direct.seat(owner := owner_of(request)):
            words: dict[str, Any] = {"max_pixels": limits.compare_max_pixels, "spacing_um": spacing}
            await direct.wait()
            call = direct.engine.ask("compare", owner=owner, path=str(path), models=pair, **words)
            answer = await direct.answer(call, request)
        return CompareAnswer.model_validate(answer)


def check_model(models: dict[str, ModelAnswer], name: str | None) -> str:
    """The name itself, or the only model's where none is given.

    Raises:
        UnknownModel: there is none of that name.
        BadRequest: no name, and several models to choose from.
    """
    if name is None and len(models) == 1:
        return next(iter(models))
    if name is None:
        message = f"{len(models)} models are loaded; choose one of GET /v1/models with model=NAME"
        raise BadRequest("parameter_missing", message, field="model")
    if name not in models:
        raise UnknownModel("model_not_found", "no model of that name is loaded; GET /v1/models lists them", field="model")
    return name


def check_pair(models: dict[str, ModelAnswer], names: list[str]) -> list[str]:
    """Two names of models that can be compared.

    Raises:
        BadRequest: not two different names.
        UnknownModel: one of them isn't loaded.
        Unsuitable: their classes differ.
    """
    if len(names) != 2 or names[0] == names[1]:
        raise BadRequest("parameter_invalid", "models takes two different names with a comma between", field="models")
    if not set(names) <= set(models):
        message = "a model of that name isn't loaded; GET /v1/models lists them"
        raise UnknownModel("model_not_found", message, field="models")
    first, second = ([each.name for each in models[name].classes] for name in names)
    if first != second:
        message = "the two models know different classes; choose two that were trained on the same ones"
        raise Unsuitable("classes_differ", message, field="models")
    return names


def spacing_of(text: str | None) -> list[float] | None:
    """The numbers of a parameter such as `0.25` or `2000,500,500`.

    Raises:
        BadRequest: not numbers with commas between.
    """
    try:
        return [float(part) for part in text.split(",")] if text is not None else None
    except ValueError as error:
        message = "spacing_um takes one number, or one for each axis with commas between, in micrometres"
        raise BadRequest("parameter_invalid", message, field="spacing_um") from error
