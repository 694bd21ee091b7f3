"""Routes for operators: liveness, readiness, metrics, and the documentation page."""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from service.gateway import Gateway
from service.telemetry import Gauges, exposition, process_memory_bytes

_ASSETS = "/docs/assets"

router = APIRouter(include_in_schema=False)


async def gateway_of(request: Request) -> Gateway:
    """Return the server's gateway."""
    gateway: Gateway = request.app.state.gateway
    return gateway


ServerGateway = Annotated[Gateway, Depends(gateway_of)]


@router.get("/livez")
async def livez() -> JSONResponse:
    """Return that the process is alive."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz")
async def readyz(gateway: ServerGateway) -> JSONResponse:
    """Return ready, starting (503), or degraded if the disk is nearly full."""
    if not gateway.is_ready:
        return JSONResponse({"status": "starting"}, 503)
    return JSONResponse({"status": "ready" if gateway.has_disk_space else "degraded"})


@router.get("/metrics")
def metrics(gateway: ServerGateway) -> Response:
    """Return all metrics in Prometheus's text format."""
    return Response(exposition(gauges(gateway)), media_type=CONTENT_TYPE_LATEST)


def gauges(gateway: Gateway) -> Gauges:
    """Return the gauges that are measured at each request of /metrics."""
    engine, queue, folder = gateway.engine, gateway.job_queue, gateway.store.folder
    return Gauges(
        {
            "overtile_jobs_waiting": ("Jobs in the queue.", lambda: len(queue.waiting())),
            "overtile_jobs_open": ("Jobs in the queue, and running jobs.", lambda: len(queue.waiting(and_running=True))),
            "overtile_oldest_waiting_seconds": (
                "Seconds since the oldest job in the queue was accepted.",
                queue.oldest_waiting_s,
            ),
            "overtile_engine_ready": ("1 if the engine has loaded its models, else 0.", lambda: float(engine.is_ready)),
            "overtile_engine_starts": ("Number of starts of the engine.", lambda: engine.starts),
            "overtile_engine_memory_bytes": ("Resident memory of the engine.", lambda: process_memory_bytes(engine.process_id)),
            "overtile_gateway_memory_bytes": ("Resident memory of the gateway.", lambda: process_memory_bytes(os.getpid())),
            "overtile_store_free_bytes": ("Free space of the store's disk.", lambda: shutil.disk_usage(folder).free),
        }
    )


@router.get("/")
async def root() -> RedirectResponse:
    """Redirect a browser that opens the server's address to the documentation page."""
    return RedirectResponse("/docs")


@router.get("/docs")
def docs() -> HTMLResponse:
    """Return Swagger's page with the routes."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Overtile",
        swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{_ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{_ASSETS}/favicon-light-32x32.png",
    )


def docs_assets() -> list[Mount]:
    """Return the mounts of Swagger's files, which come with BentoML, so that /docs works without the internet."""
    bentoml = importlib.util.find_spec("bentoml")
    locations = (bentoml.submodule_search_locations if bentoml else None) or []
    folders = [Path(location) / "_internal/server/static_content" for location in locations]
    return [Mount(_ASSETS, StaticFiles(directory=folder)) for folder in folders]
