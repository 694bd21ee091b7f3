"""Label index and sampler: counts and positions, samples independent of the size of pieces, uniform probabilities."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from configs import schema
from imaging.errors import DataError
from imaging.source import Geometry, ImageSource, Region
from training.data import sampling
from training.data.sampling import MOST_POSITIONS, PatchSampler, PositionReservoir, index_labels


class Labels(ImageSource):
    """A reference in memory."""

    mask_format = "png"

    def __init__(self, labels: NDArray[Any]) -> None:
        super().__init__(Geometry(labels.shape), 1, labels.dtype)
        self.labels = labels

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        return self.labels[region][None]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_counts_and_positions_of_every_label(dtype: type) -> None:
    labels = np.array([[0, 2, 2], [1, 0, 2]], dtype)
    index = index_labels(Labels(labels), 4, seed=0)
    assert index.shape == (2, 3)
    assert index.counts.tolist() == [2, 1, 3, 0]
    assert [sorted(positions.tolist()) for positions in index.positions] == [[0, 4], [3], [1, 2, 5], []]


def test_sampled_positions_have_their_label() -> None:
    labels = np.random.default_rng(3).integers(0, 2, (90, 50, 40), np.uint8)
    index = index_labels(Labels(labels), 2, seed=1)
    assert index.counts.tolist() == [(labels == 0).sum(), (labels == 1).sum()]
    for label, positions in enumerate(index.positions):
        assert len(np.unique(positions)) == MOST_POSITIONS
        assert (labels[np.unravel_index(positions, labels.shape)] == label).all()


def test_a_value_that_is_no_label_is_refused_with_its_count() -> None:
    labels = np.zeros((5, 5), np.uint8)
    labels[1, :3] = 9
    with pytest.raises(DataError, match=r"reference holds 9 \(3 pixels\); allowed are 0 \.\. 1"):
        index_labels(Labels(labels), 2, seed=0)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 59_999), max_size=8), seed=st.integers(0, 99), share=st.sampled_from([0.01, 0.3, 1.0]))
def test_the_sample_is_independent_of_the_pieces(cuts: list[int], seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random(60_000) < share
    whole = PositionReservoir(np.random.default_rng(seed))
    whole.add(mask, 0)
    in_pieces = PositionReservoir(np.random.default_rng(seed))
    first = 0
    for piece in np.split(mask, sorted(set(cuts))):
        in_pieces.add(piece, first)
        first += piece.size
    assert in_pieces.count == whole.count == mask.sum()
    np.testing.assert_array_equal(in_pieces.positions(), whole.positions())


def test_equal_seeds_give_equal_samples_for_all_block_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = Labels(np.random.default_rng(0).integers(0, 2, (300, 300), np.uint8))
    first = index_labels(reference, 2, seed=5)
    monkeypatch.setattr(sampling, "BLOCK_BYTES", 7_000)
    monkeypatch.setattr(sampling, "PIECE_PIXELS", 1_234)
    again, other = index_labels(reference, 2, seed=5), index_labels(reference, 2, seed=6)
    np.testing.assert_array_equal(first.positions[1], again.positions[1])
    assert not np.array_equal(first.positions[1], other.positions[1])


def test_every_pixel_is_equally_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 draws of 100 from 1,000: each pixel is drawn 30 times, with a standard deviation of 5.2."""
    monkeypatch.setattr(sampling, "MOST_POSITIONS", 100)
    mask = np.ones(1_000, np.bool_)
    draws = np.stack([_sample(mask, seed) for seed in range(300)])
    times = np.bincount(draws.ravel(), minlength=1_000)
    chi_square = ((times - 30) ** 2 / 27).sum()  # variance 300 * .1 * .9
    assert 800 < chi_square < 1_200  # 999 degrees of freedom, deviation 45
    by_tenth = times.reshape(10, 100).sum(axis=1)
    assert abs(by_tenth - 3_000).max() < 4 * np.sqrt(300 * 100 * 0.1 * 0.9)
    neighbours = np.mean([np.isin(draw + 1, draw).mean() for draw in draws])
    assert 0.09 < neighbours < 0.108  # 99 / 999


def test_memory_does_not_grow_with_the_reference() -> None:
    """Rows of the slide are generated when they are read, so NumPy's peak memory is that of the index."""
    import tracemalloc

    source = Stripes((6_000, 20_480))
    tracemalloc.start()
    index = index_labels(source, 2, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert index.counts.sum() == 6_000 * 20_480
    assert peak < 64 * 2**20


class Stripes(Labels):
    """A reference of any size whose odd columns are foreground."""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__(np.empty((0, 0), np.uint8))
        self.geometry = Geometry(shape)
        self.levels = (type(self.levels[0])(shape, None),)

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        rows, columns = (axis.stop - axis.start for axis in region)
        return np.broadcast_to(np.arange(columns, dtype=np.uint8) % 2, (rows, columns)).copy()[None]


def _sample(mask: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    draw = PositionReservoir(np.random.default_rng(seed))
    for piece in _pieces(mask):
        draw.add(*piece)
    return draw.positions()


def _pieces(mask: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.bool_], int]]:
    for first in range(0, mask.size, 333):
        yield mask[first : first + 333], first


def window_sampler(*overrides: str) -> PatchSampler:
    """Two references of 20 x 30 whose left third is foreground."""
    labels = np.zeros((20, 30), np.uint8)
    labels[:, :10] = 1
    config = schema.load(
        Path("configs/histology_sliding_window.yaml"),
        ["model.window=4", "model.convolutions=[{features: 1, kernel: 1}]", *overrides],
    )
    return PatchSampler([index_labels(Labels(labels), 2, seed) for seed in range(2)], config)


def centres(sampler: PatchSampler, count: int) -> list[tuple[int, tuple[int, ...]]]:
    """Draw windows, and return the case and the central pixel of each."""
    draws = [sampler.draw(np.random.default_rng((7, index))) for index in range(count)]
    return [(number, tuple(first + 2 for first in start)) for number, start in draws]


def test_hard_negatives_replace_their_share_of_background_and_no_foreground() -> None:
    sampler = window_sampler("sampling.hard_negative_share=0.4")
    plain = centres(sampler, 3_000)
    sampler.set_hard_negatives(1, np.array([25, 59]))  # (0, 25), (1, 29)
    drawn = centres(sampler, 3_000)
    for places in (plain, drawn):
        assert np.mean([column < 10 for _, (_, column) in places]) == pytest.approx(0.5, abs=0.03)
    hard = [place for place in drawn if place in [(1, (0, 25)), (1, (1, 29))]]
    assert len(hard) / len(drawn) == pytest.approx(0.4 * 0.5, abs=0.03)
    assert hard.count((1, (0, 25))) / len(hard) == pytest.approx(0.5, abs=0.06)
    assert all(isinstance(value, int) for number, start in drawn for value in (number, *start))


def test_a_case_s_new_hard_negatives_replace_its_old_ones() -> None:
    sampler = window_sampler("sampling.hard_negative_share=0.4")
    sampler.set_hard_negatives(0, np.array([15, 16]))
    sampler.set_hard_negatives(1, np.array([17]))
    sampler.set_hard_negatives(0, np.array([18]))
    assert sampler.hard_negatives.tolist() == [[1, 17], [0, 18]]
    sampler.set_hard_negatives(1, np.array([], np.int64))
    assert sampler.hard_negatives.tolist() == [[0, 18]]
