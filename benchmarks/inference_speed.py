"""How fast an image is segmented: every way that Overtile runs a network, MONAI's and nnU-Net's sliding windows, a plain loop.

    PYTHONPATH=. .venv/bin/python benchmarks/inference_speed.py [--dimensions 3] [--side 2048] [--repeats 3] [--bundle BUNDLE]
        [--nnunet PYTHON] [--memory 4GB] [--features 32,64,128,256,512] [--norm batch] [--only WORDS] [--once]

All run the same weights on the same image in memory and give its mask, in turns; nnU-Net's predictor in an environment of its
own, with whose PYTHON it is started. Two networks, both U-Nets: with batch norm, where Overtile's tiles lie side by side and
are exact, and with instance norm, where they overlap by half and are blended, as MONAI's do at its better setting and
nnU-Net's do. `--bundle` takes a trained 2D U-Net instead of them, on a picture made of its own sample, so that agreement means
something. Beside each stands how many of the mask's pixels are those of torch in float32, which share of its time the network
took, and the rate of that share's multiply-adds by the rate at which this machine multiplies matrices of the same type. All
tiles have 512 pixels a side in 2D and 96 in 3D, but for Overtile's where they are exact: those are as large as `--memory` has
room for, since margins are what is wasted. `--once` leaves out the turn that sets things up and takes one, for images that
take minutes; `--only` keeps those ways whose names hold one of the words with commas between.
"""

import argparse
import itertools
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor

from configs import schema
from configs.quantities import parse_memory
from evaluation.comparison.measurement import describe_machine
from imaging.source import Geometry, ImageSource, Region
from inference.predictors.counting import multiply_adds_of_tile, shape_only_predictor
from inference.predictors.loading import MemoryLimits
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import Predictor
from inference.predictors.runtime import automatic_runtimes
from inference.segment import segment_array
from inference.tiling.memory_budget import MemoryBudget
from models import bundle
from models.architectures import build
from transforms import normalise

TILE_PX = {2: 512, 3: 96}
SIDE_PX = {2: 2048, 3: 160}
CONFIGS = {2: "histology_unet", 3: "mri_unet"}
FEATURES = {2: "32,64,128,256,512", 3: "32,64,128,256"}
MATRIX = 4096
CPU = torch.device("cpu")

Mask = NDArray[np.uint8]


class Picture(ImageSource):
    """Pixels (C, *S) in memory."""

    mask_format = "png"

    def __init__(self, pixels: NDArray[Any]) -> None:
        super().__init__(Geometry(pixels.shape[1:]), len(pixels), pixels.dtype)
        self.pixels = pixels

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        return self.pixels[(slice(None), *region)]


@dataclass
class Way:
    """How a mask is made; `network_s` adds up what the network takes of it."""

    name: str
    mask: Callable[["Way"], Mask]
    type: str = "float32"
    network_s: float = 0.0
    said_s: float = 0.0  # of a peer that takes its own time
    passes: int = 0
    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def network(self) -> Iterator[None]:
        """Times a pass."""
        start_s = time.perf_counter()
        yield
        self.network_s += time.perf_counter() - start_s
        self.passes += 1


