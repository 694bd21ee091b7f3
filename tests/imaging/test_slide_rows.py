"""Every TIFF and slide of the corpus: at the check of its structure, and through a process of its own."""

import ctypes
import gc
import os

import numpy as np
import pytest

from disk.process import peak_resident_bytes, reset_peak, resident_bytes
from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import LOCAL, UPLOAD
from imaging.open import open_image
from imaging.tiff.check import check_tiff
from tests.corpus.tiff_bytes import PIXELS, SIDE, pyramid
from tests.corpus.tiff_files import ROWS, SECRETS

BY_ID = {row.id: row for row in ROWS}
KINDS = {
    **dict.fromkeys(("unsupported_format", "slide_vendor_not_supported"), UnsupportedFormat),
    **dict.fromkeys(("slide_too_large", "image_too_large"), ImageTooLarge),
    **dict.fromkeys(("tile_size_not_supported", "pixel_format_not_supported", "pyramid_not_supported"), UnsuitableImage),
    **dict.fromkeys(("dimension_not_supported", "several_files", "non_finite_pixels"), UnsuitableImage),
    **dict.fromkeys(("empty_file", "slide_too_small", "tile_unreadable", "picture_broken"), BrokenImage),
    **dict.fromkeys(("tiff_bad_ifd", "tiff_bad_tiles", "tiff_truncated", "tiff_broken"), BrokenImage),
}
BY_THE_STRUCTURE = {  # what is found before tifffile or OpenSlide sees the file
    "slide_too_large", "slide_too_small", "tile_size_not_supported", "tiff_bad_ifd", "tiff_bad_tiles", "tiff_truncated",
}  # fmt: skip
BY_TIFFFILE = {"S02-40000-in-1-kib", "S05-deflate-strip"}  # sound structures that say more than they hold


def parametrized(rows):
    return pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in rows])


def read_all(path, guards):
    with open_image(path, guards=guards) as source:
        pixels = np.concatenate(list(source.blocks()), axis=1)
        for level, known in enumerate(source.levels):
            source.read(tuple(slice(0, size) for size in known.shape), level)
        return pixels


def check(error, row, folder):
    assert error.code == row.code
    assert type(error) is KINDS[row.code]
    assert str(folder) not in error.message
    assert not any(secret.decode() in error.message for secret in SECRETS)
    assert error.message.isprintable()


def test_every_fault_has_its_rows():
    assert len(BY_ID) == len(ROWS)
    by_others = {"S12", "S17"}  # the resolution that a model asks for; DICOM
    assert {row.id.split("-")[0] for row in ROWS} == {f"S{number:02}" for number in range(1, 18)} - by_others


@parametrized(row for row in ROWS if row.code in BY_THE_STRUCTURE and row.id not in BY_TIFFFILE)
def test_the_check_of_the_structure(tmp_path, row):
    path = row.build(tmp_path)
    with pytest.raises(DataError) as caught:
        check_tiff(path, UPLOAD.max_pages)
    check(caught.value, row, tmp_path)


@parametrized(ROWS)
def test_in_a_process_of_its_own(tmp_path, row):
    path = row.build(tmp_path)
    if row.code is None:
        assert np.isfinite(read_all(path, UPLOAD)).all()
        return
    if row.layer == "header":
        with pytest.raises(DataError) as caught:
            open_image(path, guards=UPLOAD)
    else:
        with open_image(path, guards=UPLOAD) as source, pytest.raises(DataError) as caught:
            list(source.blocks())
    check(caught.value, row, tmp_path)


@parametrized(row for row in ROWS if row.code is None and row.id[:3] not in ("S01", "S02"))
def test_both_ways_read_the_same(tmp_path, row):
    path = row.build(tmp_path)
    np.testing.assert_array_equal(read_all(path, LOCAL), read_all(path, UPLOAD))


