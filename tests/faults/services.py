"""Servers of one Bento, each with its own store, and common requests to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from kill_cycles import Service
from servers import png

RANDOM = np.random.default_rng(0)
SMALL = png(RANDOM.integers(0, 256, (3, 90, 120), np.uint8))
BIG = png(RANDOM.integers(0, 256, (3, 1800, 1800), np.uint8))
ENDLESS = png(np.zeros((3, 8000, 8000), np.uint8))  # that no machine is done with in a second


@contextmanager
def serving(packaged: Service, folder: Path, **settings: str) -> Iterator[Service]:
    """Run the Bento with a store of its own."""
    running = fresh(packaged, folder, **settings)
    running.start()
    try:
        yield running
    finally:
        if not running.has_ended:
            running.stop()


def fresh(packaged: Service, folder: Path, **settings: str) -> Service:
    made = Service(folder, **{"BENTOML_HOME": packaged.environment["BENTOML_HOME"], **settings})
    made.tag = packaged.tag
    return made


def client_of(service: Service) -> httpx.Client:
    return httpx.Client(base_url=service.url, timeout=60)


def hand_over(client: httpx.Client, picture: bytes, model: str = "unet") -> str:
    upload = client.put("/v1/uploads", content=picture).json()["id"]
    answer = client.post("/v1/jobs", json={"uploads": [upload], "models": [model]})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def code_of(response: httpx.Response) -> tuple[int, Any]:
    return response.status_code, response.json()["error"]["code"]
