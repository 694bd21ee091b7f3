"""What runs a network: torch, CUDA graphs, OpenVINO or ONNX Runtime; the fastest one that answers as torch in float32 does.

A runtime takes the place of a network's pass and of nothing else: grid, margins, symmetries and stitching stay as they are.
"""

import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import BundleError
from models.onnx_export import INPUT, OUTPUT, onnx_of

Pass = Callable[[Tensor], Tensor]  # (B, C, *S) -> (B, R, *S')

AUTO, TORCH = "auto", "torch"
WARM_UPS = 3  # passes before one is recorded


@dataclass(frozen=True)
class Runtime:
    """A way to run a network.

    Args:
        name: as `inference.runtime` has it.
        device: cpu or cuda.
        load: a network's pass by torch -> by this runtime.
        missing: what has to be installed for it, None where it is there.
        by_itself: whether `auto` tries it; not where it takes a minute to set up.
        compiles: whether it follows the pass once and goes on without torch, so that the pass has to be a fixed one.
    """

    name: str
    device: str
    load: Callable[[Pass], Pass]
    missing: Callable[[], str | None] = lambda: None
    by_itself: bool = True
    compiles: bool = False


class OpenVino:
    """The network as OpenVINO compiled it, for a size of tile each; tiles go through one by one.

    On a CPU a batch gains nothing, and one by one the last, smaller batch needs no network of its own.

    Args:
        network: in evaluation mode, on the CPU.
        precision: f32 or bf16, OpenVINO's words.

    Attributes:
        sizes: of tiles that stay compiled, those that were used last. Compiling takes a second or more, so that images that
            take turns need one each.
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        self.network = network
        self.precision = precision
        self.sizes = 1
        self.compiled: dict[tuple[int, ...], Any] = {}  # by shape, the one used last at the end

    def __call__(self, patches: Tensor) -> Tensor:
        """(B, R, *S') of (B, C, *S) on the CPU."""
        run = self._for((1, *patches.shape[1:]))
        answers = [run(patch[None].contiguous().numpy())[0] for patch in patches]
        return torch.from_numpy(np.concatenate(answers))

    def _for(self, shape: tuple[int, ...]) -> Any:
        run = self.compiled.pop(shape, None)
        while run is None and len(self.compiled) >= self.sizes:
            del self.compiled[next(iter(self.compiled))]  # its memory is needed
        self.compiled[shape] = run = self._compiled(shape) if run is None else run
        return run

    def _compiled(self, shape: tuple[int, ...]) -> Any:
        import openvino
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        with torch.inference_mode(mode=False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's tracer warns of sizes that it takes as they are, which they are here
            traced = torch.jit.trace(self.network, torch.zeros(shape), check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced)  # has to outlive the conversion
        frontend = FrontEndManager().load_by_framework("pytorch")  # openvino.convert_model would tell its maker of it
        model = frontend.convert(frontend.load(decoder))
        model.reshape(shape)
        hints = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        return openvino.Core().compile_model(model, "CPU", hints)


class OnnxRuntime:
    """The network as ONNX Runtime runs it in float32, tiles of every size by one session; one by one, as OpenVINO's.

    Args:
        network: in evaluation mode, on the CPU.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.session: Any = None

    def __call__(self, patches: Tensor) -> Tensor:
        """(B, R, *S') of (B, C, *S) on the CPU."""
        if self.session is None:
            self._open(patches)
        answers = [self.session.run([OUTPUT], {INPUT: patch[None].contiguous().numpy()})[0] for patch in patches]
        return torch.from_numpy(np.concatenate(answers))

    def _open(self, patches: Tensor) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.enable_cpu_mem_arena = False  # it keeps the most that it ever took, and rounds that up
        model = onnx_of(self.network, torch.cat([patches[:1]] * 2))
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class CudaGraphs:
    """A pass in bfloat16 that is recorded once for each size of batch and then played back: one launch instead of hundreds.

    Args:
        run: the pass, by torch on CUDA.
    """

    def __init__(self, run: Pass) -> None:
        self.run = _in_bfloat16(run)
        self.recorded: dict[tuple[int, ...], tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def __call__(self, patches: Tensor) -> Tensor:
        """(B, R, *S') of (B, C, *S) on CUDA."""
        shape = tuple(patches.shape)
        if shape not in self.recorded:
            if any(known[1:] != shape[1:] for known in self.recorded):
                self.recorded.clear()  # tiles of another size: another image's
            self.recorded[shape] = self._record(patches)
        graph, given, answer = self.recorded[shape]
        given.copy_(patches)
        graph.replay()
        return answer.clone()  # the next replay writes over it

    def _record(self, patches: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        given = patches.clone()
        beside = torch.cuda.Stream(patches.device)  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream(patches.device))
        with torch.cuda.stream(beside):  # libraries choose their kernels and take their workspace before they are recorded
            for _ in range(WARM_UPS):
                self.run(given)
        torch.cuda.current_stream(patches.device).wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answer = self.run(given)
        return graph, given, answer


def _in_bfloat16(run: Pass) -> Pass:
    """torch, with bfloat16 where its autocast has it."""

    def run_in_bfloat16(patches: Tensor) -> Tensor:
        with torch.autocast(patches.device.type, torch.bfloat16, cache_enabled=False):  # each weight is used once a pass
            return run(patches).float()

    return run_in_bfloat16


def _compiled(run: Pass) -> Pass:
    return _in_bfloat16(torch.compile(run))


def _openvino(run: Pass) -> Pass:
    return OpenVino(cast(nn.Module, run), "f32")


def _openvino_in_bfloat16(run: Pass) -> Pass:
    return OpenVino(cast(nn.Module, run), "bf16")


def _onnxruntime(run: Pass) -> Pass:
    return OnnxRuntime(cast(nn.Module, run))


def _without(package: str) -> Callable[[], str | None]:
    return lambda: None if importlib.util.find_spec(package) else package


def missing_compiler() -> str | None:
    """The C++ compiler that torch.compile would call and that isn't there; None where it is."""
    compiler = os.environ.get("CXX", "g++")
    return None if shutil.which(compiler) else compiler


def _without_compiler() -> str | None:
    return f"a C++ compiler ({compiler})" if (compiler := missing_compiler()) else None


RUNTIMES = (
    Runtime(TORCH, "cpu", lambda run: run),
    Runtime("torch_bfloat16", "cpu", _in_bfloat16),
    Runtime("compile", "cpu", _compiled, _without_compiler, by_itself=False, compiles=True),
    Runtime("openvino", "cpu", _openvino, _without("openvino"), compiles=True),
    Runtime("openvino_bfloat16", "cpu", _openvino_in_bfloat16, _without("openvino"), compiles=True),
    Runtime("onnxruntime", "cpu", _onnxruntime, _without("onnxruntime"), compiles=True),
    Runtime(TORCH, "cuda", lambda run: run),
    Runtime("torch_bfloat16", "cuda", _in_bfloat16),
    Runtime("graphs", "cuda", CudaGraphs, compiles=True),
    Runtime("compile", "cuda", _compiled, _without_compiler, by_itself=False, compiles=True),
)


def find(name: str, device: torch.device, *, is_fixed: bool) -> Runtime:
    """The runtime of that name.

    Args:
        name: as `inference.runtime` has it, but for `auto`.
        device: where the network runs.
        is_fixed: whether its pass can be compiled.

    Raises:
        BundleError: it isn't one of the device's or of such a pass, or what it needs isn't installed.
    """
    known = {each.name: each for each in _suiting(device, is_fixed)}
    if name not in known:
        raise BundleError(
            f"inference.runtime {name}: not for this network on {device.type}; allowed are {AUTO}, {', '.join(known)}"
        )
    if (missing := known[name].missing()) is not None:
        raise BundleError(f"inference.runtime {name}: needs {missing}, which isn't there; install it, or choose {TORCH}")
    return known[name]


def candidates(device: torch.device, *, is_fixed: bool) -> tuple[Runtime, ...]:
    """What `auto` chooses from: all that suits, is installed and is soon set up."""
    return tuple(each for each in _suiting(device, is_fixed) if each.by_itself and each.missing() is None)


def _suiting(device: torch.device, is_fixed: bool) -> list[Runtime]:
    return [each for each in RUNTIMES if each.device == device.type and (is_fixed or not each.compiles)]
