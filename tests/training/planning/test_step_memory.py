"""The memory model: its counts equal those of real tensors byte by byte, and its prediction is close to a process's memory."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from configs import schema
from configs.schema import Config
from inference.predictors.pass_memory import LiveBytes, count_inference, inference_bytes
from models.architectures import build, count_parameters
from training.planning.step_memory import count_training, training_bytes

CPU = torch.device("cpu")
MEASURE = """
import sys
from benchmarks.memory_model import measure, unet
print(measure(unet([128, 128], [16, 32, 64], "batch", 8), None))
"""


def config_of(patch: list[int], features: list[int], norm: str = "none", batch: int = 2, **data: Any) -> Config:
    return schema.parse(
        {
            "run": {"name": "r"},
            "data": {
                "path": "d",
                "dimensions": len(patch),
                "channels": data.get("channels", ["grey"]),
                "classes": [{"name": f"c{number}", "colour": "#000000"} for number in range(data.get("classes", 2))],
            },
            "model": {"name": "unet", "features": features, "norm": norm},
            "sampling": {"patch_size": patch},
            "trainer": {"batch_size": batch},
        },
        origin="test",
    )


def test_counts_live_tensors_only() -> None:
    memory = LiveBytes()
    with memory:
        first = torch.empty(100, device="meta")  # 400 bytes
        view = first[:50]  # shares them
        second = torch.empty(30, dtype=torch.float64, device="meta")  # 240 bytes
        assert memory.live_bytes == 640
        del second
        third = first + 1
    assert memory.live_bytes == 800
    assert memory.memory.peak_bytes == 800
    del first, third
    assert memory.live_bytes == 400
    assert view.shape == (50,)


def test_activations_are_those_that_autograd_keeps() -> None:
    """One level down and up, two features, without norm: the tensors that autograd saves, compared with sizes by hand."""
    config = config_of([8, 8], [2, 4], batch=1)
    network, saved = build(config), {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.randn(1, 1, 8, 8))
    images = 64 * 4
    level_0, level_1 = 2 * 64 * 4, 4 * 16 * 4  # outputs of one convolution
    pooled = 2 * 16 * (4 + 8)  # values and the places that they came from
    joined = 2 * level_0
    assert sum(saved.values()) == images + 2 * level_0 + pooled + 2 * level_1 + joined + 2 * level_0


def test_a_step_holds_weights_gradients_moments_and_activations() -> None:
    config = config_of([8, 8], [2, 4], batch=1)
    weights = 4 * count_parameters(build(config))
    assert count_parameters(build(config)) == 20 + 38 + 76 + 148 + 34 + 74 + 38 + 6
    step = 256 + 3_584 + 512 + 384  # images, saved activations, logits, pooled
    assert 4 * weights + step < count_training(config).peak_bytes < 4 * weights + 4 * step


@pytest.mark.parametrize("norm", ["none", "batch", "instance", "group"])
def test_grows_with_each_size(norm: str) -> None:
    least = count_training(config_of([32, 32], [8, 16], norm)).peak_bytes
    for more in (
        config_of([32, 48], [8, 16], norm),
        config_of([32, 32], [8, 16], norm, batch=3),
        config_of([32, 32], [8, 24], norm),
        config_of([32, 32], [8, 16], norm, classes=5),
        config_of([32, 32], [8, 16], norm, channels=["a", "b"]),
        config_of([32, 32, 32], [8, 16], norm),
    ):
        assert count_training(more).peak_bytes > least


def test_coarser_outputs_and_moments_are_counted() -> None:
    config = config_of([32, 32], [8, 16, 24])
    supervised = config.model_copy(update={"model": config.model.model_copy(update={"deep_supervision": True})})
    assert count_training(supervised).peak_bytes > count_training(config).peak_bytes
    weights = 4 * count_parameters(build(config))
    momentum = config.model_copy(update={"optimizer": schema.OptimizerSection(name="sgd")})
    assert count_training(config).peak_bytes - count_training(momentum).peak_bytes == weights
    averaged = config.model_copy(update={"optimizer": schema.OptimizerSection(ema_decay=0.999)})
    assert count_training(averaged).peak_bytes - count_training(config).peak_bytes == weights


def test_twice_the_batch_is_twice_the_activations() -> None:
    counts = [count_training(config_of([64, 64], [8, 16], "batch", batch)).peak_bytes for batch in (2, 4, 8)]
    assert (counts[2] - counts[1]) / (counts[1] - counts[0]) == pytest.approx(2, rel=0.01)


def test_larger_tiles_and_wider_images_take_more() -> None:
    config = config_of([32, 32], [8, 16], "batch")
    tiled = [config.model_copy(update={"inference": schema.InferenceSection(tile_size=(side, side))}) for side in (64, 128)]
    peaks = [count_inference(tile, (496, 500)).peak_bytes for tile in tiled]
    assert peaks[1] > 2 * peaks[0]
    assert count_inference(tiled[0], (496, 5_000)).peak_bytes > peaks[0]
    assert count_inference(tiled[0], (4_816, 500)).peak_bytes == peaks[0]  # the number of rows does not matter
    assert inference_bytes(tiled[0], (500, 500), CPU) > peaks[0]


def test_cuda_has_no_cpu_overhead() -> None:
    config = config_of([32, 32], [8, 16])
    assert training_bytes(config, torch.device("cuda")) == count_training(config).peak_bytes < training_bytes(config, CPU)
    assert inference_bytes(config, (64, 64), torch.device("cuda")) == count_inference(config, (64, 64)).peak_bytes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_prediction_is_close_to_the_memory_of_a_process() -> None:
    result = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    predicted = training_bytes(config_of([128, 128], [16, 32, 64], "batch", 8), CPU)
    assert predicted / int(result.stdout) == pytest.approx(1, abs=0.3)
