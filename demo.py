"""Demo on real images: trains, packages, serves and compares both methods. A second run reuses the first one's files."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console

from configs import schema
from configs.command_line import progress_bars
from datasets.cases import open_case_image, read_cases
from demo_data import fetch, write_data
from evaluation.comparison.compare import compare
from evaluation.plots import draw_panel
from evaluation.report.comparison_files import write_comparison
from imaging.errors import DataError
from imaging.open import open_image
from inference.predictors.loading import load_predictor
from inference.segment import segment_array
from models.bundle import load
from service.packaging.package import package
from training.run import train

CONFIGS = Path(__file__).parent / "configs"
METHODS = ("unet", "sliding_window")
METHOD_TITLES = ("U-Net", "sliding window")
READY_TIMEOUT_S = 120
SLIDE_TIMEOUT_S = 600
PICTURED_CASE, PICTURED_PX = 4, (300, 300)  # held-out crop in the picture, and how much of it
PICTURED_SLIDE = (slice(560, 960), slice(1050, 1450))  # rows and columns of the slide in the picture


class Stages:
    """Announcements of the demo's stages, with an estimate of the remaining time.

    Args:
        console: console for the announcements.
        seconds: duration of each stage, as measured on two cores without a GPU.
    """

    def __init__(self, console: Console, seconds: dict[str, float]) -> None:
        self.console = console
        self.seconds = seconds
        self.start_s = time.monotonic()

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Announce a stage, and print afterwards how long it took."""
        titles = list(self.seconds)
        number = titles.index(title)
        left_s = sum(self.seconds[later] for later in titles[number:])
        self.console.print(f"[{number + 1}/{len(titles)}] {title} (about {_minutes(left_s)} left)", style="bold")
        start_s = time.monotonic()
        yield
        self.console.print(f"      {time.monotonic() - start_s:.0f} s")


STAGE_SECONDS = {
    "Fetching the images": 5.0,
    "Training the U-Net": 100.0,
    "Training the sliding window": 140.0,
    "Packaging both": 12.0,
    "Serving, and sending the slide to both": 15.0,
    "Comparing on the held-out half": 10.0,
}


def run_demo(folder: Path, console: Console) -> None:
    """Run all stages, and print where the report is and what to try next.

    Args:
        folder: folder for all files of the demo.
        console: console for progress and messages.

    Raises:
        DataError: the images can't be fetched, or aren't the expected ones.
    """
    os.environ.setdefault("BENTOML_HOME", str((folder / "bentoml").resolve()))
    stages = Stages(console, STAGE_SECONDS)
    titles = iter(STAGE_SECONDS)
    with stages.stage(next(titles)):
        downloads = fetch(folder / "downloads", console)
        data = write_data(downloads, folder / "data")
    bundles = []
    for method in METHODS:
        with stages.stage(next(titles)):
            bundles.append(train(config_of(method, data, folder / "runs"), console))
    with stages.stage(next(titles)):
        tag = package(bundles)
    with stages.stage(next(titles)), served(tag, folder / "server.log") as url:
        slide, names = downloads / "cmu_small_region.svs", [bundle.parent.name for bundle in bundles]
        masks = [segment_slide(url, slide, name, folder=folder, console=console) for name in names]
    with stages.stage(next(titles)):
        report = write_results(folder, slide, data, bundles=bundles, masks=masks, console=console)
    console.print(closing_text(folder, report, tag, seconds=time.monotonic() - stages.start_s))


def config_of(method: str, data: Path, runs: Path) -> schema.Config:
    """Return the shipped config of a method, with the demo's data and the demo's folder for runs."""
    overrides = [f"data.path={data}", f"run.folder={runs}", f"run.name=demo_{method}"]
    return schema.load(CONFIGS / f"histology_{method}.yaml", overrides)


@contextmanager
def served(tag: str, log: Path) -> Iterator[str]:
    """Serve the Bento until the context ends, and yield the server's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "overtile", "serve", tag, "--port", str(port)]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as server:
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def segment_slide(url: str, slide: Path, model: str, *, folder: Path, console: Console) -> Path:
    """Segment the slide over HTTP with one model, and return the path of the mask, a pyramidal TIFF.

    Raises:
        DataError: the server refuses the request.
    """
    mask = folder / f"slide_{model}.tiff"
    with slide.open("rb") as body:
        response = httpx.post(
            f"{url}/v1/segment", params={"model": model, "format": "tiff"}, content=body, timeout=SLIDE_TIMEOUT_S
        )
    if response.status_code != httpx.codes.OK:
        raise DataError("demo_refused", f"the server answered {response.status_code}: {response.text}")
    mask.write_bytes(response.content)
    console.print(f"      POST /v1/segment?model={model}: {response.headers['X-Overtile-Seconds']} s in the network, {mask}")
    return mask


def write_results(folder: Path, slide: Path, data: Path, *, bundles: list[Path], masks: list[Path], console: Console) -> Path:
    """Write the report, and pictures of a held-out crop and of the slide with both masks; return the report's path."""
    with progress_bars(console) as on_progress:
        comparison = compare(bundles, data, on_progress=on_progress)
    write_comparison(comparison, folder / "report.html")
    console.print(f"      {comparison.verdict}")
    colours = [section.colour for section in comparison.classes]
    case = read_cases(data)[PICTURED_CASE]
    with open_case_image(case) as source, open_image(case.reference or case.images[0], labels=True) as reference:
        region = tuple(slice(0, side) for side in PICTURED_PX)
        labels = [segment_array(source, load_predictor(load(bundle)))[region] for bundle in bundles]
        crop = (slice(None), *region)
        picture = draw_panel(next(source.blocks())[crop], next(reference.blocks())[crop][0], labels, METHOD_TITLES, colours)
    (folder / "held_out.png").write_bytes(picture)
    with open_image(slide) as source, open_image(masks[0], labels=True) as first, open_image(masks[1], labels=True) as second:
        labels = [mask.read(PICTURED_SLIDE)[0] for mask in (first, second)]
        picture = draw_panel(source.read(PICTURED_SLIDE), None, labels, METHOD_TITLES, colours)  # the slide has no reference
    (folder / "slide.png").write_bytes(picture)
    return folder / "report.html"


def closing_text(folder: Path, report: Path, tag: str, *, seconds: float) -> str:
    """Return the text at the end of the demo: where its files are, and what to try next."""
    commands = Path(os.path.relpath(Path(sys.executable).parent))
    return f"""
Done in {_minutes(seconds)}.
  Report            {report.resolve()}
  Pictures          {folder / "held_out.png"} and, of the slide, {folder / "slide.png"}
  The slide's masks {folder / "slide_demo_unet.tiff"} and {folder / "slide_demo_sliding_window.tiff"}
  Training curves   {commands / "tensorboard"} --logdir {folder / "runs"}
  Serve it yourself BENTOML_HOME={os.environ["BENTOML_HOME"]} {commands / "overtile"} serve {tag}
                    then open http://127.0.0.1:3000/docs
  Your own images   a folder with cases.csv (case,image,reference,split), then
                    {commands / "overtile"} train configs/histology_unet.yaml data.path=FOLDER run.name=NAME
"""


def _wait_until_ready(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the server answers.

    Raises:
        DataError: it ends, or isn't ready in time.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise DataError("demo_server", f"the server didn't start; {log} says why")


def _minutes(seconds: float) -> str:
    """Return a duration in seconds, or in minutes from 90 seconds on."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
