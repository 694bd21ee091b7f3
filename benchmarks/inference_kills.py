"""Check that a segmentation that was killed and resumed writes the same files as one that ran through.

    PYTHONPATH=. .venv/bin/python benchmarks/inference_kills.py [--kills 10] [--side 4000]

Three bundles of small U-Nets segment a slide: with tiles side by side, with blended tiles, and at another spacing. Mask,
probabilities and uncertainty are written. Each command runs through once; then it is started again and again and killed
(SIGKILL) at random moments until it is finished.
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
from random_bundle import write_random_bundle

from configs import schema
from tests.phantom import write_pyramid_slide

OVERRIDES = {
    "side by side": ("model.norm=batch",),
    "blended": ("model.norm=instance", "inference.tile_size=[256,256]"),
    "other spacing": ("model.norm=batch", "data.spacing_um=[0.4,0.4]"),
}


def main() -> None:
    """Print a line per run; exit with 1 if a byte differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--side", type=int, default=4000)
    arguments = parser.parse_args()
    random, kills, different_results = np.random.default_rng(0), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pixels = np.random.default_rng(0).integers(0, 256, (3, arguments.side, arguments.side // 2), np.uint8)
        write_pyramid_slide(place / "slide.svs", pixels, spacing_um=0.25)
        commands = {name: command(place, name, overrides) for name, overrides in OVERRIDES.items()}
        whole_s = {}
        for name, words in commands.items():
            start_s = time.perf_counter()
            subprocess.run([*words, str(place / name / "whole")], check=True, capture_output=True)
            whole_s[name] = time.perf_counter() - start_s
        while kills < arguments.kills:
            for name, words in commands.items():
                kills += run_with_kills(words, place / name, random, whole_s[name])
                files, expected = (files_of(place / name / each) for each in ("killed", "whole"))
                different = sorted(file for file in {*files, *expected} if files.get(file) != expected.get(file))
                different_results += bool(different)
                verdict = f"DIFFERENT: {', '.join(different)}" if different else "the same"
                print(f"{name}: {verdict}; {kills} kills so far", flush=True)
                shutil.rmtree(place / name / "killed")
    print(f"{kills} kills, {different_results} results that differ")
    sys.exit(bool(different_results))


def command(place: Path, name: str, overrides: tuple[str, ...]) -> list[str]:
    """Write a bundle, and return the command that segments the slide with it, without the folder of the outputs."""
    small = ("model.features=[8,16,32]", "run.name=benchmark", "inference.runtime=torch")
    config = schema.load(Path("configs/histology_unet.yaml"), ("inference.tile_size=[256,1024]", *small, *overrides))
    write_random_bundle(place / name / "bundle", config)
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


def run_with_kills(words: list[str], place: Path, random: np.random.Generator, whole_s: float) -> int:
    """Start the command and kill it at random moments until it finishes, and return the number of kills."""
    kills = 0
    while True:
        process = subprocess.Popen([*words, str(place / "killed")], stderr=subprocess.PIPE)
        try:
            process.communicate(timeout=random.uniform(0.2, 1.0) * whole_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        if process.returncode:
            raise RuntimeError(f"exit code {process.returncode}")
        return kills


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files in a folder, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


if __name__ == "__main__":
    main()
