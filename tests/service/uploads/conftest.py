"""Server of the upload routes for each file of tests, which must still work after each test."""

from collections.abc import Iterator

import httpx
import pytest
from upload_server import UploadServer, check_still_serving, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UploadServer]:
    with running(tmp_path_factory.mktemp("uploads") / "store") as started:
        yield started


@pytest.fixture(scope="module")
def client(server: UploadServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as opened:
        yield opened


@pytest.fixture(autouse=True)
def still_serving(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "client" in request.fixturenames:
        check_still_serving(request.getfixturevalue("server"), request.getfixturevalue("client"))
