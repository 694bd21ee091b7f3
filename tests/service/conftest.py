"""Server of the whole folder: small bundles are written, packaged and served over a socket."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from servers import (
    COMPARE_MAX_PIXELS,
    MAX_BODY_BYTES,
    STALL_TIMEOUT_S,
    UNET,
    WINDOW,
    Server,
    package_code,
    png,
    run_python,
    start,
    stop,
    write_bundle,
)

from tests.calibrations import calibration
from tests.phantom import draw_slide


@pytest.fixture(scope="session")
def bento_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bentoml")


@pytest.fixture(scope="session")
def environment(bento_home: Path) -> dict[str, str]:
    return {**os.environ, "BENTOML_HOME": str(bento_home), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "unet": write_bundle(folder / "unet", "unet", UNET),
        "window": write_bundle(folder / "window", "window", WINDOW, seed=1),
        "volume": write_bundle(folder / "volume", "volume", UNET, dimensions=3, seed=2),
        "fine": write_bundle(folder / "fine", "fine", UNET, seed=3, spacing_um=[0.25, 0.25]),
        "three": write_bundle(
            folder / "three", "three", UNET, seed=4, classes=("background", "a", "b"), calibration=calibration(2.0, 1.0)
        ),
    }


@pytest.fixture(scope="session")
def bento(bundles: dict[str, Path], environment: dict[str, str]) -> str:
    return run_python(package_code(*bundles.values()), environment)


@pytest.fixture(scope="session")
def server(
    bento: str, bundles: dict[str, Path], environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    settings = {
        "OVERTILE_STORE": str(folder / "store"),
        "OVERTILE_STORAGE_RESERVE_BYTES": "1",
        "OVERTILE_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        "OVERTILE_COMPARE_MAX_PIXELS": str(COMPARE_MAX_PIXELS),
        "OVERTILE_STALL_TIMEOUT_S": str(STALL_TIMEOUT_S),
        "OVERTILE_MAX_WAITING": "1",
    }
    process, url = start(bento, {**environment, **settings}, folder / "log")
    yield Server(url, folder / "requests", bundles, folder / "log")
    stop(process)


@pytest.fixture(scope="session")
def picture() -> bytes:
    """Return a small RGB PNG."""
    return png(draw_slide((72, 90), seed=0)[0])


@pytest.fixture(scope="session")
def big_picture() -> bytes:
    """Return an RGB PNG that takes seconds to segment."""
    return png(np.random.default_rng(0).integers(0, 256, (3, 1500, 1500), np.uint8))


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as opened:
        yield opened
