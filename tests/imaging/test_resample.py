"""An image on another grid: the same as torch's, any region a part of the whole, and no label made up."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imaging.open import open_image
from imaging.resample import ResampledSource, shape_at, spacing_of
from imaging.source import Geometry, ImageSource, Level, Region
from tests.phantom import draw_slide, write_pyramid_slide

SIZES = st.integers(1, 40)
WIDER = st.integers(2, 40)  # torch 2.13 repeats the first row of an image that is one pixel wide


class Pyramid(ImageSource):
    """Levels (C, *S) in memory; remembers which were read."""

    mask_format = "png"

    def __init__(self, *levels: NDArray[Any], spacing_um: tuple[float, ...] | None = None) -> None:
        super().__init__(
            Geometry(levels[0].shape[1:], spacing_um),
            len(levels[0]),
            levels[0].dtype,
            tuple(Level(level.shape[1:], None) for level in levels),
        )
        self.pixels = levels
        self.read_levels: list[int] = []
        self.closed = False

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        self.read_levels.append(level)
        return self.pixels[level][(slice(None), *region)]

    def close(self) -> None:
        self.closed = True


def whole(source: ImageSource) -> NDArray[Any]:
    return source.read(tuple(slice(0, size) for size in source.shape))


def draw(shape: tuple[int, ...], dtype: type = np.float32) -> NDArray[Any]:
    values = np.random.default_rng(0).integers(0, 200, shape)
    return values.astype(dtype)


@settings(max_examples=40, deadline=None)
@given(old=st.tuples(WIDER, WIDER), new=st.tuples(WIDER, WIDER))
def test_it_is_what_torch_makes_of_it(old: tuple[int, int], new: tuple[int, int]) -> None:
    image = draw((2, *old))
    expected = torch.nn.functional.interpolate(torch.from_numpy(image)[None], new, mode="bilinear", antialias=True)[0]
    np.testing.assert_allclose(whole(ResampledSource(Pyramid(image), new)), expected.numpy(), atol=2e-3)


@settings(max_examples=30, deadline=None)
@given(old=st.tuples(SIZES, SIZES, SIZES), new=st.tuples(SIZES, SIZES, SIZES), data=st.data(), labels=st.booleans())
def test_any_region_is_a_part_of_the_whole(
    old: tuple[int, int, int], new: tuple[int, int, int], data: st.DataObject, labels: bool
) -> None:
    source = ResampledSource(Pyramid(draw((1, *old), np.uint8) // (70 if labels else 1)), new, labels=labels)
    starts = [data.draw(st.integers(0, size - 1)) for size in new]
    region = tuple(slice(start, data.draw(st.integers(start + 1, size))) for start, size in zip(starts, new, strict=True))
    np.testing.assert_array_equal(source.read(region), whole(source)[(slice(None), *region)])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_the_same_grid_is_the_same_image(dtype: type) -> None:
    image = draw((3, 7, 9), dtype)
    same = ResampledSource(Pyramid(image), (7, 9))
    np.testing.assert_array_equal(whole(same), image)
    assert whole(same).dtype == dtype


def test_half_the_grid_averages_pairs_with_their_neighbours() -> None:
    image = np.array([[[0, 0, 0, 80, 80, 80]]], np.uint8)
    # weights 1/8, 3/8, 3/8, 1/8, at the border without what lies outside
    np.testing.assert_array_equal(whole(ResampledSource(Pyramid(image), (1, 3))), [[[0, 40, 80]]])


def test_twice_the_grid_interpolates() -> None:
    image = np.array([[[0.0, 4.0]]], np.float32)
    np.testing.assert_array_equal(whole(ResampledSource(Pyramid(image), (1, 4))), [[[0.0, 1.0, 3.0, 4.0]]])


def test_labels_are_those_with_the_most_weight() -> None:
    labels = np.array([[[3, 3, 7, 7, 7, 0]]], np.uint8)
    np.testing.assert_array_equal(whole(ResampledSource(Pyramid(labels), (1, 3), labels=True)), [[[3, 7, 7]]])
    np.testing.assert_array_equal(whole(ResampledSource(Pyramid(labels), (1, 12), labels=True))[0, 0, ::2], labels[0, 0])


@settings(max_examples=20, deadline=None)
@given(new=st.tuples(SIZES, SIZES))
def test_no_label_is_made_up(new: tuple[int, int]) -> None:
    labels = np.random.default_rng(1).choice([0, 2, 200], (1, 20, 20)).astype(np.uint8)
    assert set(np.unique(whole(ResampledSource(Pyramid(labels), new, labels=True)))) <= {0, 2, 200}


@pytest.mark.parametrize(
    ("shape", "level"), [((40, 40), 0), ((21, 21), 0), ((20, 20), 1), ((11, 11), 1), ((9, 10), 2), ((80, 80), 0)]
)
def test_the_coarsest_level_that_is_fine_enough_is_read(shape: tuple[int, int], level: int) -> None:
    pyramid = Pyramid(*(draw((1, size, size)) for size in (40, 20, 10)))
    whole(ResampledSource(pyramid, shape))
    assert pyramid.read_levels == [level]


def test_a_landmark_stays_where_it_is() -> None:
    """The centre of a bright pixel, in shares of the extent, is the same on both grids within half a pixel of the coarser."""
    image = np.zeros((1, 50, 60), np.float32)
    image[0, 17, 42] = 1
    for shape in ((25, 30), (100, 120), (33, 47)):
        moved = whole(ResampledSource(Pyramid(image), shape))[0]
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        row, column = ((moved * axis).sum() / moved.sum() for axis in (rows, columns))
        assert abs((row + 0.5) / shape[0] - 17.5 / 50) < 0.5 / min(50, shape[0])
        assert abs((column + 0.5) / shape[1] - 42.5 / 60) < 0.5 / min(60, shape[1])


def test_the_grid_of_a_spacing() -> None:
    source = Pyramid(draw((1, 100, 60)), spacing_um=(0.5, 0.25))
    assert shape_at(source, (1.0, 1.0)) == (50, 15)
    assert spacing_of(source, (50, 15)) == (1.0, 1.0)
    assert spacing_of(Pyramid(draw((1, 4, 4))), (2, 2)) is None
    assert ResampledSource(source, (51, 15)).spacing_um == pytest.approx((100 * 0.5 / 51, 1.0))


def test_a_slide_at_twice_its_spacing_is_its_second_level(tmp_path: Path) -> None:
    write_pyramid_slide(tmp_path / "slide.svs", draw_slide((512, 768), seed=0)[0], spacing_um=0.25)
    with open_image(tmp_path / "slide.svs") as slide:
        region = (slice(10, 110), slice(50, 250))
        np.testing.assert_array_equal(
            ResampledSource(slide, shape_at(slide, (0.5, 0.5))).read(region), slide.read(region, level=1)
        )


def test_leaving_it_closes_the_source() -> None:
    pyramid = Pyramid(draw((1, 4, 4)))
    with ResampledSource(pyramid, (2, 2)) as source:
        assert source.mask_format == "png"
    assert pyramid.closed
