"""Memory of a network's pass, counted on tensors without data; plans and memory budgets are based on it."""

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
from inference.tiling.grid import Grid
from inference.tiling.memory_budget import PassMemory
from models.architectures import count_parameters

BYTES = 4  # size of a float32
MAPPED_BYTES = 2**25  # size from which glibc maps a block separately, and returns it to the system when it is freed


@dataclass
class TensorMemory:
    """Memory of tensors, counted while operations run.

    Args:
        peak_bytes: largest sum of the live tensors.
        convolution_bytes: largest output of a convolution.
        heap_bytes: largest tensor in the C library's heap; larger ones are mapped separately.
    """

    peak_bytes: int = 0
    convolution_bytes: int = 0
    heap_bytes: int = 0


class LiveBytes(TorchDispatchMode):
    """Mode of torch that counts the memory of live tensors.

    Tensors that share a storage count once, until the last of them is deleted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.memory = TensorMemory()
        self.live_bytes = 0
        self._storages: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, _: object, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count the tensors that it returns."""
        outcome = function(*arguments, **(keywords or {}))
        for tensor in pytree.tree_leaves(outcome):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        if function is torch.ops.aten.convolution.default:
            self.memory.convolution_bytes = max(self.memory.convolution_bytes, outcome.untyped_storage().nbytes())
        return outcome

    def _add(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until it is freed."""
        key, size = id(storage), storage.nbytes()
        if key in self._storages:
            return
        self._storages[key] = size
        self.live_bytes += size
        self.memory.peak_bytes = max(self.memory.peak_bytes, self.live_bytes)
        if size < MAPPED_BYTES:
            self.memory.heap_bytes = max(self.memory.heap_bytes, size)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.live_bytes -= self._storages.pop(key)


@dataclass(frozen=True)
class CpuOverhead:
    """Memory of a process on a CPU besides its live tensors; benchmarks/memory_model.py fits and validates it.

    Args:
        fixed_bytes: compiled kernels, threads and the allocator's arenas.
        weights: factor of the network's weights, for copies in the kernels' layout and sums of gradients in each thread.
        convolutions: factor of the largest convolution's output, for the kernels' workspace, which is kept between steps.
        scattered: factor of the largest tensor in the heap, for unused memory between tensors of different sizes.
        scattered_by_instance_norm: the same factor with instance norm, which copies tensors into another layout.
    """

    fixed_bytes: int
    weights: float
    convolutions: float
    scattered: float
    scattered_by_instance_norm: float

    def total(self, memory: TensorMemory, config: Config) -> int:
        """Return the sum of the overhead and the tensors in bytes."""
        weights_bytes = BYTES * count_parameters(shape_only_predictor(config).network)
        return round(
            self.fixed_bytes
            + memory.peak_bytes
            + self.weights * weights_bytes
            + self.convolutions * memory.convolution_bytes
            + self.scattering(config) * memory.heap_bytes
        )

    def scattering(self, config: Config) -> float:
        """Return the factor of the largest tensor in the heap for the config's network."""
        return self.scattered_by_instance_norm if config.model.norm == "instance" else self.scattered


INFERENCE = {  # by dimensions; 3D kernels copy their input, up to twice the output, into another layout
    2: CpuOverhead(14 * 2**20, weights=0, convolutions=1, scattered=1, scattered_by_instance_norm=3),
    3: CpuOverhead(14 * 2**20, weights=0, convolutions=4, scattered=1, scattered_by_instance_norm=3),
}
DENSE = CpuOverhead(14 * 2**20, weights=0, convolutions=0, scattered=0, scattered_by_instance_norm=0)  # sliding windows
COMPILED = {  # by runtime: its library, weights in the layout of its kernels, and memory that compiling leaves behind
    "openvino": CpuOverhead(140 * 2**20, weights=3.5, convolutions=0, scattered=0, scattered_by_instance_norm=0),
    "onnxruntime": CpuOverhead(240 * 2**20, weights=5, convolutions=0, scattered=0, scattered_by_instance_norm=0),
    "openvino_bfloat16": CpuOverhead(140 * 2**20, weights=2.5, convolutions=0, scattered=0, scattered_by_instance_norm=0),
}
COUNTED_SIDES = {2: (128, 256), 3: (32, 64)}  # sides of tiles in pixels; memory grows linearly with the number of pixels


def inference_bytes(config: Config, shape: tuple[int, ...], device: torch.device) -> int:
    """Return the peak memory of segmenting an image of that shape tile by tile, with the network and the row of tiles."""
    memory = count_inference(config, shape)
    return _torch_overhead(config).total(memory, config) if device.type == "cpu" else memory.peak_bytes


def pass_memory_of(config: Config, device: torch.device, runtime: str, members: int) -> PassMemory:
    """Return the memory that a batch of tiles takes beyond that of the loaded networks.

    Args:
        config: config of the networks.
        device: device that they run on.
        runtime: name of their runtime; compiled networks keep the memory of their pass.
        members: number of networks.
    """
    predictor = shape_only_predictor(config)
    memories = {}
    for side in COUNTED_SIDES[config.data.dimensions]:
        tile_size = Grid(tuple(predictor.axis(axis, side, side) for axis in range(config.data.dimensions))).tile_size
        live = LiveBytes()
        batch_shape = (config.inference.batch_size, len(config.data.channels), *tile_size)
        with live, torch.no_grad():
            predictor.averaged(torch.empty(batch_shape, device=META))
        memories[math.prod(tile_size)] = live.memory
    pixels, largest = max(memories.items())
    if device.type != "cpu":
        return PassMemory(0, largest.peak_bytes / pixels, 0, 0)
    overhead = COMPILED.get(runtime, _torch_overhead(config))
    passes = members if runtime in COMPILED else 1  # number of passes whose memory is in use at a time
    weights_bytes = BYTES * count_parameters(predictor.network)
    scattering = overhead.scattering(config)
    return PassMemory(
        fixed_bytes=round(overhead.fixed_bytes + members * overhead.weights * weights_bytes),
        pixel_bytes=passes * (largest.peak_bytes + overhead.convolutions * largest.convolution_bytes) / pixels,
        scattered_bytes=max(scattering * each.heap_bytes / size for size, each in memories.items()),
        most_scattered_bytes=round(scattering * MAPPED_BYTES),
    )


def _torch_overhead(config: Config) -> CpuOverhead:
    """Return the overhead of the config's network with torch."""
    dense = isinstance(config.model, SlidingWindowSection) and config.model.foveation_px == 0
    return DENSE if dense else INFERENCE[config.data.dimensions]


def count_inference(config: Config, shape: tuple[int, ...]) -> TensorMemory:
    """Return the memory of a batch of tiles of an image of that shape, with the row of tiles in the stitcher."""
    memory = LiveBytes()
    with memory, torch.no_grad():
        predictor = shape_only_predictor(config)
        grid = predictor.grid(shape)
        stitched = torch.empty(predictor.head.outputs, grid.most_rows, *shape[1:], device=META)
        tiles = torch.empty(config.inference.batch_size, len(config.data.channels), *grid.tile_size, device=META)
        unstacked = torch.empty_like(tiles)  # the patches as they were read, before they became a batch
        predictor.averaged(tiles)
        del stitched, unstacked
    return memory.memory
