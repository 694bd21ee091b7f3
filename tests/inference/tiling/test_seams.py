"""Visibility of tile borders, and prefetching of tiles."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_bundles import Picture, make_bundle
from typer.testing import CliRunner

from inference.plan import plan_image
from inference.predictors.loading import load_predictor
from inference.segment import Observers, bands
from inference.tiling.grid import Grid, blended_axis, losing_axis
from inference.tiling.prefetch import prefetch
from inference.tiling.seams import SeamMeter, Seams
from inference.tiling.stitch import Band
from overtile import app
from tests.phantom import write_slide_dataset

Floats = NDArray[np.float32]


def grid(*shape: int, tile: int = 10) -> Grid:
    return Grid(tuple(losing_axis(size, tile, (0, 0), 1, lambda at_least: at_least) for size in shape))


def seam_of(logits: Floats, where: Grid, rows_a_band: int = 7) -> float | None:
    meter = SeamMeter(where)
    for start in range(0, logits.shape[1], rows_a_band):
        meter.add(Band(start, logits[:, start : start + rows_a_band]))
    return meter.seam


def steps(size: int, tile: int) -> Floats:
    """Return a line (size,) that rises by 1 at each border of tiles and nowhere else."""
    return (np.arange(size) // tile).astype(np.float32)


def test_a_slope_has_no_seams() -> None:
    slope = np.add.outer(np.arange(30), np.arange(40)).astype(np.float32)[None]
    assert seam_of(slope, grid(30, 40)) == pytest.approx(1)


def test_steps_at_borders_are_seams() -> None:
    slope = np.add.outer(np.arange(30), np.arange(40)).astype(np.float32)[None]
    stepped = slope + 4 * np.add.outer(steps(30, 10), steps(40, 10))[None]  # a jump of 5 where it is 1 elsewhere
    assert seam_of(stepped, grid(30, 40)) == pytest.approx(5)
    assert seam_of(slope[:, :, :20] + 4 * steps(30, 10)[:, None], grid(30, 20)) == pytest.approx((40 * 5 + 30 * 1) / 70)
    assert seam_of(np.add.outer(steps(30, 10), steps(40, 10))[None], grid(30, 40)) == float("inf")


def test_one_tile_and_constant_logits_have_no_seam() -> None:
    assert seam_of(np.random.default_rng(0).normal(size=(2, 9, 9)).astype(np.float32), grid(9, 9)) is None
    assert seam_of(np.ones((2, 30, 40), np.float32), grid(30, 40)) is None


def test_an_image_has_the_seam_of_its_worst_network() -> None:
    seams = Seams()
    assert seams.seam is None
    slope = np.add.outer(np.arange(30), np.arange(40)).astype(np.float32)[None]
    list(seams.measure([Band(0, slope)], grid(30, 40)))
    list(seams.measure([Band(0, slope + 4 * np.add.outer(steps(30, 10), steps(40, 10))[None])], grid(30, 40)))
    list(seams.measure([Band(0, slope[:, :9, :9])], grid(9, 9)))
    assert seams.seam == pytest.approx(5)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(12, 40), st.integers(12, 40), st.integers(12, 40)),
    tile=st.integers(4, 12),
    bands_of=st.lists(st.integers(1, 9), min_size=1),
)
def test_the_seam_doesnt_depend_on_the_bands(shape: tuple[int, ...], tile: int, bands_of: list[int]) -> None:
    where = Grid(tuple(blended_axis(size, tile, 0.5, lambda at_least: at_least) for size in shape))
    logits = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    meter, start, turn = SeamMeter(where), 0, 0
    while start < shape[0]:
        stop = min(shape[0], start + bands_of[turn % len(bands_of)])
        meter.add(Band(start, logits[:, start:stop]))
        start, turn = stop, turn + 1
    assert meter.seam == pytest.approx(seam_of(logits, where, shape[0]))


def test_exact_tiles_leave_no_seam_and_cut_ones_do(tmp_path: Path) -> None:
    exact = ("model.norm=batch", "inference.tile_size=[32,32]")
    predictor = load_predictor(make_bundle(tmp_path / "unet", 0, "unet", *exact), torch.device("cpu"))
    seams = Seams()
    plan = plan_image(Picture(), predictor)
    for _ in bands(plan, Observers(plan, seams=seams)):
        pass
    assert seams.seam is not None
    assert 0.8 < seams.seam < 1.25


def test_the_command_line_says_it(tmp_path: Path) -> None:
    make_bundle(tmp_path / "unet", 0)
    images = write_slide_dataset(tmp_path / "data", cases=1, shape=(70, 60)).parent / "images"
    done = CliRunner().invoke(app, ["predict", str(images), "-b", str(tmp_path / "unet"), "-o", str(tmp_path / "masks")])
    assert done.exit_code == 0, done.output
    assert "(1: invisible)" in " ".join(done.output.split())


def test_what_is_next_is_made_meanwhile() -> None:
    made: list[int] = []

    def read(number: int) -> int:
        made.append(number)
        return 10 * number

    seen = []
    for item, data in prefetch(read, range(4)):
        assert data == 10 * item
        deadline = time.monotonic() + 10
        while len(made) < min(item + 2, 4) and time.monotonic() < deadline:
            time.sleep(0.001)
        seen.append((item, list(made)))
    assert seen == [(0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2, 3]), (3, [0, 1, 2, 3])]


def test_an_error_comes_in_its_turn_and_the_thread_ends() -> None:
    def read(number: int) -> int:
        if number == 2:
            raise ValueError("torn")
        return number

    coming = prefetch(read, [1, 2])
    assert next(coming) == (1, 1)
    with pytest.raises(ValueError, match="torn"):
        next(coming)
    left = prefetch(read, [5, 6, 7])
    next(left)
    left.close()  # type: ignore[attr-defined]  # it is a generator
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
