"""What the tests of the service share: small bundles, packaging and serving in processes of their own."""

import io
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from configs.schema import parse
from models import bundle
from models.architectures import build
from models.calibration import Calibration

CHECKOUT = Path(__file__).parents[2]
MAX_BODY_BYTES = 3_000_000
COMPARE_MAX_PIXELS = 10_000
STALL_TIMEOUT_S = 2

UNET = {"name": "unet", "features": [4, 8], "norm": "batch"}
WINDOW = {"name": "sliding_window", "window": 9, "convolutions": [{"features": 4, "kernel": 2}], "hidden": 8}


@dataclass(frozen=True)
class Server:
    """A running server; `folder` is where its requests' folders lie."""

    url: str
    folder: Path
    bundles: dict[str, Path]
    log: Path


def write_bundle(
    folder: Path,
    name: str,
    model: dict[str, object],
    *,
    dimensions: int = 2,
    seed: int = 0,
    spacing_um: list[float] | None = None,
    classes: tuple[str, ...] = ("background", "nucleus"),
    calibration: Calibration | None = None,
    instances: bool = False,
) -> Path:
    """A bundle with random weights."""
    colours = ("#000000", "#ff0000", "#00ff00")
    config = parse(
        {
            "run": {"name": name},
            "data": {
                "path": "unused",
                "dimensions": dimensions,
                "channels": ["red", "green", "blue"] if dimensions == 2 else ["T1"],
                "classes": [{"name": label, "colour": colour} for label, colour in zip(classes, colours, strict=False)],
                "spacing_um": spacing_um,
                "instances": instances,
            },
            "model": model,
            "sampling": {"patch_size": [16] * dimensions} if model["name"] == "unet" else {},
            "inference": {"tile_size": [64 if dimensions == 2 else 16] * dimensions},
        },
        origin="test",
    )
    torch.manual_seed(seed)
    bundle.write(
        folder,
        build(config),
        config,
        created="2026-01-01T00:00:00Z",
        margin_px=(8, 8),
        class_prior=[1 / len(classes)] * len(classes),
        validation={"dice": 0.5},
        calibration=calibration,
        training_steps=1,
        training_seconds=1.0,
        training_images=[],
        versions={},
        commit=None,
        intended_use="tests only",
    )
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_python(code: str, environment: dict[str, str]) -> str:
    """What a fresh interpreter prints as its last line."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def package_code(*folders: Path) -> str:
    paths = [str(folder) for folder in folders]
    return (
        f"from pathlib import Path\nfrom service.packaging.package import package\nprint(package([Path(p) for p in {paths}]))"
    )


def start(tag: str, environment: dict[str, str], log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server of the Bento, ready; and its address. Its temporary files are in `requests` beside the log."""
    port, requests = free_port(), log.parent / "requests"
    requests.mkdir(exist_ok=True)
    code = f"from service.launch import serve\nserve({tag!r}, port={port})"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=CHECKOUT,
            env={**environment, "TMPDIR": str(requests)},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: process.poll() is not None or is_ready(url), timeout_s=60)
    assert process.poll() is None, log.read_text()
    return process, url


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a server; none of its processes stays."""
    children = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    wait_until(lambda: not any(is_running(child) for child in children), timeout_s=10)


def descendants(process_id: int) -> list[int]:
    threads = Path(f"/proc/{process_id}/task").glob("*/children")  # each thread has children of its own
    children = [int(child) for thread in threads for child in _read(thread).split()]
    return children + [grandchild for child in children for grandchild in descendants(child)]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # gone meanwhile
        return ""


def is_running(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """(3, H, W) or (H, W) as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels if pixels.ndim == 2 else np.moveaxis(pixels, 0, -1)).save(buffer, "png")
    return buffer.getvalue()