@pytest.mark.parametrize("name", ["S10-grey", "S10-5-channels", "S06-planar-2", "S11-strips", "S11-levels-upside-down"])
def test_what_reads_is_what_was_written(tmp_path, name):
    stored = np.moveaxis(PIXELS, -1, 0)
    stored = stored[:1] if name == "S10-grey" else stored[[0] * 5] if name == "S10-5-channels" else stored
    np.testing.assert_array_equal(read_all(BY_ID[name].build(tmp_path), LOCAL), stored)


@pytest.mark.parametrize(
    ("name", "colour"),
    [("S14-white", 255), ("S14-black", 0), ("S14-transparent", 255), ("S14-nothing-scanned", 255)],
)
def test_blank_slides(tmp_path, name, colour):
    pixels = read_all(BY_ID[name].build(tmp_path), UPLOAD)
    assert pixels.shape == (3, SIDE, SIDE)
    assert (pixels == colour).all()


def test_16_bits_are_never_cut_to_8(tmp_path):
    pixels = read_all(BY_ID["S10-16-bit"].build(tmp_path), UPLOAD)
    np.testing.assert_array_equal(pixels, np.moveaxis(PIXELS.astype(np.uint16) * 257, -1, 0))


@pytest.mark.parametrize("vendor", [b"", b"Aperio Image Library v12\n64x64 (16x16)|MPP = 0.25"])
@pytest.mark.parametrize("name", ["S03-aperio-tile-width-1.49e9", "S05-jpeg-says-65500", "S09-aperio", "S07-loop"])
def test_a_good_file_reads_right_after_a_bad_one(tmp_path, name, vendor):
    bad, good = BY_ID[name].build(tmp_path), tmp_path / "good"
    good.write_bytes(pyramid(vendor=vendor))
    with pytest.raises(DataError):
        read_all(bad, UPLOAD)
    np.testing.assert_array_equal(read_all(good, UPLOAD), np.moveaxis(PIXELS, -1, 0))


def test_hostile_files_leave_this_process_its_memory(tmp_path):
    hostile = [row for row in ROWS if row.id[:3] in ("S02", "S03", "S04", "S05", "S07", "S15") and row.code]
    paths = []
    for row in hostile:
        (tmp_path / row.id).mkdir()
        paths.append(row.build(tmp_path / row.id))
    read_refused(paths[0])  # what the first reader needs itself
    gc.collect()
    reset_peak()
    before = resident_bytes()
    for path in paths:
        read_refused(path)
    assert peak_resident_bytes() - before < 20 * 2**20


def read_refused(path):
    with pytest.raises(DataError), open_image(path, guards=UPLOAD) as source:
        list(source.blocks())


@pytest.fixture
def opened_in():
    """Says whether any file of the folders was opened, by this process or another, in Python or in C."""
    system = ctypes.CDLL(None)
    inotify = system.inotify_init1(os.O_NONBLOCK)

    def watch(folders):
        for folder in folders:
            assert system.inotify_add_watch(inotify, bytes(folder), 0x20) >= 0  # IN_OPEN

    def opened():
        try:
            return bool(os.read(inotify, 4096))
        except BlockingIOError:
            return False

    yield watch, opened
    os.close(inotify)


@pytest.mark.parametrize("guards", [LOCAL, UPLOAD], ids=["here", "isolated"])
@parametrized(row for row in ROWS if row.id.startswith(("S13", "S11-one-of-several-files")))
def test_no_file_is_opened_beyond_the_slides_own_folder(tmp_path, row, guards, opened_in):
    watch, opened = opened_in
    folder = tmp_path / "build"
    folder.mkdir()
    path = row.build(folder)
    others = [path.parent.parent / "other", path.parent / "other"]
    for other in others:
        other.mkdir(exist_ok=True)
        (other / "secret").touch()
    watch(others)
    with pytest.raises(DataError) as caught:
        open_image(path, guards=guards)
    assert caught.value.code == row.code
    assert not opened()
    (others[0] / "secret").read_bytes()
    assert opened()  # the watch sees what it should
