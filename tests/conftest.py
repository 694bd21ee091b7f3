"""What holds for all tests."""

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.audit.watch import Watch, watching

settings.register_profile("overtile", deadline=None)  # a busy machine is no defect
settings.load_profile("overtile")


@pytest.fixture(scope="session", autouse=True)
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Of every server that a test starts."""
    begins = Path(sysconfig.get_path("purelib"), "overtile_audit.pth")
    assert begins.is_file(), f"{begins} is missing, which lets tests look at what servers do; run make setup"
    with watching(tmp_path_factory.mktemp("audit") / "pipe") as watch:
        yield watch
    assert watch.broken == []


@pytest.fixture(autouse=True)
def servers_keep_to_their_own(watch: Watch) -> Iterator[None]:
    """No server connects outward, or opens or starts what isn't its own, in whatever test."""
    yield
    assert watch.taken() == []