def main() -> None:
    """Prints a table in Markdown for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimensions", type=int, choices=(2, 3), default=2)
    parser.add_argument("--side", type=int, help="of the image, pixels; 2,048 in 2D, 160 in 3D")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--nnunet", type=Path, help="the Python of an environment with nnunetv2")
    parser.add_argument("--features", help="of the networks' levels, with commas between")
    parser.add_argument("--norm", choices=("batch", "instance"), help="of the one network to take; left out: both")
    parser.add_argument("--only", default="", help="words with commas between")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--memory", type=parse_memory, default="4GB", help="that Overtile may take")
    arguments = parser.parse_args()
    arguments.side = arguments.side or SIDE_PX[arguments.dimensions]
    rates = {"float32": matrix_rate(torch.float32), "bfloat16": matrix_rate(torch.bfloat16)}
    ran_on = describe_machine(CPU)
    print(
        f"{ran_on.processor}, {ran_on.cores} cores, {ran_on.threads} threads, torch {ran_on.versions['torch']}, MONAI "
        f"{monai.__version__}; {arguments.side}^{arguments.dimensions} pixels, medians of {arguments.repeats}; "
        f"matrices: {rates['float32']:.0f} GFLOP/s in float32, {rates['bfloat16']:.0f} in bfloat16"
    )
    for predictor, picture in subjects(arguments):
        report(predictor, picture, arguments, rates)


def subjects(arguments: argparse.Namespace) -> Iterator[tuple[Predictor, Picture]]:
    """The networks, and a picture for each."""
    if arguments.bundle:
        loaded = bundle.load(arguments.bundle)
        if loaded.sample is None:
            raise SystemExit("the bundle has no sample; train it again")
        tile_size = None if loaded.config.model.norm == "batch" else (TILE_PX[2],) * 2
        inference = loaded.config.inference.model_copy(update={"tile_size": tile_size})
        config = loaded.config.model_copy(update={"inference": inference, "normalise": _AS_IT_IS})
        piece = loaded.sample.patches[0].numpy()
        repeats = (1, *(-(-arguments.side // side) for side in piece.shape[1:]))
        pixels = np.tile(piece, repeats)[:, : arguments.side, : arguments.side]
        yield make_predictor(config, loaded.network, loaded.manifest.class_prior, CPU), Picture(pixels)
        return
    dimensions = arguments.dimensions
    for norm in (arguments.norm,) if arguments.norm else ("batch", "instance"):
        tile = "null" if norm == "batch" else [TILE_PX[dimensions]] * dimensions
        features = arguments.features or FEATURES[dimensions]
        overrides = (f"model.features=[{features}]", f"model.norm={norm}", f"inference.tile_size={tile}", *RANGE)
        config = schema.load(Path(f"configs/{CONFIGS[dimensions]}.yaml"), overrides)
        torch.manual_seed(0)
        shape = (len(config.data.channels), *[arguments.side] * dimensions)
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        prior = (1.0,) * len(config.data.classes)
        yield make_predictor(config, build(config).eval(), prior, CPU), Picture(pixels)


RANGE = ("normalise.method=range", "normalise.lower=0", "normalise.upper=255")
_AS_IT_IS = schema.load(Path("configs/histology_unet.yaml"), ("normalise.lower=-1", "normalise.upper=1")).normalise


def report(predictor: Predictor, picture: Picture, arguments: argparse.Namespace, rates: dict[str, float]) -> None:
    """Times every way in turn."""
    with tempfile.TemporaryDirectory() as folder:
        ways = [way for way in ways_of(predictor, picture, arguments, Path(folder)) if is_wanted(way, arguments.only)]
        masks = timed(ways, 1 if arguments.once else arguments.repeats + 1)
    tell(predictor, picture, ways, masks, rates)


def is_wanted(way: Way, only: str) -> bool:
    """Whether its name holds one of the words."""
    return any(word in way.name for word in only.split(","))


def timed(ways: list[Way], turns: int) -> dict[str, Mask]:
    """In turn, the first of which sets things up where there are several; each way's last mask."""
    masks = {}
    for _ in range(turns):
        for way in ways:
            way.network_s, way.passes = 0.0, 0
            start_s = time.perf_counter()
            masks[way.name] = way.mask(way)
            way.seconds.append(way.said_s or time.perf_counter() - start_s)
    return masks


