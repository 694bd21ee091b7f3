"""Stands where an engine stands behind nginx: a real server on loopback that shows what reaches it, and when."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

NAME = os.environ["ENGINE_NAME"]
FOLDER = Path(os.environ["ENGINE_FOLDER"])
RESULT = bytes(range(256)) * 16

app = FastAPI()
received: dict[str, int] = {}
(FOLDER / NAME).write_bytes(RESULT)


@app.get("/readyz")
async def readyz() -> Response:
    return Response()


@app.patch("/v1/uploads/{upload_id}")
async def take(upload_id: str, request: Request) -> JSONResponse:
    received[upload_id] = 0
    async for piece in request.stream():
        received[upload_id] += len(piece)
    return JSONResponse({"engine": NAME, "bytes": received[upload_id]})


@app.get("/v1/uploads/{upload_id}")
async def how_far(upload_id: str) -> JSONResponse:
    return JSONResponse({"engine": NAME, "bytes": received.get(upload_id, 0)})


@app.get("/v1/jobs/{job_id}/events")
async def events(job_id: str) -> Response:
    return StreamingResponse(_events(FOLDER / f"{job_id}.go"), media_type="text/event-stream")


async def _events(go: Path) -> AsyncIterator[str]:
    yield "data: first\n\n"
    while not go.exists():
        await asyncio.sleep(0.02)
    yield "data: second\n\n"


@app.get("/v1/jobs/{job_id}/results/mask")
async def result(job_id: str) -> Response:
    return FileResponse(FOLDER / NAME)


@app.api_route("/headers", methods=["GET", "POST"])
async def headers(request: Request) -> JSONResponse:
    return JSONResponse({"engine": NAME, "headers": [[name, value] for name, value in request.headers.items()]})


@app.get("/refused")
async def refused() -> JSONResponse:
    return JSONResponse({"error": {"code": "busy"}}, 503, {"Retry-After": "7"})
