"""Speed of segmentation with each of Overtile's runtimes, MONAI's and nnU-Net's sliding-window inference, and a plain loop.

    PYTHONPATH=. .venv/bin/python benchmarks/inference_speed.py [--dimensions 3] [--side 2048] [--repeats 3] [--bundle BUNDLE]
        [--nnunet PYTHON] [--memory 4GB] [--features 32,64,128,256,512] [--norm batch] [--only WORDS] [--once]

All run the same weights on the same image in memory and return its mask, in turns. nnU-Net's predictor runs in a separate
environment, whose PYTHON is given. There are two U-Nets: with batch norm, where Overtile's tiles are exact and don't overlap,
and with instance norm, where they overlap by half and are blended, as with MONAI's better setting and with nnU-Net. `--bundle`
replaces them by a trained 2D U-Net, on an image made of its own sample, so that the agreement is meaningful.

The table shows the share of the mask's pixels that equal those of torch in float32, the network's share of the time, and the
rate of its multiply-adds relative to the rate at which this machine multiplies matrices of the same type. Tiles have 512 pixels
per axis in 2D and 96 in 3D, except Overtile's exact ones, which are as large as `--memory` allows.
`--once` runs a single turn without a first one that is left out, for images that take minutes. `--only` selects the methods
whose names contain one of the words, which are separated by commas.
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
MATRIX = 4096  # rows and columns of the matrices whose product is timed
CPU = torch.device("cpu")

Mask = NDArray[np.uint8]


class ImageInMemory(ImageSource):
    """Image with its pixels (C, *S) in memory."""

    mask_format = "png"

    def __init__(self, pixels: NDArray[Any]) -> None:
        super().__init__(Geometry(pixels.shape[1:]), len(pixels), pixels.dtype)
        self.pixels = pixels

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        return self.pixels[(slice(None), *region)]


@dataclass
class Method:
    """Method that makes a mask. `network_s` is the sum of the network's seconds in the last turn."""

    name: str
    mask: Callable[["Method"], Mask]
    type: str = "float32"
    network_s: float = 0.0
    reported_s: float = 0.0  # seconds that a separate process measured
    passes: int = 0
    tile_size: tuple[int, ...] = ()
    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def network(self) -> Iterator[None]:
        """Time a pass of the network."""
        start_s = time.perf_counter()
        yield
        self.network_s += time.perf_counter() - start_s
        self.passes += 1


def main() -> None:
    """Print a table in Markdown for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimensions", type=int, choices=(2, 3), default=2)
    parser.add_argument("--side", type=int, help="side of the image in pixels; by default 2,048 in 2D, 160 in 3D")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--nnunet", type=Path, help="Python of an environment with nnunetv2")
    parser.add_argument("--features", help="features of the networks' levels, separated by commas")
    parser.add_argument("--norm", choices=("batch", "instance"), help="norm of the network; by default both, in turn")
    parser.add_argument("--only", default="", help="words in the names of methods, separated by commas")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--memory", type=parse_memory, default="4GB", help="memory that Overtile may take")
    arguments = parser.parse_args()
    arguments.side = arguments.side or SIDE_PX[arguments.dimensions]
    rates = {"float32": matrix_rate(torch.float32), "bfloat16": matrix_rate(torch.bfloat16)}
    ran_on = describe_machine(CPU)
    print(
        f"{ran_on.processor}, {ran_on.cores} cores, {ran_on.threads} threads, torch {ran_on.versions['torch']}, MONAI "
        f"{monai.__version__}; {arguments.side}^{arguments.dimensions} pixels, medians of {arguments.repeats}; "
        f"matrices: {rates['float32']:.0f} GFLOP/s in float32, {rates['bfloat16']:.0f} in bfloat16"
    )
    for predictor, image in subjects(arguments):
        report(predictor, image, arguments, rates)


def subjects(arguments: argparse.Namespace) -> Iterator[tuple[Predictor, ImageInMemory]]:
    """Yield the predictors of the networks, each with an image."""
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
        yield make_predictor(config, loaded.network, loaded.manifest.class_prior, CPU), ImageInMemory(pixels)
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
        yield make_predictor(config, build(config).eval(), prior, CPU), ImageInMemory(pixels)


RANGE = ("normalise.method=range", "normalise.lower=0", "normalise.upper=255")
_AS_IT_IS = schema.load(Path("configs/histology_unet.yaml"), ("normalise.lower=-1", "normalise.upper=1")).normalise


def report(predictor: Predictor, image: ImageInMemory, arguments: argparse.Namespace, rates: dict[str, float]) -> None:
    """Time every method in turn, and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        methods = [
            method for method in methods_of(predictor, image, arguments, Path(folder)) if is_selected(method, arguments.only)
        ]
        masks = run_turns(methods, 1 if arguments.once else arguments.repeats + 1)
    print_table(predictor, image, methods, masks, rates)


def is_selected(method: Method, only: str) -> bool:
    """Return whether the method's name contains one of the words."""
    return any(word in method.name for word in only.split(","))


def run_turns(methods: list[Method], turns: int) -> dict[str, Mask]:
    """Run every method in each turn, and return the last mask of each."""
    masks = {}
    for _ in range(turns):
        for method in methods:
            method.network_s, method.passes = 0.0, 0
            start_s = time.perf_counter()
            masks[method.name] = method.mask(method)
            method.seconds.append(method.reported_s or time.perf_counter() - start_s)
    return masks


