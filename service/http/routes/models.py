"""Routes of models: list, load and unload."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from fastapi.responses import Response

from service.errors import UnknownModel, Unsuitable
from service.http.routes.dependencies import ServerEngine, json_body, only
from service.http.routes.openapi import errors, json_schema
from service.packaging.model_store import bundle_of
from service.schemas import LoadRequest, ModelsAnswer

router = APIRouter(dependencies=[Depends(only())])


@router.get("/v1/models", summary="List models", responses=errors())
def models(calls: ServerEngine) -> ModelsAnswer:
    """Return the loaded models with their classes and validation metrics, and the models that can't be loaded."""
    return ModelsAnswer(models=list(calls.engine.models.values()), broken=list(calls.engine.broken.values()))


@router.post("/v1/models", summary="Load a model", openapi_extra=json_schema(LoadRequest),
             responses=errors(404, 408, 413, 415, 422, 503, 504))  # fmt: skip
async def load(body: Annotated[LoadRequest, Depends(json_body(LoadRequest))], calls: ServerEngine) -> ModelsAnswer:
    """Load a bundle from the server's model store; it replaces a loaded model of the same name."""
    folder = bundle_of(body.tag)
    if folder is None:
        raise UnknownModel(
            "model_not_found", "the server's model store has no such model; package it on the server first", field="tag"
        )
    await calls.answer(calls.engine.load(body.tag, folder))
    if (broken := calls.engine.broken.get(body.tag)) is not None:
        raise Unsuitable(broken.code, broken.message, field="tag")
    return models(calls)


@router.delete("/v1/models/{name}", summary="Unload a model", status_code=204, responses=errors(404, 503))
async def unload(name: Annotated[str, Path(max_length=200)], calls: ServerEngine) -> Response:
    """Unload a model; queued jobs that need it will fail."""
    if name not in calls.engine.models and name not in calls.engine.broken:
        raise UnknownModel("model_not_found", "no model of that name is loaded; GET /v1/models lists them")
    await calls.answer(calls.engine.unload(name))
    return Response(status_code=204)
