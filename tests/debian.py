"""Debian's programs and libraries for tests: the system's, or what `make test` unpacks into the virtual environment."""

import os
import shutil
import sys
from pathlib import Path

import pytest


def needed(name: str, pattern: str) -> str:
    """A program on the path, or the file below / or the virtual environment; else the test is skipped, and fails in CI."""
    if program := shutil.which(name):
        return program
    for root in (Path("/"), Path(sys.prefix, "debian")):
        for found in sorted(root.glob(pattern)):
            return str(found)
    if os.environ.get("CI"):
        pytest.fail(f"{name} isn't here, and CI has to run these tests; `make test` unpacks it where apt-get is")
    pytest.skip(f"{name} isn't here; `make test` unpacks it where apt-get is, else install it")
