"""The buffer of an image of numbers: what is filled object by object is read as the whole."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from imaging.writing import run_buffer
from imaging.writing.run_buffer import RunBuffer


def runs_of(pixels: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return each pixel as a run of its own, but for pairs of neighbours."""
    runs: list[list[int]] = []
    for *line, column in np.argwhere(pixels).tolist():
        if runs and runs[-1][:-2] == line and runs[-1][-1] == column and column % 3:
            runs[-1][-1] += 1
        else:
            runs.append([*line, column, column + 1])
    return np.array(runs, np.int32)


@given(
    hnp.arrays(np.uint32, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9), elements=st.integers(0, 5)),
    st.integers(1, 40),
    st.integers(1, 2000),
)
def test_what_is_filled_is_read(numbers: NDArray[np.uint32], pixels_at_once: int, block_bytes: int) -> None:
    """Check objects of several runs, for groups and windows of any size."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(run_buffer, "_PIXELS_AT_ONCE", pixels_at_once)
        patch.setattr(run_buffer, "BLOCK_BYTES", block_bytes)
        with RunBuffer(Path(folder), numbers.shape) as buffer:
            for number in np.unique(numbers[numbers > 0])[::-1]:
                buffer.fill(runs_of(numbers == number), int(number))
            buffer.flush()
            assert np.array_equal(buffer.read(tuple(slice(0, size) for size in numbers.shape)), numbers)


def test_nothing_filled_is_nothing(tmp_path: Path) -> None:
    with RunBuffer(tmp_path, (3, 4)) as buffer:
        buffer.flush()
        assert buffer.read((slice(0, 3), slice(0, 4))).tolist() == [[0] * 4] * 3
    assert list(tmp_path.iterdir()) == []
