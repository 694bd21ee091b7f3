"""Tile grids: every pixel is written once, by tiles of legal sizes, at multiples of the stride."""

import itertools

import numpy as np
import pytest
from array_source import ArraySource
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.tiling.grid import Axis, Grid, blended_axis, keeping_axis, losing_axis, read_mirrored


def any_size(at_least: int) -> int:
    return at_least


def multiple_of_8(at_least: int) -> int:
    return -(-at_least // 8) * 8


def check_covers_once(axis: Axis) -> None:
    written = np.zeros(axis.size, int)
    for span in axis.spans:
        written[span.output] += 1
        assert span.input.stop - span.input.start == axis.tile_size
        assert span.crop.stop - span.crop.start == span.output.stop - span.output.start
    assert (written == 1).all()


@given(
    size=st.integers(1, 300),
    tile=st.integers(1, 120),
    before=st.integers(0, 20),
    after=st.integers(0, 20),
    stride=st.integers(1, 16),
)
def test_losing_axis_writes_each_pixel_once(size: int, tile: int, before: int, after: int, stride: int) -> None:
    axis = losing_axis(size, tile, (before, after), stride, any_size)
    check_covers_once(axis)
    for span in axis.spans:
        assert span.output.start % stride == 0
        assert span.output.start - span.input.start == before  # the network's first output
        assert span.crop.stop <= axis.tile_size - before - after


@given(size=st.integers(1, 300), tile=st.integers(1, 200), margin=st.integers(0, 5).map(lambda count: 8 * count))
def test_keeping_axis_writes_each_pixel_once_away_from_inner_sides(size: int, tile: int, margin: int) -> None:
    axis = keeping_axis(size, tile, margin, 8, multiple_of_8)
    check_covers_once(axis)
    padded = multiple_of_8(size)
    for span in axis.spans:
        assert span.input.start % 8 == 0
        assert span.input.start >= 0
        assert span.input.stop <= padded
        assert span.input.start == 0 or span.crop.start >= margin
        assert span.input.stop == padded or axis.tile_size - span.crop.stop >= margin
        assert span.input.start + span.crop.start == span.output.start


@given(size=st.integers(1, 300), tile=st.integers(1, 120), overlap=st.floats(0, 0.9))
def test_blended_axis_covers_and_overlaps(size: int, tile: int, overlap: float) -> None:
    axis = blended_axis(size, tile, overlap, multiple_of_8)
    outputs = [span.output for span in axis.spans]
    assert outputs[0].start == 0
    assert outputs[-1].stop == size
    for first, second in itertools.pairwise(outputs):
        assert second.start <= first.stop
        assert second.start > first.start


def test_typed_out_tiles_of_the_original() -> None:
    """Check that of 388 outputs of 572 pixels 384 are used, the largest multiple of 16."""
    axis = losing_axis(1000, 572, (92, 92), 16, lambda at_least: at_least + (-(at_least + 4) % 16))
    assert axis.tile_size == 524  # three tiles of 336 reach as far as three of 384
    assert [(span.output.start, span.output.stop) for span in axis.spans] == [(0, 336), (336, 672), (672, 1000)]
    assert [span.input.start for span in axis.spans] == [-92, 244, 580]


def test_grid_counts_and_orders_its_tiles() -> None:
    grid = Grid((losing_axis(10, 6, (1, 1), 1, any_size), losing_axis(7, 9, (1, 1), 1, any_size)))
    assert len(grid) == len(list(grid.tiles())) == 3
    assert grid.shape == (10, 7)
    assert grid.row_starts == (0, 4, 8)
    assert [tile.output[0].start for tile in grid.tiles()] == [0, 4, 8]


@settings(deadline=None)
@given(size=st.integers(1, 6), before=st.integers(0, 20), after=st.integers(0, 20))
def test_read_mirrored_is_numpys_reflection(size: int, before: int, after: int) -> None:
    pixels = np.arange(2 * size * 3).reshape(2, size, 3)
    region = (slice(-before, size + after), slice(0, 3))
    expected = np.pad(pixels, ((0, 0), (before, after), (0, 0)), mode="reflect" if size > 1 else "edge")
    np.testing.assert_array_equal(read_mirrored(ArraySource(pixels), region), expected)


def test_read_mirrored_typed_out() -> None:
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]])
    assert read_mirrored(ArraySource(pixels), (slice(-1, 2), slice(1, 5)))[0].tolist() == [
        [5, 6, 5, 4],
        [2, 3, 2, 1],
        [5, 6, 5, 4],
    ]


def test_read_mirrored_far_from_the_image_reads_only_what_it_shows() -> None:
    pixels = np.arange(10).reshape(1, 10)
    np.testing.assert_array_equal(read_mirrored(ArraySource(pixels), (slice(20, 23),))[0], [2, 3, 4])


@pytest.mark.parametrize("start", [-5, 0, 5])
def test_a_source_refuses_what_lies_outside(start: int) -> None:
    with pytest.raises(ValueError, match="doesn't lie in the level's shape"):
        ArraySource(np.zeros((1, 4))).read((slice(start, start + 5),))
