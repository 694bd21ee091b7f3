"""Debian's programs and libraries for tests: those of the system, or those that `make test` unpacks."""

import os
import shutil
import sys
from pathlib import Path

import pytest


def find_or_skip(name: str, pattern: str) -> str:
    """Return a program on the path, or a file below / or the virtual environment; else skip the test, or fail in CI."""
    if program := shutil.which(name):
        return program
    for root in (Path("/"), Path(sys.prefix, "debian")):
        for found in sorted(root.glob(pattern)):
            return str(found)
    if os.environ.get("CI"):
        pytest.fail(f"{name} isn't here, and CI has to run these tests; `make test` unpacks it where apt-get is")
    pytest.skip(f"{name} isn't here; `make test` unpacks it where apt-get is, else install it")
