"""The routes under one roof: FastAPI's app, its error handling, its documentation, and who may use it."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from imaging.errors import DataError
from service.errors import Refused
from service.http.request_log import Boundary, answer_error
from service.http.routes.jobs import add_jobs
from service.http.routes.segmentation import Direct, add_compare, add_models, add_segment
from service.http.routes.uploads import add_uploads
from service.prometheus import Now, exposition, resident_bytes
from service.schemas import JobRequest, LoadRequest

if TYPE_CHECKING:
    from service.gateway import Gateway

_ASSETS = "/docs/assets"
_DESCRIPTION = "Segments slides and volumes, and compares two methods on one image. For research use."


def make_api(gateway: Gateway) -> FastAPI:
    """The routes, their error handling and their documentation, as one ASGI app."""
    api = FastAPI(
        title="Overtile", version="1", description=_DESCRIPTION, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    for expected in (DataError, Refused, RequestValidationError, HTTPException, OSError, ClientDisconnect, SQLAlchemyError):
        api.add_exception_handler(expected, answer_error)
    api.add_middleware(Boundary)
    direct = Direct(gateway.engine, gateway.limits)
    add_models(api, direct, gateway.limits)
    add_segment(api, direct, gateway.limits)
    add_compare(api, direct, gateway.limits)
    add_uploads(api, gateway.uploads, gateway.limits)
    add_jobs(api, gateway.jobs, gateway.uploads, gateway.limits)
    _add_health(api, gateway)
    _add_metrics(api, gateway)
    _add_docs(api)
    _add_schemas(api, JobRequest, LoadRequest)
    return api


def _add_schemas(api: FastAPI, *models: type[BaseModel]) -> None:
    """Bodies that the routes read themselves, for OpenAPI; and without what FastAPI would answer."""
    make = api.openapi

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is not None:
            return api.openapi_schema
        made = make()
        schemas = made["components"]["schemas"]
        for model in models:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        for operation in (each for place in made["paths"].values() for each in place.values()):
            _drop_foreign_answers(operation["responses"])
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return made

    api.openapi = openapi  # type: ignore[method-assign]


def _drop_foreign_answers(responses: dict[str, Any]) -> None:
    """FastAPI's own 422 has another shape than ours, and never comes."""
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]


def _add_health(api: FastAPI, gateway: Gateway) -> None:
    @api.get("/livez", include_in_schema=False)
    async def alive() -> JSONResponse:
        return JSONResponse({"status": "alive"})

    @api.get("/readyz", include_in_schema=False)
    async def ready() -> JSONResponse:
        if not gateway.is_ready:
            return JSONResponse({"status": "starting"}, 503)
        return JSONResponse({"status": "ready" if gateway.has_room else "degraded"})


def _add_metrics(api: FastAPI, gateway: Gateway) -> None:
    engine, flow = gateway.engine, gateway.flow
    now = Now(
        {
            "overtile_jobs_waiting": ("Jobs in the queue.", lambda: len(flow.waiting())),
            "overtile_jobs_open": ("Jobs in the queue, and those at work.", lambda: len(flow.waiting(and_running=True))),
            "overtile_oldest_waiting_seconds": ("Since the oldest job in the queue was accepted.", flow.oldest_waiting_s),
            "overtile_engine_ready": ("1 where the engine has loaded its models.", lambda: float(engine.is_ready)),
            "overtile_engine_starts": ("How often the engine was started.", lambda: engine.starts),
            "overtile_engine_memory_bytes": ("Resident.", lambda: resident_bytes(engine.process_id)),
            "overtile_gateway_memory_bytes": ("Resident.", lambda: resident_bytes(os.getpid())),
            "overtile_store_free_bytes": ("Of the store's disk.", lambda: shutil.disk_usage(gateway.store.folder).free),
        }
    )

    @api.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(exposition(now), media_type=CONTENT_TYPE_LATEST)


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