def tell(predictor: Predictor, picture: Picture, ways: list[Way], masks: dict[str, Mask], rates: dict[str, float]) -> None:
    """Prints the table."""
    size = predictor.grid(picture.shape).tile_size
    tile = multiply_adds_of_tile(shape_only_predictor(predictor.config), size)
    seconds = {way.name: statistics.median(way.seconds[1:] or way.seconds) for way in ways}
    monai_s, exact = seconds[ways[0].name], masks.get("Overtile, torch", masks[ways[0].name])
    print(f"\n{predictor.config.model.norm} norm, {2 * tile / 1e9:.1f} GFLOP a tile of {' x '.join(map(str, size))}\n")
    print("| | s | Mpixel/s | times MONAI, overlap .25 | like torch | network's share of the time | of the matrix rate |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for way in ways:
        took = seconds[way.name]
        done = 2 * tile * way.passes / max(way.network_s, 1e-9) / 1e9 / rates[way.type]
        inside = f"{way.network_s / way.seconds[-1]:.0%} | {done:.0%}" if way.name.startswith("Overtile") else "|"
        alike = f"{(masks[way.name] == exact).mean():.4%}"
        rate = np.prod(picture.shape) / took / 1e6
        print(f"| {way.name} | {took:.2f} | {rate:.3f} | {monai_s / took:.1f} | {alike} | {inside} |")


def ways_of(predictor: Predictor, picture: Picture, arguments: argparse.Namespace, folder: Path) -> Iterator[Way]:
    """MONAI's first."""
    side = TILE_PX[len(picture.shape)]
    normalised = normalise.fit(predictor.config.normalise, picture.channels, picture.blocks())
    whole = torch.from_numpy(normalised(picture.pixels))[None]
    for overlap, mode in ((0.25, "constant"), (0.5, "gaussian")):

        def by_monai(way: Way, overlap: float = overlap, mode: str = mode) -> Mask:
            def network(patches: Tensor) -> Tensor:
                with way.network():
                    return predictor.network(patches)

            with torch.inference_mode():
                logits = sliding_window_inference(whole, (side,) * len(picture.shape), 1, network, overlap=overlap, mode=mode)
            return predictor.head.mask(logits[0].numpy())

        yield Way(f"MONAI, overlap {overlap:g}, {mode}", by_monai)

    def by_loop(way: Way) -> Mask:
        """Tiles side by side without margins: what it comes to at least, with seams."""
        mask = np.zeros(picture.shape, np.uint8)
        sides = [[min(start, size - side) for start in range(0, size, side)] for size in picture.shape]
        for corner in itertools.product(*sides):
            place = tuple(slice(start, start + side) for start in corner)
            with torch.inference_mode(), way.network():
                logits = predictor.network(whole[(slice(None), slice(None), *place)])
            mask[place] = predictor.head.mask(logits[0].numpy())
        return mask

    yield Way("a plain loop, no overlap", by_loop)
    if arguments.nnunet:
        yield by_nnunet(predictor, whole, arguments.nnunet, folder)
    by_torch = predictor.run
    for runtime in automatic_runtimes(CPU, is_fixed=predictor.is_fixed):
        run = runtime.load(by_torch)
        budget = MemoryLimits.of_process(arguments.memory).budget(predictor, runtime.name)

        def by_overtile(way: Way, run: Callable[[Tensor], Tensor] = run, budget: MemoryBudget = budget) -> Mask:
            def timed(patches: Tensor) -> Tensor:
                with way.network():
                    return run(patches)

            return segment_array(picture, replace(predictor, run=timed, memory_budget=budget))

        yield Way(f"Overtile, {runtime.name}", by_overtile, "bfloat16" if "bfloat16" in runtime.name else "float32")


def by_nnunet(predictor: Predictor, whole: Tensor, python: Path, folder: Path) -> Way:
    """Its predictor in a process of its own, with overlap .5 and Gaussian weights, as it comes, but without mirror images."""
    side = TILE_PX[whole.ndim - 2]
    with torch.no_grad():
        torch.jit.trace(predictor.network, torch.zeros(1, whole.shape[1], *[side] * (whole.ndim - 2))).save(
            folder / "network.pt"
        )
    np.save(folder / "pixels.npy", whole[0].numpy())
    script = Path(__file__).with_name("nnunet_predictor.py")
    command = [str(python), str(script), str(folder / "network.pt"), str(folder / "pixels.npy"), str(side), "0.5"]
    peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def mask(way: Way) -> Mask:
        if peer.stdin is None or peer.stdout is None:
            raise RuntimeError("the peer has no pipes")
        peer.stdin.write("once\n")
        peer.stdin.flush()
        way.said_s = float(next(line for line in peer.stdout if line[0].isdigit()))
        found: Mask = np.load(folder / "pixels.mask.npy")
        return found

    return Way("nnU-Net, overlap 0.5, gaussian", mask)


def matrix_rate(type: torch.dtype) -> float:
    """GFLOP/s of a product of square matrices, the best of several."""
    first, second = (torch.randn(MATRIX, MATRIX).to(type) for _ in range(2))
    taken = []
    for _ in range(5):
        start_s = time.perf_counter()
        first @ second
        taken.append(time.perf_counter() - start_s)
    return 2 * MATRIX**3 / min(taken) / 1e9


if __name__ == "__main__":
    main()
