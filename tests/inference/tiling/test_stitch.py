"""Stitching: stitch(cut(x)) == x, bands are yielded early, and blending keeps constants."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.tiling import stitch as stitching
from inference.tiling.grid import Axis, Grid, blended_axis, keeping_axis, losing_axis
from inference.tiling.stitch import Stitcher, gaussian_weights

Shapes = st.lists(st.integers(1, 40), min_size=2, max_size=3).map(tuple)


def stitch_cut(grid: Grid, image: NDArray[np.float32], *, margin: int, blend: bool) -> NDArray[np.float32]:
    """Cut an image (K, *S) into tiles, remove `margin` at each side as a network would, and stitch them."""
    stitcher = Stitcher(grid, np.zeros(len(image), np.float32), gaussian_weights(grid.tile_size) if blend else None)
    bands, row = [], 0
    for tile in grid.tiles():
        indices = np.ix_(
            *(
                np.arange(axis.start + margin, axis.stop - margin) % size
                for axis, size in zip(tile.input, grid.shape, strict=True)
            )
        )
        stitcher.add(tile, image[(slice(None), *indices)])
        for band in stitcher.finished():
            assert band.start == row
            row += band.logits.shape[1]
            bands.append(band.logits)
    assert row == grid.shape[0]
    return np.concatenate(bands, axis=1)


@settings(deadline=None, max_examples=60)
@given(shape=Shapes, tile=st.integers(5, 20), seed=st.integers(0, 9))
def test_stitch_of_cut_is_the_image_side_by_side(shape: tuple[int, ...], tile: int, seed: int) -> None:
    image = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)
    axes: list[Callable[[int], Axis]] = [
        lambda size: losing_axis(size, tile, (2, 2), 1, lambda at_least: at_least),
        lambda size: keeping_axis(size, tile, 2, 1, lambda at_least: at_least),
    ]
    for axis, margin in zip(axes, (2, 0), strict=True):
        grid = Grid(tuple(axis(size) for size in shape))
        np.testing.assert_array_equal(stitch_cut(grid, image, margin=margin, blend=False), image)


@settings(deadline=None, max_examples=60)
@given(shape=Shapes, tile=st.integers(1, 20), overlap=st.floats(0, 0.9), seed=st.integers(0, 9))
def test_stitch_of_cut_is_the_image_blended(shape: tuple[int, ...], tile: int, overlap: float, seed: int) -> None:
    image = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)
    grid = Grid(tuple(blended_axis(size, tile, overlap, lambda at_least: at_least) for size in shape))
    np.testing.assert_array_equal(stitch_cut(grid, image, margin=0, blend=True), image)


@settings(deadline=None, max_examples=30)
@given(shape=Shapes, tile=st.integers(2, 20), overlap=st.floats(0, 0.8), seed=st.integers(0, 9))
def test_tiles_that_disagree_are_averaged_by_their_weights(
    shape: tuple[int, ...], tile: int, overlap: float, seed: int
) -> None:
    grid = Grid(tuple(blended_axis(size, tile, overlap, lambda at_least: at_least) for size in shape))
    weights, random = gaussian_weights(grid.tile_size), np.random.default_rng(seed)
    stitcher, bands = Stitcher(grid, np.zeros(1, np.float32), weights), []
    weighted, total = np.zeros(shape), np.zeros(shape)
    for cut in grid.tiles():
        logits = random.normal(size=(1, *grid.tile_size)).astype(np.float32)
        weighted[cut.output] += (logits[0] * weights.astype(np.float64))[cut.crop]
        total[cut.output] += weights[cut.crop]
        stitcher.add(cut, logits)
        bands += [band.logits for band in stitcher.finished()]
    np.testing.assert_allclose(np.concatenate(bands, axis=1)[0], weighted / total, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(shape=Shapes, tile=st.integers(5, 20), seed=st.integers(0, 9), share=st.floats(0, 1), blend=st.booleans())
def test_stitching_from_a_row_on_gives_the_rest_of_the_whole(
    shape: tuple[int, ...], tile: int, seed: int, share: float, blend: bool
) -> None:
    """Check that rows are exactly equal, in memory and on the disk, although overlapping tiles differ."""
    grid = Grid(
        tuple(
            blended_axis(size, tile, 0.5, lambda at_least: at_least)
            if blend
            else keeping_axis(size, tile, 2, 1, lambda at_least: at_least)
            for size in shape
        )
    )
    first_row = int(share * (shape[0] - 1))
    weights = gaussian_weights(grid.tile_size) if blend else None

    def stitched(row: int, scratch: Path | None = None) -> NDArray[np.float32]:
        stitcher, bands = Stitcher(grid, np.zeros(2, np.float32), weights, first_row=row, scratch_folder=scratch), []
        for cut in grid.tiles(row):
            random = np.random.default_rng([seed, *(part.start + 99 for part in cut.input)])
            stitcher.add(cut, random.normal(size=(2, *grid.tile_size)).astype(np.float32))
            bands += list(stitcher.finished())
        assert bands[0].start == row
        return np.concatenate([band.logits for band in bands], axis=1)

    whole = stitched(0)
    assert whole.shape == (2, *shape)
    np.testing.assert_array_equal(stitched(first_row), whole[:, first_row:])
    np.testing.assert_array_equal(stitched(first_row, Path(tempfile.gettempdir())), whole[:, first_row:])


@pytest.mark.parametrize("blend", [False, True])
def test_skipped_tiles_are_background(blend: bool) -> None:
    axes = [blended_axis(30, 10, 0.5, lambda at_least: at_least) for _ in range(2)]
    if not blend:
        axes = [losing_axis(30, 10, (0, 0), 1, lambda at_least: at_least) for _ in range(2)]
    grid = Grid(tuple(axes))
    stitcher = Stitcher(grid, np.array([7, -7], np.float32), gaussian_weights(grid.tile_size) if blend else None)
    bands, seen = [], np.zeros((30, 30), bool)
    outputs = [cut.output for cut in grid.tiles()]
    for cut in grid.tiles(is_skipped=lambda output: outputs.index(output) % 3 > 0):
        stitcher.add(cut, np.ones((2, 10, 10), np.float32))
        seen[cut.output] = True
        bands += [band.logits for band in stitcher.finished()]
    logits = np.concatenate(bands, axis=1)
    assert 0 < seen.sum() < 900
    np.testing.assert_array_equal(logits[:, ~seen], np.broadcast_to([[7], [-7]], (2, (~seen).sum())))
    np.testing.assert_allclose(logits[:, seen], 1, atol=1e-5)


def test_bands_have_a_few_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stitching, "GROUP_BYTES", 4 * 3 * 8 * 2)  # two rows of 3 classes and 8 columns
    grid = Grid(tuple(losing_axis(size, 8, (0, 0), 1, lambda at_least: at_least) for size in (16, 8)))
    stitcher = Stitcher(grid, np.zeros(3, np.float32), None)
    sizes = []
    for tile in grid.tiles():
        stitcher.add(tile, np.ones((3, 8, 8), np.float32))
        sizes += [band.logits.shape[1] for band in stitcher.finished()]
    assert sizes == [2] * 8


def test_a_band_is_yielded_as_soon_as_its_row_of_tiles_is_added() -> None:
    grid = Grid(
        (losing_axis(10, 4, (0, 0), 1, lambda at_least: at_least), losing_axis(8, 4, (0, 0), 1, lambda at_least: at_least))
    )
    stitcher = Stitcher(grid, np.zeros(1, np.float32), None)
    rows = []
    for tile in grid.tiles():
        stitcher.add(tile, np.ones((1, 4, 4), np.float32))
        rows.append([(band.start, band.logits.shape[1]) for band in stitcher.finished()])
    assert rows == [[], [(0, 4)], [], [(4, 4)], [], [(8, 2)]]


def test_memory_is_one_row_of_tiles_however_long_the_image() -> None:
    axis = losing_axis(8, 4, (0, 0), 1, lambda at_least: at_least)
    held = [
        Stitcher(
            Grid((losing_axis(rows, 4, (0, 0), 1, lambda at_least: at_least), axis)), np.zeros(3, np.float32), None
        ).logits.array.nbytes
        for rows in (40, 4000)
    ]
    assert held[0] == held[1] == 4 * 3 * 4 * 8


def test_blended_tiles_typed_out() -> None:
    """Check two tiles of 4 with the values 0 and 1 that overlap by 2, where the weights give a symmetric mean."""
    grid = Grid(tuple(blended_axis(size, 4, 0.5, lambda at_least: at_least) for size in (6, 1)))
    stitcher = Stitcher(grid, np.zeros(1, np.float32), gaussian_weights((4, 1)))
    logits: list[float] = []
    for value, tile in enumerate(grid.tiles()):
        stitcher.add(tile, np.full((1, 4, 1), value, np.float32))
        logits += [float(logit) for band in stitcher.finished() for logit in band.logits[0, :, 0]]
    assert logits[:2] == [0, 0]
    assert logits[4:] == [1, 1]
    assert logits[2] == pytest.approx(1 - logits[3], abs=1e-6)
    assert 0 < logits[2] < 0.5


@pytest.mark.parametrize("size", [(8,), (5, 9), (4, 6, 8)])
def test_gaussian_weights(size: tuple[int, ...]) -> None:
    weights = gaussian_weights(size)
    assert weights.shape == size
    assert weights.max() == 1
    assert weights.min() >= 1e-3
    np.testing.assert_allclose(weights, np.flip(weights), rtol=1e-6)
