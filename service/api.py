"""The FastAPI app: its routes, its error handlers and its OpenAPI document."""

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from imaging.errors import DataError
from service.errors import RequestError
from service.gateway import Gateway
from service.http.access import protect
from service.http.engine_calls import EngineCalls
from service.http.request_log import RequestLog, handle_error
from service.http.routes import health, jobs, models, segmentation, uploads
from service.schemas import JobRequest, LoadRequest

ERRORS = (DataError, RequestError, RequestValidationError, HTTPException, OSError, ClientDisconnect, SQLAlchemyError)
_DESCRIPTION = "Segments slides and volumes, and compares two methods on one image. For research use."


def create_app(gateway: Gateway) -> ASGIApp:
    """Return the API of a gateway, with access control and everything else that each request passes first."""
    return protect(create_api(gateway), gateway.keys, gateway.access_settings)


def create_api(gateway: Gateway) -> FastAPI:
    """Return the routes of a gateway with their error handlers and their documentation."""
    api = FastAPI(
        title="Overtile", version="1", description=_DESCRIPTION, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    api.state.gateway = gateway
    api.state.limits = gateway.limits
    api.state.engine_calls = EngineCalls(gateway.engine, gateway.limits)
    api.state.uploads = gateway.uploads
    api.state.jobs = gateway.jobs
    api.state.job_creator = gateway.job_creator
    for error in ERRORS:
        api.add_exception_handler(error, handle_error)
    api.add_middleware(RequestLog)
    for module in (models, segmentation, uploads, jobs, health):
        api.include_router(module.router)
    api.router.routes.extend([*uploads.other_methods(), *health.docs_assets()])
    _extend_openapi(api, JobRequest, LoadRequest)
    return api


def _extend_openapi(api: FastAPI, *bodies: type[BaseModel]) -> None:
    """Add the bodies that the routes read themselves to the OpenAPI document, and drop FastAPI's own 422.

    FastAPI's 422 has another shape than the service's errors, and is never sent.
    """
    generate = api.openapi

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is not None:
            return api.openapi_schema
        document = generate()
        schemas = document["components"]["schemas"]
        for body in bodies:
            schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[body.__name__] = schema
        for path in document["paths"].values():
            for operation in path.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return document

    api.openapi = openapi  # type: ignore[method-assign]
