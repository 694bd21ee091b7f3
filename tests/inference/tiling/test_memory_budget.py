"""Memory budgets: tiles fit into the memory, and a real process keeps to its limit."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from configs import schema
from imaging.errors import ImageTooLarge
from inference.predictors.counting import shape_only_predictor
from inference.predictors.loading import load_predictor
from inference.predictors.pass_memory import pass_memory_of
from inference.predictors.predictor import Predictor
from inference.tiling.memory_budget import WORK_TOLERANCE, MemoryBudget, PassMemory
from models import bundle
from models.architectures import build
from tests.manifest_facts import FACTS

CPU = torch.device("cpu")
MB = 10**6
BUDGET = MemoryBudget(
    memory_bytes=700 * MB,
    process_bytes=300 * MB,
    device_bytes=None,
    network=PassMemory(20 * MB, 800, 200, 8 * MB),
    channels=3,
    outputs=2,
    batch_size=1,
    blends=False,
)
PREDICT = """
import sys
from overtile import app
try:
    app(sys.argv[1:])
finally:
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print("peak", int(peak.split()[1]) * 1024)
"""


def predictor_of(*overrides: str) -> Predictor:
    return shape_only_predictor(schema.load(Path("configs/histology_unet.yaml"), ("inference.tile_size=null", *overrides)))


def budget_of(predictor: Predictor) -> MemoryBudget:
    assert predictor.memory_budget is not None
    return predictor.memory_budget


def work(grid_len: int, tile_size: tuple[int, ...]) -> int:
    return grid_len * math.prod(tile_size)


@settings(max_examples=40)
@given(height=st.integers(1, 9000), width=st.integers(1, 9000), memory=st.integers(500, 6000))
def test_tiles_fit_into_the_memory_and_more_of_it_never_means_more_work(height: int, width: int, memory: int) -> None:
    predictor = predictor_of("model.features=[16,32,64]")
    found = []
    for memory_bytes in (memory * MB, 2 * memory * MB):
        predictor = replace(predictor, memory_budget=replace(BUDGET, memory_bytes=memory_bytes))
        grid = predictor.grid((height, width))
        use = budget_of(predictor).use(grid)
        assert budget_of(predictor).allows(use)
        assert use.host_bytes <= memory_bytes
        found.append(work(len(grid), grid.tile_size))
    assert found[1] <= WORK_TOLERANCE * found[0]


def test_a_small_image_is_one_tile_and_a_large_one_has_tiles_larger_than_usual() -> None:
    predictor = predictor_of("model.features=[16,32,64]")
    predictor = replace(predictor, memory_budget=replace(BUDGET, memory_bytes=4000 * MB))
    assert len(predictor.grid((300, 200))) == 1
    assert min(predictor.grid((20000, 20000)).tile_size) > 512
    predictor = replace(predictor, memory_budget=replace(BUDGET, memory_bytes=500 * MB))
    assert max(predictor.grid((20000, 20000)).tile_size) < 512


def test_tiles_of_a_wide_image_are_flat_where_its_rows_take_the_memory() -> None:
    predictor = predictor_of("model.features=[16,32,64]")
    predictor = replace(predictor, memory_budget=replace(BUDGET, memory_bytes=900 * MB))
    rows, columns = predictor.grid((20000, 100000)).tile_size
    assert rows < columns
    assert budget_of(predictor).use(predictor.grid((20000, 100000))).scratch_bytes == 0


def test_the_configs_tile_is_taken_where_it_says_one_and_blended_tiles_keep_theirs() -> None:
    for overrides in (("inference.tile_size=[128,160]",), ("model.norm=instance", "inference.tile_size=[128,160]")):
        predictor = predictor_of(*overrides)
        predictor = replace(predictor, memory_budget=replace(BUDGET, memory_bytes=10**10))
        assert predictor.grid((2000, 2000)).tile_size == (128, 160)
    predictor = predictor_of("model.norm=instance")
    predictor = replace(predictor, memory_budget=replace(BUDGET, memory_bytes=10**10))
    assert predictor.grid((2000, 2000)).tile_size == (512, 512)


def test_logits_that_do_not_fit_go_to_the_disk() -> None:
    """Check 100 classes, whose row of blended tiles of 96 over 512 x 400 takes 7.9 GB."""
    budget = replace(
        BUDGET, memory_bytes=4 * 2**30, outputs=100, channels=1, network=PassMemory(20 * MB, 1200, 0, 0), blends=True
    )
    data = "data.classes=[" + ",".join(f"{{name: c{n}, colour: '#000000'}}" for n in range(100)) + "]"
    config = schema.load(Path("configs/mri_unet.yaml"), (data, "inference.tile_size=[96,96,96]", "model.norm=instance"))
    grid = shape_only_predictor(config).grid((512, 512, 400))
    use = budget.use(grid)
    assert use.scratch_bytes == 4 * 100 * 96 * 512 * 400
    assert budget.allows(use)
    assert replace(budget, memory_bytes=40 * 2**30).use(grid).scratch_bytes == 0


def test_what_fits_nowhere_is_refused_with_what_would_do() -> None:
    predictor = predictor_of("model.features=[16,32,64]")
    predictor = replace(predictor, memory_budget=replace(BUDGET, memory_bytes=310 * MB))
    grid = predictor.grid((500, 400))
    with pytest.raises(ImageTooLarge, match=r"an image of 500 x 400 takes \d+ MB .*310 MB are ") as caught:
        budget_of(predictor).check(grid)
    assert caught.value.code == "memory_too_small"
    assert caught.value.limit == 310 * MB
    would_do = int(str(caught.value).split("--memory ")[1].split("MB")[0]) * MB
    assert would_do > 310 * MB
    predictor = replace(predictor, memory_budget=replace(BUDGET, memory_bytes=would_do))
    budget_of(predictor).check(predictor.grid((500, 400)))
    predictor = replace(predictor, memory_budget=replace(BUDGET, device_bytes=5 * MB))
    with pytest.raises(ImageTooLarge, match=r"of the GPU's memory, but 5 MB are available; choose a smaller inference"):
        budget_of(predictor).check(predictor.grid((500, 400)))


def test_images_that_are_worked_on_together_share_the_memory() -> None:
    assert replace(BUDGET, shares=2).free_bytes == BUDGET.free_bytes // 2


def test_a_pass_grows_with_its_tile_and_with_the_networks_that_keep_their_own() -> None:
    config = schema.load(Path("configs/histology_unet.yaml"), ("model.features=[16,32,64,128]",))
    by_torch, by_openvino = (pass_memory_of(config, CPU, name, 1) for name in ("torch", "openvino"))
    assert by_torch.bytes_of(512**2) < by_torch.bytes_of(1024**2) < 4.1 * by_torch.bytes_of(512**2)
    assert by_openvino.fixed_bytes > 140 * MB > by_torch.fixed_bytes
    assert pass_memory_of(config, CPU, "torch", 5).pixel_bytes == by_torch.pixel_bytes
    assert pass_memory_of(config, CPU, "openvino", 5).pixel_bytes == 5 * by_openvino.pixel_bytes
    on_gpu = pass_memory_of(config, torch.device("cuda"), "torch", 1)
    assert 0 < on_gpu.pixel_bytes < by_torch.pixel_bytes


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_a_process_keeps_within_its_memory(tmp_path: Path) -> None:
    """Check the peak of the whole process, Python and torch included, and that the mask doesn't depend on the limit."""
    features = ("model.features=[16,32,64]", "inference.tile_size=null")
    config = schema.load(Path("configs/histology_unet.yaml"), (*features, "run.name=net"))
    torch.manual_seed(0)
    bundle.write(tmp_path / "bundle", build(config), config, class_prior=(0.5, 0.5), **FACTS)
    pixels = np.random.default_rng(0).integers(0, 256, (1200, 1000, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    needed = load_predictor(bundle.load(tmp_path / "bundle"), CPU)
    assert needed.memory_budget is not None
    masks, peaks = [], []
    for memory in (512 * 2**20, 3 * 10**9):
        out = tmp_path / str(memory)
        words = ["predict", str(tmp_path / "picture.png"), "-b", str(tmp_path / "bundle"), "-o", str(out), "--memory"]
        done = subprocess.run(
            [sys.executable, "-c", PREDICT, *words, f"{memory / 10**6:.0f}MB"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split("peak ")[1]))
        masks.append(next(out.glob("*.png")).read_bytes())
        assert peaks[-1] <= memory
    assert masks[0] == masks[1]
    assert peaks[0] < peaks[1]
