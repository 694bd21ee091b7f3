"""Whether a segmentation that was killed and gone on with gives the same files: kill -9 at random moments of the real command.

    PYTHONPATH=. .venv/bin/python benchmarks/inference_kills.py [--kills 10] [--side 4000]

Three bundles of small U-Nets in turn, side by side, blended, and seen at another spacing; mask, probabilities and uncertainty
are written. Each is run whole once; then it is started and killed, again and again, at moments drawn over the seconds of a
whole run, and gone on with until it is done.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.inference_memory import FACTS
from configs import schema
from models import bundle
from models.architectures import build
from tests.phantom import write_pyramid_slide

KINDS = {
    "side by side": ("model.norm=batch",),
    "blended": ("model.norm=instance", "inference.tile_size=[256,256]"),
    "other spacing": ("model.norm=batch", "data.spacing_um=[0.4,0.4]"),
}


def main() -> None:
    """Prints a line a run; exits 1 where one byte differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--side", type=int, default=4000)
    arguments = parser.parse_args()
    draw, kills, differ = np.random.default_rng(0), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pixels = np.random.default_rng(0).integers(0, 256, (3, arguments.side, arguments.side // 2), np.uint8)
        write_pyramid_slide(place / "slide.svs", pixels, spacing_um=0.25)
        commands = {name: command(place, name, overrides) for name, overrides in KINDS.items()}
        whole_s = {}
        for name, words in commands.items():
            began = time.perf_counter()
            subprocess.run([*words, str(place / name / "whole")], check=True, capture_output=True)
            whole_s[name] = time.perf_counter() - began
        while kills < arguments.kills:
            for name, words in commands.items():
                kills += went_on(words, place / name, draw, whole_s[name])
                found, wanted = (files_of(place / name / each) for each in ("killed", "whole"))
                others = sorted(file for file in {*found, *wanted} if found.get(file) != wanted.get(file))
                differ += bool(others)
                said = f"DIFFERENT: {', '.join(others)}" if others else "the same"
                print(f"{name}: {said}; {kills} kills so far", flush=True)
                shutil.rmtree(place / name / "killed")
    print(f"{kills} kills, {differ} results that differ")
    sys.exit(bool(differ))


def command(place: Path, name: str, overrides: tuple[str, ...]) -> list[str]:
    """That segments the slide with a bundle of its own."""
    small = ("model.features=[8,16,32]", "run.name=benchmark", "inference.runtime=torch")
    config = schema.load(Path("configs/histology_unet.yaml"), ("inference.tile_size=[256,1024]", *small, *overrides))
    torch.manual_seed(0)
    bundle.write(place / name / "bundle", build(config), config, class_prior=(0.5, 0.5), **FACTS)
    words = [
        "predict",
        str(place / "slide.svs"),
        "-b",
        str(place / name / "bundle"),
        "--probabilities",
        "uint8",
        "--uncertainty",
    ]
    return [sys.executable, "-m", "overtile", *words, "-o"]


def went_on(words: list[str], place: Path, draw: np.random.Generator, whole_s: float) -> int:
    """Starts it and kills it until it comes to its end; how often it was killed."""
    kills = 0
    while True:
        running = subprocess.Popen([*words, str(place / "killed")], stderr=subprocess.PIPE)
        try:
            running.communicate(timeout=draw.uniform(0.2, 1.0) * whole_s)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGKILL)
            running.communicate()
            kills += 1
            continue
        if running.returncode:
            raise RuntimeError(f"exit code {running.returncode}")
        return kills


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


if __name__ == "__main__":
    main()
