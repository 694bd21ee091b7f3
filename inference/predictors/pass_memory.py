"""How much memory operations take, counted on tensors without numbers; what a tile takes is what plans and budgets go by."""

import math
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from configs.network_sections import SlidingWindowSection
from configs.schema import Config
from inference.predictors.counting import META, shape_only_predictor
from inference.predictors.predictor import Predictor
from inference.tiling.grid import Grid
from inference.tiling.memory_budget import Pass
from models.architectures import count_parameters

BYTES = 4  # of a float32
MAPPED_BYTES = 2**25  # from here on glibc maps each block by itself, and gives it back when it is freed


@dataclass
class Counted:
    """What tensors take, counted while operations run.

    Args:
        peak_bytes: the most that was alive at a time.
        convolution_bytes: the largest convolution's output.
        heap_bytes: the largest tensor that the C library doesn't give a mapping of its own.
    """

    peak_bytes: int = 0
    convolution_bytes: int = 0
    heap_bytes: int = 0


class LiveBytes(TorchDispatchMode):
    """Counts the tensors that are alive while operations run under it.

    Tensors that share their storage count once, and a storage counts until its last tensor is gone.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counted = Counted()
        self.live_bytes = 0
        self._storages: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, _: object, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        """Runs an operation and counts what it gave back."""
        outcome = function(*arguments, **(keywords or {}))
        for tensor in pytree.tree_leaves(outcome):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        if function is torch.ops.aten.convolution.default:
            self.counted.convolution_bytes = max(self.counted.convolution_bytes, outcome.untyped_storage().nbytes())
        return outcome

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._storages:
            return
        self._storages[key] = size
        self.live_bytes += size
        self.counted.peak_bytes = max(self.counted.peak_bytes, self.live_bytes)
        if size < MAPPED_BYTES:
            self.counted.heap_bytes = max(self.counted.heap_bytes, size)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.live_bytes -= self._storages.pop(key)


@dataclass(frozen=True)
class CpuOverhead:
    """What a process takes on a CPU besides its live tensors; benchmarks/memory_model.py fits it, and checks it elsewhere.

    Args:
        fixed_bytes: compiled kernels, threads, the allocator's arenas.
        weights: times those of the network: copies in the order that the kernels want, sums of gradients a thread.
        convolutions: times the largest one's output: the kernels' workspace, kept from step to step.
        scattered: times the largest tensor of the heap: what lies unused between tensors of different sizes.
        scattered_by_instance_norm: the same with instance norm, which copies tensors into another order.
    """

    fixed_bytes: int
    weights: float
    convolutions: float
    scattered: float
    scattered_by_instance_norm: float

    def total(self, counted: Counted, config: Config) -> int:
        """Bytes in all, the tensors included."""
        weights_bytes = BYTES * count_parameters(shape_only_predictor(config).network)
        return round(
            self.fixed_bytes
            + counted.peak_bytes
            + self.weights * weights_bytes
            + self.convolutions * counted.convolution_bytes
            + self.scattering(config) * counted.heap_bytes
        )

    def scattering(self, config: Config) -> float:
        """Times the largest tensor of the heap, for the config's network."""
        return self.scattered_by_instance_norm if config.model.norm == "instance" else self.scattered


INFERENCE = {  # by dimensions; 3D kernels put their input, up to twice the output, in another order
    2: CpuOverhead(14 * 2**20, weights=0, convolutions=1, scattered=1, scattered_by_instance_norm=3),
    3: CpuOverhead(14 * 2**20, weights=0, convolutions=4, scattered=1, scattered_by_instance_norm=3),
}
DENSE = CpuOverhead(14 * 2**20, weights=0, convolutions=0, scattered=0, scattered_by_instance_norm=0)  # sliding windows
COMPILED = {  # by runtime: its library, weights in the order that its kernels want, what compiling leaves
    "openvino": CpuOverhead(140 * 2**20, weights=3.5, convolutions=0, scattered=0, scattered_by_instance_norm=0),
    "onnxruntime": CpuOverhead(240 * 2**20, weights=5, convolutions=0, scattered=0, scattered_by_instance_norm=0),
    "openvino_bfloat16": CpuOverhead(140 * 2**20, weights=2.5, convolutions=0, scattered=0, scattered_by_instance_norm=0),
}
COUNTED_SIDES = {2: (128, 256), 3: (32, 64)}  # of tiles; what they take grows as their pixels do


def inference_bytes(config: Config, shape: tuple[int, ...], device: torch.device) -> int:
    """Peak memory of segmenting an image of that shape, tile by tile, the network and the row of tiles in hand included."""
    counted = count_inference(config, shape)
    return _by_torch(config).total(counted, config) if device.type == "cpu" else counted.peak_bytes


def pass_of(config: Config, device: torch.device, runtime: str, members: int) -> Pass:
    """What a batch of tiles takes beyond the loaded networks.

    Args:
        config: the networks'.
        device: where they run.
        runtime: what runs them; one that compiles keeps the memory of each network's pass.
        members: how many networks there are.
    """
    predictor = shape_only_predictor(config)
    counted = {}
    for side in COUNTED_SIDES[config.data.dimensions]:
        tile_size = Grid(tuple(predictor.axis(axis, side, side) for axis in range(config.data.dimensions))).tile_size
        counted[math.prod(tile_size)] = _count_pass(predictor, tile_size)
    pixels, largest = max(counted.items())
    if device.type != "cpu":
        return Pass(0, largest.peak_bytes / pixels, 0, 0)
    overhead, kept = COMPILED.get(runtime, _by_torch(config)), members if runtime in COMPILED else 1
    weights_bytes = BYTES * count_parameters(predictor.network)
    scattering = overhead.scattering(config)
    return Pass(
        fixed_bytes=round(overhead.fixed_bytes + members * overhead.weights * weights_bytes),
        pixel_bytes=kept * (largest.peak_bytes + overhead.convolutions * largest.convolution_bytes) / pixels,
        scattered_bytes=max(scattering * each.heap_bytes / size for size, each in counted.items()),
        most_scattered_bytes=round(scattering * MAPPED_BYTES),
    )


def _by_torch(config: Config) -> CpuOverhead:
    dense = isinstance(config.model, SlidingWindowSection) and config.model.foveation_px == 0
    return DENSE if dense else INFERENCE[config.data.dimensions]


def _count_pass(predictor: Predictor, tile_size: tuple[int, ...]) -> Counted:
    """Over a batch on its way through the network, whose weights were there before."""
    memory, config = LiveBytes(), predictor.config
    with memory, torch.no_grad():
        predictor.averaged(torch.empty(config.inference.batch_size, len(config.data.channels), *tile_size, device=META))
    return memory.counted


def count_inference(config: Config, shape: tuple[int, ...]) -> Counted:
    """Over a tile of an image of that shape, with the row of tiles in the stitcher."""
    memory = LiveBytes()
    with memory, torch.no_grad():
        predictor = shape_only_predictor(config)
        grid = predictor.grid(shape)
        stitched = torch.empty(predictor.head.outputs, grid.most_rows, *shape[1:], device=META)
        tiles = torch.empty(config.inference.batch_size, len(config.data.channels), *grid.tile_size, device=META)
        unstacked = torch.empty_like(tiles)  # the patches as they were read, before they became a batch
        predictor.averaged(tiles)
        del stitched, unstacked
    return memory.counted
