"""How much memory a training step or a tile takes, counted on a network that has no numbers yet; plans go by it."""

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from configs.networks import SlidingWindowSection
from configs.schema import Config
from inference.predictor import Predictor, make_predictor
from models.networks import build, count_parameters
from training.objective.losses import make_loss
from training.objective.targets import empty_targets

META = torch.device("meta")  # tensors with a shape and no numbers: operations on them take no time and no memory
BYTES = 4  # of a float32
MOMENTS = {"adamw": 2, "sgd": 1}  # that an optimizer keeps of each weight
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
        scattered = self.scattered_by_instance_norm if config.model.norm == "instance" else self.scattered
        weights_bytes = BYTES * count_parameters(_predictor(config).network)
        return round(
            self.fixed_bytes
            + counted.peak_bytes
            + self.weights * weights_bytes
            + self.convolutions * counted.convolution_bytes
            + scattered * counted.heap_bytes
        )


TRAINING = CpuOverhead(14 * 2**20, weights=1, convolutions=1, scattered=1, scattered_by_instance_norm=7)
INFERENCE = {  # by dimensions; 3D kernels put their input, up to twice the output, in another order
    2: CpuOverhead(14 * 2**20, weights=0, convolutions=1, scattered=1, scattered_by_instance_norm=3),
    3: CpuOverhead(14 * 2**20, weights=0, convolutions=4, scattered=1, scattered_by_instance_norm=3),
}
DENSE = CpuOverhead(14 * 2**20, weights=0, convolutions=0, scattered=0, scattered_by_instance_norm=0)  # sliding windows


def training_bytes(config: Config, device: torch.device) -> int:
    """Peak memory of a training step on the device, the network and its optimizer included.

    On CUDA the live tensors as they are in float32; mixed precision takes less. Images and patches in waiting aren't in it.
    """
    counted = count_training(config)
    return TRAINING.total(counted, config) if device.type == "cpu" else counted.peak_bytes


def inference_bytes(config: Config, shape: tuple[int, ...], device: torch.device) -> int:
    """Peak memory of segmenting an image of that shape, tile by tile, the network and the row of tiles in hand included."""
    counted = count_inference(config, shape)
    dense = isinstance(config.model, SlidingWindowSection) and config.model.foveation_px == 0
    overhead = DENSE if dense else INFERENCE[len(shape)]
    return overhead.total(counted, config) if device.type == "cpu" else counted.peak_bytes


def count_training(config: Config) -> Counted:
    """Over a training step: weights, gradients, the optimizer's moments, what backward needs, and what comes and goes."""
    memory = LiveBytes()
    with memory:
        network = _predictor(config).network.train()
        copies = MOMENTS[config.optimizer.name] + (config.optimizer.ema_decay > 0)
        moments = [torch.empty_like(weights) for weights in network.parameters() for _ in range(copies)]
        batch_size, channels = config.trainer.batch_size, len(config.data.channels)
        outputs = network.outputs(torch.empty(batch_size, channels, *config.patch_size, device=META))
        loss = make_loss(config, (1.0,) * len(config.data.classes))
        torch.autograd.backward(loss(outputs.logits, *empty_targets(config, META)))
        del moments, outputs
    return memory.counted


def count_inference(config: Config, shape: tuple[int, ...]) -> Counted:
    """Over a tile of an image of that shape; a row of tiles is in the stitcher, and once more in the band that leaves it."""
    memory = LiveBytes()
    with memory, torch.no_grad():
        predictor = _predictor(config)
        grid = predictor.grid(shape)
        rows: int = max(span.output.stop - span.output.start for span in grid.axes[0].spans)
        stitched = torch.empty(2, predictor.head.outputs, rows, *shape[1:], device=META)
        tiles = torch.empty(config.inference.batch_size, len(config.data.channels), *grid.tile_size, device=META)
        unstacked = torch.empty_like(tiles)  # the patches as they were read, before they became a batch
        predictor.averaged(tiles)
        del stitched, unstacked
    return memory.counted


def _predictor(config: Config) -> Predictor:
    """With a network that has no numbers."""
    with META:
        network = build(config)
    return make_predictor(config, network.eval(), (1.0,) * len(config.data.classes), META, average=True)
