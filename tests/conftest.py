"""Fixtures of all tests: servers are audited."""

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.audit.watch import ServerAudit, audit_servers

settings.register_profile("overtile", deadline=None)  # a busy machine is no defect
settings.load_profile("overtile")


@pytest.fixture(scope="session", autouse=True)
def audit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerAudit]:
    """Audit every server that a test starts."""
    begins = Path(sysconfig.get_path("purelib"), "overtile_audit.pth")
    assert begins.is_file(), f"{begins} is missing, which lets tests look at what servers do; run make setup"
    with audit_servers(tmp_path_factory.mktemp("audit") / "pipe") as audit:
        yield audit
    assert audit.violations == []


@pytest.fixture(autouse=True)
def servers_keep_to_their_own(audit: ServerAudit) -> Iterator[None]:
    """Check that no server of a test connects outward, or opens or starts what isn't its own."""
    yield
    assert audit.take_violations() == []
