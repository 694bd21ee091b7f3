"""Resampling of bands: the result equals resampling the whole image, however it is cut into bands."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imaging.resample import Weights, resample
from inference.tiling import stitch as stitching
from inference.tiling.resampling import resample_bands
from inference.tiling.stitch import Band

SIZES = st.integers(1, 24)


def resample_whole(logits: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    sizes = zip(logits.shape[1:], shape, strict=True)
    return resample(logits, [Weights(slice(0, new), new, old) for old, new in sizes])


def cut_into_bands(logits: NDArray[np.float32], ends: list[int]) -> list[Band]:
    cuts = sorted({0, logits.shape[1], *(end for end in ends if end < logits.shape[1])})
    return [Band(start, logits[:, start:stop]) for start, stop in itertools.pairwise(cuts)]


@pytest.mark.parametrize("group_bytes", [1, 700, 2**26])
@settings(max_examples=40, deadline=None)
@given(seen=st.tuples(SIZES, SIZES, SIZES), shape=st.tuples(SIZES, SIZES, SIZES), ends=st.lists(st.integers(1, 23)))
def test_bands_are_the_whole(group_bytes: int, seen: tuple[int, ...], shape: tuple[int, ...], ends: list[int]) -> None:
    logits = np.random.default_rng(0).normal(size=(2, *seen)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stitching, "GROUP_BYTES", group_bytes)
        bands = list(resample_bands(cut_into_bands(logits, ends), seen, shape))
    assert [band.start for band in bands] == np.cumsum([0, *(band.logits.shape[1] for band in bands)])[:-1].tolist()
    np.testing.assert_array_equal(np.concatenate([band.logits for band in bands], axis=1), resample_whole(logits, shape))


def test_an_equal_grid_goes_through_untouched() -> None:
    bands = cut_into_bands(np.zeros((2, 8, 4), np.float32), [3, 5])
    assert [given is band for given, band in zip(resample_bands(bands, (8, 4), (8, 4)), bands, strict=True)] == [True] * 3


def test_rows_are_yielded_as_soon_as_possible() -> None:
    """Check that about half of the image's rows are yielded after half of the network's rows."""
    read_rows: list[int] = []

    def recorded_bands() -> Iterator[Band]:
        for band in cut_into_bands(np.zeros((2, 40, 8), np.float32), [20]):
            read_rows.append(band.start)
            yield band

    rows_out = {
        len(read_rows): band.start + band.logits.shape[1] for band in resample_bands(recorded_bands(), (40, 8), (120, 24))
    }
    assert rows_out[2] == 120
    assert 55 <= rows_out[1] <= 60
