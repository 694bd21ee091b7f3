"""Runtimes that execute a network: torch, CUDA graphs, OpenVINO and ONNX Runtime.

A runtime replaces a network's pass and nothing else: grid, margins, symmetries and stitching stay as they are.
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
WARM_UP_PASSES = 3  # passes before one is recorded


@dataclass(frozen=True)
class Runtime:
    """Way to execute a network.

    Args:
        name: value of `inference.runtime`.
        device: cpu or cuda.
        load: returns this runtime's pass; takes torch's pass of a network.
        missing: returns the package or program that has to be installed; None if nothing is missing.
        is_automatic: whether `auto` considers it; false if its setup takes a minute.
        compiles: whether it traces the pass once and replays that, for which the pass has to be fixed.
    """

    name: str
    device: str
    load: Callable[[Pass], Pass]
    missing: Callable[[], str | None] = lambda: None
    is_automatic: bool = True
    compiles: bool = False


class OpenVino:
    """Network that OpenVINO compiles for each tile size; tiles pass one by one.

    Batches are no faster on a CPU, and the smaller last batch would need another compiled network.

    Args:
        network: network in evaluation mode, on the CPU.
        precision: f32 or bf16, as OpenVINO names them.

    Attributes:
        sizes: number of compiled networks that are kept, the most recently used ones. Compiling takes a second or more, so
            images that are processed at the same time need one each.
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        self.network = network
        self.precision = precision
        self.sizes = 1
        self.compiled: dict[tuple[int, ...], Any] = {}  # by shape, the most recently used one last

    def __call__(self, patches: Tensor) -> Tensor:
        """Return the logits (B, R, *S') of patches (B, C, *S) on the CPU."""
        shape = (1, *patches.shape[1:])
        run = self.compiled.pop(shape, None)
        while run is None and len(self.compiled) >= self.sizes:
            del self.compiled[next(iter(self.compiled))]  # frees its memory
        self.compiled[shape] = run = self._compile(shape) if run is None else run
        outputs = [run(patch[None].contiguous().numpy())[0] for patch in patches]
        return torch.from_numpy(np.concatenate(outputs))

    def _compile(self, shape: tuple[int, ...]) -> Any:
        import openvino
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        with torch.inference_mode(mode=False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's tracer warns of sizes that become constants, which they are here
            traced = torch.jit.trace(self.network, torch.zeros(shape), check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion
        frontend = FrontEndManager().load_by_framework("pytorch")  # openvino.convert_model would report its use to its maker
        model = frontend.convert(frontend.load(decoder))
        model.reshape(shape)
        hints = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        return openvino.Core().compile_model(model, "CPU", hints)


class OnnxRuntime:
    """Network that ONNX Runtime runs in float32. One session takes tiles of all sizes, which pass one by one.

    Args:
        network: network in evaluation mode, on the CPU.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.session: Any = None

    def __call__(self, patches: Tensor) -> Tensor:
        """Return the logits (B, R, *S') of patches (B, C, *S) on the CPU."""
        if self.session is None:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.enable_cpu_mem_arena = False  # an arena keeps its largest size, rounded up
            model = onnx_of(self.network, torch.cat([patches[:1]] * 2))
            self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        outputs = [self.session.run([OUTPUT], {INPUT: patch[None].contiguous().numpy()})[0] for patch in patches]
        return torch.from_numpy(np.concatenate(outputs))


class CudaGraphs:
    """Pass in bfloat16 that is recorded once for each shape of batches and then replayed by a single launch.

    Args:
        run: pass of the network in torch on CUDA.
    """

    def __init__(self, run: Pass) -> None:
        self.run = _in_bfloat16(run)
        self.graphs: dict[tuple[int, ...], tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def __call__(self, patches: Tensor) -> Tensor:
        """Return the logits (B, R, *S') of patches (B, C, *S) on CUDA."""
        shape = tuple(patches.shape)
        if shape not in self.graphs:
            if any(other[1:] != shape[1:] for other in self.graphs):
                self.graphs.clear()  # tiles of another size belong to another image
            self.graphs[shape] = self._record(patches)
        graph, static_input, static_output = self.graphs[shape]
        static_input.copy_(patches)
        graph.replay()
        return static_output.clone()  # the next replay overwrites it

    def _record(self, patches: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        static_input = patches.clone()
        side_stream = torch.cuda.Stream(patches.device)  # type: ignore[no-untyped-call]
        side_stream.wait_stream(torch.cuda.current_stream(patches.device))
        with torch.cuda.stream(side_stream):  # libraries choose kernels and allocate workspace before the recording
            for _ in range(WARM_UP_PASSES):
                self.run(static_input)
        torch.cuda.current_stream(patches.device).wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            static_output = self.run(static_input)
        return graph, static_input, static_output


def _in_bfloat16(run: Pass) -> Pass:
    """Return the pass under torch's autocast to bfloat16."""

    def run_in_bfloat16(patches: Tensor) -> Tensor:
        with torch.autocast(patches.device.type, torch.bfloat16, cache_enabled=False):  # each weight is used once in a pass
            return run(patches).float()

    return run_in_bfloat16


def _compiled(run: Pass) -> Pass:
    return _in_bfloat16(torch.compile(run))


def _openvino(precision: str) -> Callable[[Pass], Pass]:
    return lambda run: OpenVino(cast(nn.Module, run), precision)


def _missing_package(package: str) -> Callable[[], str | None]:
    return lambda: None if importlib.util.find_spec(package) else package


def missing_compiler() -> str | None:
    """Return the C++ compiler that torch.compile needs if it isn't installed, else None."""
    compiler = os.environ.get("CXX", "g++")
    return None if shutil.which(compiler) else compiler


def _missing_compiler_text() -> str | None:
    return f"a C++ compiler ({compiler})" if (compiler := missing_compiler()) else None


RUNTIMES = (
    Runtime(TORCH, "cpu", lambda run: run),
    Runtime("torch_bfloat16", "cpu", _in_bfloat16),
    Runtime("compile", "cpu", _compiled, _missing_compiler_text, is_automatic=False, compiles=True),
    Runtime("openvino", "cpu", _openvino("f32"), _missing_package("openvino"), compiles=True),
    Runtime("openvino_bfloat16", "cpu", _openvino("bf16"), _missing_package("openvino"), compiles=True),
    Runtime(
        "onnxruntime", "cpu", lambda run: OnnxRuntime(cast(nn.Module, run)), _missing_package("onnxruntime"), compiles=True
    ),
    Runtime(TORCH, "cuda", lambda run: run),
    Runtime("torch_bfloat16", "cuda", _in_bfloat16),
    Runtime("graphs", "cuda", CudaGraphs, compiles=True),
    Runtime("compile", "cuda", _compiled, _missing_compiler_text, is_automatic=False, compiles=True),
)


def find_runtime(name: str, device: torch.device, *, is_fixed: bool) -> Runtime:
    """Return the runtime of that name.

    Args:
        name: value of `inference.runtime`, except `auto`.
        device: device that the network runs on.
        is_fixed: whether the network's pass can be compiled.

    Raises:
        BundleError: there is no such runtime for that device or pass, or a package or program that it needs is missing.
    """
    available = {each.name: each for each in _compatible(device, is_fixed)}
    if name not in available:
        raise BundleError(
            f"inference.runtime {name}: isn't available for this network on {device.type}; choose one of {AUTO}, "
            f"{', '.join(available)}"
        )
    if (missing := available[name].missing()) is not None:
        raise BundleError(f"inference.runtime {name}: needs {missing}, which isn't installed; install it, or choose {TORCH}")
    return available[name]


def automatic_runtimes(device: torch.device, *, is_fixed: bool) -> tuple[Runtime, ...]:
    """Return the runtimes that `auto` measures, which are compatible, installed and quick to set up."""
    return tuple(each for each in _compatible(device, is_fixed) if each.is_automatic and each.missing() is None)


def _compatible(device: torch.device, is_fixed: bool) -> list[Runtime]:
    return [each for each in RUNTIMES if each.device == device.type and (is_fixed or not each.compiles)]
