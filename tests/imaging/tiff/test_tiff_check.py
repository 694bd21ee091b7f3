"""The check of a TIFF's structure: what it says of sound files, and each of its messages."""

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import DataError, ImageTooLarge
from imaging.open import open_image
from imaging.tiff.check import check_tiff
from tests.corpus.tiff_bytes import PIXELS, page, pyramid, tiff
from tests.corpus.tiff_files import ROWS
from tests.imaging.test_slides import ndpi_page

BY_ID = {row.id: row for row in ROWS}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_pages_sizes_and_tiles(tmp_path, order, big):
    (tmp_path / "i.tif").write_bytes(pyramid(order=order, big=big))
    checked = check_tiff(tmp_path / "i.tif", 3)
    assert [(one.shape, one.tile, one.is_sub) for one in checked.pages] == [
        ((64, 64), (16, 16), False),
        ((32, 32), (16, 16), False),
        ((16, 16), (16, 16), False),
    ]
    assert checked.largest is checked.pages[0]
    assert checked.largest.is_rgb8


def test_pages_that_hang_below_come_after_theirs(tmp_path):
    one = page(PIXELS[:16, :16], tile=None)
    one.subs = [page(PIXELS[:8, :8], tile=None), page(PIXELS[:4, :4], tile=None)]
    (tmp_path / "i.tif").write_bytes(tiff([one, page(PIXELS[:2, :2], tile=None)]))
    pages = check_tiff(tmp_path / "i.tif", 4).pages
    assert [(one.shape[0], one.is_sub) for one in pages] == [(16, False), (8, True), (4, True), (2, False)]
    with pytest.raises(DataError, match="more than 3 pages; save the image with fewer"):
        check_tiff(tmp_path / "i.tif", 3)


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    samples=st.sampled_from([1, 3]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    tile=st.sampled_from([None, (16, 32), (64, 48)]),
    big=st.booleans(),
)
def test_what_tifffile_writes_is_sound(tmp_path_factory, height, width, samples, dtype, tile, big):
    path = tmp_path_factory.getbasetemp() / "sound.tif"
    array = np.zeros((height, width, samples)[: 3 if samples > 1 else 2], dtype)
    tifffile.imwrite(path, array, tile=tile, bigtiff=big, compression="zlib", photometric="rgb" if samples > 1 else None)
    (found,) = check_tiff(path, 1).pages
    assert (found.shape, found.tile) == ((height, width), tile)
    assert found.is_rgb8 == (samples == 3 and dtype is np.uint8)


def test_a_hundred_thousand_tiles(tmp_path):
    one = page(np.zeros((5120, 5120), np.uint8), tile=16)
    one.segments = [b"x"] * 320**2
    (tmp_path / "i.tif").write_bytes(tiff([one], big=True))
    assert check_tiff(tmp_path / "i.tif", 1).largest.shape == (5120, 5120)


def test_a_slide_of_hamamatsu_beyond_4_gib(tmp_path):
    content = tiff([ndpi_page(PIXELS, 20.0)], ndpi=True)
    with (tmp_path / "i.ndpi").open("wb") as file:  # with a hole
        file.write(content[:4] + (2**32 + len(content)).to_bytes(8, "little"))
        file.seek(2**32)
        file.write(content + content[12:])  # the directory again, behind its values
    assert check_tiff(tmp_path / "i.ndpi", 1).largest.shape == (64, 64)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("S02-0x64", r"declares the size \(0, 64\); each side needs 1 pixel or more"),
        ("S02-long-side", r"size \(16, 300001\), at most 300000 a side and 100000000000 pixels are allowed; cut out the part"),
        ("S03-tile-width-1.49e9", r"tiles are \(32, 1490000000\), which can't be for its size; save it with tiles of 512"),
        ("S03-one-tile-of-four", "has 1 tiles of 4, which can't be for its size; save it with tiles of 512"),
        ("S04-tile-24", r"tiles are \(32, 24\), sides of 16 to 4096 in steps of 16 are allowed; save it with tiles of 512"),
        ("S06-bits-24", "3 samples a pixel of 24 bits, in an unsupported type or compression; allowed are grey, RGB"),
        ("S06-bits-8-8-16", "3 samples a pixel of several bits, in an unsupported type"),
        ("S07-loop", "the TIFF's directory contradicts itself or the format; export the image again"),
        ("S07-200000-pages", "the TIFF has more than 64 pages; save the image with fewer, several channels in one"),
        ("S08-pyramid-50", "points to data beyond its end; it was cut, send or export it again"),
        ("S15-ome-axes-within-axes", "has axes within axes; save one 2D image or one Z stack"),
        ("S01-text", "not a TIFF; save the image as TIFF with tiles"),
    ],
)
def test_messages_of_the_check(tmp_path, name, message):
    with pytest.raises(DataError, match=message) as caught:
        check_tiff(BY_ID[name].build(tmp_path), 64)
    assert caught.value.code == BY_ID[name].code
    if isinstance(caught.value, ImageTooLarge):
        assert caught.value.limit == 10**11


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "S11-level-of-another-shape",
            r"levels are \[\(64, 64\), \(32, 16\)\]; each must be the first one, made smaller by one factor",
        ),
        ("S11-one-of-several-files", "one of several that belong together; save the image as one file"),
        ("S13-mrxs", "part of a MIRAX slide, which has a folder of files; export it as one TIFF"),
        ("S15-ome-that-ends-early", "the TIFF's structure can't be read; export the image again"),
    ],
)
def test_messages_of_the_readers(tmp_path, name, message):
    with pytest.raises(DataError, match=message) as caught:
        open_image(BY_ID[name].build(tmp_path))
    assert caught.value.code == BY_ID[name].code
