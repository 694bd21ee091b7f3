"""Bundles with random weights, and a running server with such a bundle, for the benchmarks of the service."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kill_cycles import Service
from random_bundle import write_random_bundle
from servers import CHECKOUT, package_code

from configs import schema

PACKAGING_S = 900
THREADS = "OMP_NUM_THREADS"


def random_bundle(folder: Path, config_name: str, *overrides: str) -> Path:
    """Write a bundle of a shipped config with random weights and a sample, and return its folder."""
    config = schema.load(Path(f"configs/{config_name}.yaml"), (*overrides, "run.name=benchmark"))
    return write_random_bundle(folder, config, has_sample=True)


@contextmanager
def served(folder: Path, bundle: Path) -> Iterator[Service]:
    """Run a server with that bundle, and with its default number of threads."""
    service = Service(folder)
    service.environment.pop(THREADS)
    words = [sys.executable, "-c", package_code(bundle)]
    result = subprocess.run(
        words, cwd=CHECKOUT, env=service.environment, capture_output=True, text=True, timeout=PACKAGING_S, check=False
    )
    if result.returncode:
        raise SystemExit(result.stderr)
    service.tag = result.stdout.strip().splitlines()[-1]
    service.start()
    try:
        yield service
    finally:
        service.stop()
