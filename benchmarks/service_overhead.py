"""Overhead of the service: upload, job and result of a volume over HTTP, compared with `inference.predict`.

    python benchmarks/service_overhead.py BUNDLE IMAGE

This process, which `benchmarks/service_load.py overhead` starts, loads the bundle. For each folder on its standard input it
writes the image's mask there, and prints the seconds.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
from served import THREADS, random_bundle, served

from datasets.inputs import find_inputs
from inference.predict import predict
from inference.predictors.loading import load_predictor
from inference.request import OutputRequest
from models import bundle

CONFIG, MODEL = "mri_unet", "benchmark"
OVERRIDES = ("model.features=[8,16,32]", "inference.runtime=openvino")  # `auto` might select different runtimes
MOST_RATIO = 1.10  # of the time over HTTP to that of predict
POLL_S = 0.05


def overhead(options: argparse.Namespace, folder: Path) -> bool:
    """Time both in turns, after a first turn that is left out, and return whether the limit holds."""
    image, bundle_folder = volume(folder / "volume.nii", options.voxels), random_bundle(folder / "bundle", CONFIG, *OVERRIDES)
    alone, over_http, same = [], [], []
    with (
        served(folder, bundle_folder) as service,
        httpx.Client(base_url=service.url, timeout=600) as client,
        PredictProcess(bundle_folder, image) as process,
    ):
        for turn in range(options.repeats + 1):
            own_s, own_mask = process.mask(folder / f"own-{turn}")
            http_s, http_mask = _over_http(client, image)
            same.append(own_mask == http_mask)
            alone.append(own_s)
            over_http.append(http_s)
    return _report(image, alone[1:], over_http[1:], all(same))


def _report(image: Path, alone: list[float], over_http: list[float], same: bool) -> bool:
    """Print the table, and return whether the limit holds."""
    ratio = float(np.median([one / other for one, other in zip(over_http, alone, strict=True)]))
    print(f"{image.stat().st_size / 1e6:.1f} MB, medians of {len(alone)} turns; start and loading of the bundle are left out\n")
    print("| | s | times | results |")
    print("| --- | ---: | ---: | --- |")
    print(f"| inference.predict | {np.median(alone):.2f} | 1.00 | |")
    print(f"| HTTP: upload, job, result | {np.median(over_http):.2f} | {ratio:.2f} | {'equal' if same else 'DIFFERENT'} |")
    return same and ratio <= MOST_RATIO


def volume(path: Path, side: int) -> Path:
    """Write a volume of noise, uint8 (side, side, side) with a spacing of 1 mm."""
    coarse = np.random.default_rng(3).integers(0, 256, (-(-side // 8),) * 3, np.uint8)
    voxels = coarse.repeat(8, 0).repeat(8, 1).repeat(8, 2)[:side, :side, :side]
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)  # type: ignore[no-untyped-call, attr-defined]
    return path


def _over_http(client: httpx.Client, image: Path) -> tuple[float, bytes]:
    """Return the seconds from the first byte of the upload to the last of the result, and the result."""
    start_s = time.monotonic()
    with image.open("rb") as file:
        upload = client.put("/v1/uploads", content=file, headers={"Content-Length": str(image.stat().st_size)})
    job = client.post("/v1/jobs", json={"uploads": [upload.json()["id"]], "models": [MODEL]})
    job.raise_for_status()
    place = job.headers["location"]
    while (job_state := client.get(place).json())["state"] in ("queued", "running"):
        time.sleep(POLL_S)
    if job_state["state"] != "done":
        raise SystemExit(f"the job failed: {job_state['error']}")
    mask = client.get(f"{place}/results/{job_state['results'][0]['name']}").content
    return time.monotonic() - start_s, mask


class PredictProcess:
    """Process that has loaded a bundle and predicts an image on request."""

    def __init__(self, bundle_folder: Path, image: Path) -> None:
        command, environment = [sys.executable, __file__, str(bundle_folder), str(image)], {**os.environ}
        environment.pop(THREADS, None)
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def mask(self, out: Path) -> tuple[float, bytes]:
        """Return the seconds of predicting the image, and its mask."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self._process.stdin.write(f"{out}\n")
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the process that predicts ended; see its message above")
        seconds, _, path = line.strip().partition(" ")
        return float(seconds), Path(path).read_bytes()

    def __enter__(self) -> "PredictProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)


def predict_on_request(bundle_folder: str, image: str) -> None:
    """Predict the image into each folder that standard input names."""
    predictor = load_predictor(bundle.load(Path(bundle_folder)))
    for line in sys.stdin:
        start_s = time.monotonic()
        (outcome,) = predict(find_inputs([image]).images, predictor, Path(line.strip()), OutputRequest(), lambda *_: None)
        if isinstance(outcome.result, Exception):
            raise outcome.result
        print(time.monotonic() - start_s, outcome.files[0], flush=True)


if __name__ == "__main__":
    predict_on_request(*sys.argv[1:])
