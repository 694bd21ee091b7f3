"""Servers for tests of faults: those of the service's own tests, and some that can be killed and started again."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "service"))

from kill_cycles import Service
from services import serving

from tests.service.conftest import bento, bento_home, bundles, client, environment, picture, server

__all__ = ["bento", "bento_home", "bundles", "client", "environment", "picture", "server"]


@pytest.fixture(scope="session")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """Package two small bundles in a Bento."""
    made = Service(tmp_path_factory.mktemp("packaged"))
    made.package()
    return made


@pytest.fixture(scope="module")
def service(packaged: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service for all tests of a file."""
    with serving(packaged, tmp_path_factory.mktemp("service")) as running:
        yield running
