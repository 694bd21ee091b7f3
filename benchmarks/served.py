"""What the benchmarks of the service share: bundles with random weights, and a server that has them loaded."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from inference_memory import FACTS
from kill_cycles import Service
from servers import CHECKOUT, package_code

from configs import schema
from configs.schema import Config
from inference.predictors.loading import SAMPLE_SIDE_PX, sample_with_logits
from inference.predictors.methods import make_predictor
from models import bundle
from models.architectures import build

PACKAGING_S = 900
THREADS = "OMP_NUM_THREADS"


def random_bundle(folder: Path, config_name: str, *overrides: str) -> Path:
    """A bundle of a shipped config; it has a sample, so that the runtime is chosen as for a trained one."""
    config = schema.load(Path(f"configs/{config_name}.yaml"), (*overrides, "run.name=benchmark"))
    torch.manual_seed(0)
    network, prior = build(config).eval(), (1 / len(config.data.classes),) * len(config.data.classes)
    member = make_predictor(config, network, prior, torch.device("cpu"))
    bundle.write(folder, network, config, class_prior=prior, sample=sample_with_logits(_patches(config), [member]), **FACTS)
    return folder


def _patches(config: Config) -> torch.Tensor:
    side = SAMPLE_SIDE_PX[config.data.dimensions]
    return torch.rand(1, len(config.data.channels), *(side,) * config.data.dimensions) * 2 - 1  # (1, C, *S)


@contextmanager
def served(folder: Path, made: Path) -> Iterator[Service]:
    """A running server with that bundle; it uses as many threads as it would by itself."""
    service = Service(folder)
    service.environment.pop(THREADS)
    words = [sys.executable, "-c", package_code(made)]
    done = subprocess.run(
        words, cwd=CHECKOUT, env=service.environment, capture_output=True, text=True, timeout=PACKAGING_S, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    service.tag = done.stdout.strip().splitlines()[-1]
    service.start()
    try:
        yield service
    finally:
        service.stop()