def print_table(
    predictor: Predictor, image: ImageInMemory, methods: list[Method], masks: dict[str, Mask], rates: dict[str, float]
) -> None:
    """Print the table of one network."""
    size = next((method.tile_size for method in methods if method.tile_size), predictor.grid(image.shape).tile_size)
    tile = multiply_adds_of_tile(shape_only_predictor(predictor.config), size)
    seconds = {method.name: statistics.median(method.seconds[1:] or method.seconds) for method in methods}
    monai_s, exact = seconds[methods[0].name], masks.get("Overtile, torch", masks[methods[0].name])
    print(f"\n{predictor.config.model.norm} norm, {2 * tile / 1e9:.1f} GFLOP a tile of {' x '.join(map(str, size))}\n")
    print("| | s | Mpixel/s | times MONAI, overlap .25 | equal to torch | network's share of the time | of the matrix rate |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for method in methods:
        mask_s = seconds[method.name]
        tile = multiply_adds_of_tile(shape_only_predictor(predictor.config), method.tile_size or size)
        rate_share = 2 * tile * method.passes / max(method.network_s, 1e-9) / 1e9 / rates[method.type]
        inside = (
            f"{method.network_s / method.seconds[-1]:.0%} | {rate_share:.0%}" if method.name.startswith("Overtile") else "|"
        )
        agreement = f"{(masks[method.name] == exact).mean():.4%}"
        rate = np.prod(image.shape) / mask_s / 1e6
        print(f"| {method.name} | {mask_s:.2f} | {rate:.3f} | {monai_s / mask_s:.1f} | {agreement} | {inside} |")


def methods_of(predictor: Predictor, image: ImageInMemory, arguments: argparse.Namespace, folder: Path) -> Iterator[Method]:
    """Yield the methods, MONAI's first."""
    side = TILE_PX[len(image.shape)]
    normalised = normalise.fit(predictor.config.normalise, image.channels, image.blocks())
    whole = torch.from_numpy(normalised(image.pixels))[None]
    for overlap, mode in ((0.25, "constant"), (0.5, "gaussian")):

        def by_monai(method: Method, overlap: float = overlap, mode: str = mode) -> Mask:
            def network(patches: Tensor) -> Tensor:
                with method.network():
                    return predictor.network(patches)

            with torch.inference_mode():
                logits = sliding_window_inference(whole, (side,) * len(image.shape), 1, network, overlap=overlap, mode=mode)
            return predictor.head.mask(logits[0].numpy())

        yield Method(f"MONAI, overlap {overlap:g}, {mode}", by_monai)

    def by_loop(method: Method) -> Mask:
        """Return the mask of tiles side by side without margins: the least work, with visible seams."""
        mask = np.zeros(image.shape, np.uint8)
        sides = [[min(start, size - side) for start in range(0, size, side)] for size in image.shape]
        for corner in itertools.product(*sides):
            place = tuple(slice(start, start + side) for start in corner)
            with torch.inference_mode(), method.network():
                logits = predictor.network(whole[(slice(None), slice(None), *place)])
            mask[place] = predictor.head.mask(logits[0].numpy())
        return mask

    yield Method("a plain loop, no overlap", by_loop)
    if arguments.nnunet:
        yield by_nnunet(predictor, whole, arguments.nnunet, folder)
    by_torch = predictor.run
    for runtime in automatic_runtimes(CPU, is_fixed=predictor.is_fixed):
        run = runtime.load(by_torch)
        budget = MemoryLimits.of_process(arguments.memory).budget(predictor, runtime.name)

        def by_overtile(method: Method, run: Callable[[Tensor], Tensor] = run, budget: MemoryBudget = budget) -> Mask:
            def timed(patches: Tensor) -> Tensor:
                with method.network():
                    return run(patches)

            chosen = replace(predictor, run=timed, memory_budget=budget)
            method.tile_size = chosen.grid(image.shape).tile_size
            return segment_array(image, chosen)

        yield Method(f"Overtile, {runtime.name}", by_overtile, "bfloat16" if "bfloat16" in runtime.name else "float32")


def by_nnunet(predictor: Predictor, whole: Tensor, python: Path, folder: Path) -> Method:
    """Return nnU-Net's predictor in a separate process, with its default overlap and weights, but without mirroring."""
    side = TILE_PX[whole.ndim - 2]
    with torch.no_grad():
        torch.jit.trace(predictor.network, torch.zeros(1, whole.shape[1], *[side] * (whole.ndim - 2))).save(
            folder / "network.pt"
        )
    np.save(folder / "pixels.npy", whole[0].numpy())
    script = Path(__file__).with_name("nnunet_predictor.py")
    command = [str(python), str(script), str(folder / "network.pt"), str(folder / "pixels.npy"), str(side), "0.5"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def mask(method: Method) -> Mask:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process of nnU-Net has no pipes")
        process.stdin.write("once\n")
        process.stdin.flush()
        method.reported_s = float(next(line for line in process.stdout if line[0].isdigit()))
        result: Mask = np.load(folder / "pixels.mask.npy")
        return result

    return Method("nnU-Net, overlap 0.5, gaussian", mask)


def matrix_rate(type: torch.dtype) -> float:
    """Return the GFLOP/s of a product of square matrices, the best of several."""
    first, second = (torch.randn(MATRIX, MATRIX).to(type) for _ in range(2))
    durations = []
    for _ in range(5):
        start_s = time.perf_counter()
        first @ second
        durations.append(time.perf_counter() - start_s)
    return 2 * MATRIX**3 / min(durations) / 1e9


if __name__ == "__main__":
    main()
