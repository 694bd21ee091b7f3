import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from imaging.errors import BrokenImage, ImageTooLarge, UnsuitableImage
from imaging.guards import Guards
from imaging.open import open_image

GREY16 = np.array([[0, 300, 65535], [1, 256, 40000]], np.uint16)


def read_all(path, **options):
    with open_image(path, **options) as source:
        pixels = source.read(tuple(slice(0, size) for size in source.shape))
        assert pixels.shape == (source.channels, *source.shape)
        assert pixels.dtype == source.dtype
        assert source.spacing_um is None
        return pixels


@given(data=st.data())
def test_a_region_is_a_slice_of_the_whole(data, picture):
    path, array = picture
    top, left = data.draw(st.integers(0, 19)), data.draw(st.integers(0, 29))
    bottom, right = data.draw(st.integers(top + 1, 20)), data.draw(st.integers(left + 1, 30))
    with open_image(path) as source:
        np.testing.assert_array_equal(
            source.read((slice(top, bottom), slice(left, right))), np.moveaxis(array, -1, 0)[:, top:bottom, left:right]
        )


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    Image.fromarray(array).save(path, dpi=(300, 300))
    return path, array


def test_grey_of_16_bits_stays_so(tmp_path):
    Image.fromarray(GREY16).save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_all(tmp_path / "p.png"), GREY16[None])


def test_grey_of_8_bits_has_one_channel(tmp_path):
    Image.fromarray(np.array([[7, 8]], np.uint8)).save(tmp_path / "p.png")
    assert read_all(tmp_path / "p.png").tolist() == [[[7, 8]]]


def test_black_and_white_is_grey_as_image_and_zero_one_as_labels(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "p.png")
    assert read_all(tmp_path / "p.png").tolist() == [[[255, 0]]]
    assert read_all(tmp_path / "p.png", labels=True).tolist() == [[[1, 0]]]


def test_transparency_lies_on_white(tmp_path):
    colours = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 255, 51]]], np.uint8)
    Image.fromarray(colours).save(tmp_path / "p.png")
    assert read_all(tmp_path / "p.png").tolist() == [[[10, 255, 204]], [[20, 255, 224]], [[30, 255, 255]]]


def test_grey_with_transparency_lies_on_white(tmp_path):
    Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8)).save(tmp_path / "p.png")
    assert read_all(tmp_path / "p.png").tolist() == [[[10, 255]]]


def palette_picture(path, **options):
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255] + [0] * (768 - 9))
    image.putdata([2, 1, 0])
    image.save(path, **options)
    return path


def test_a_palette_is_colours_as_image_and_indices_as_labels(tmp_path):
    path = palette_picture(tmp_path / "p.png")
    assert read_all(path).tolist() == [[[0, 255, 0]], [[0, 0, 0]], [[255, 0, 0]]]
    assert read_all(path, labels=True).tolist() == [[[2, 1, 0]]]


def test_a_transparent_palette_entry_is_white(tmp_path):
    path = palette_picture(tmp_path / "p.png", transparency=0)
    assert read_all(path).tolist() == [[[0, 255, 255]], [[0, 0, 255]], [[255, 0, 255]]]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    colours = np.random.default_rng(0).integers(0, 255, (8, 24, 3)).astype(np.uint8)
    path = tmp_path / f"p{suffix}"
    Image.fromarray(colours).save(path, exif=exif, dpi=(72, 72))
    with Image.open(path) as image:
        expected = np.moveaxis(np.asarray(ImageOps.exif_transpose(image)), -1, 0)
    np.testing.assert_array_equal(read_all(path), expected)
    with open_image(path) as source:
        assert source.warnings == (() if orientation == 1 else ("orientation_applied",))
        part = source.read((slice(1, 3), slice(2, 5)))
        np.testing.assert_array_equal(part, expected[:, 1:3, 2:5])


def test_exif_orientation_of_labels_and_of_16_bits_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.array([[1, 2, 3], [4, 5, 600]], np.uint16)
    Image.fromarray(stored).save(tmp_path / "p.png", exif=exif)
    assert read_all(tmp_path / "p.png", labels=True).tolist() == [[[4, 1], [5, 2], [600, 3]]]


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09" + bytes(7)]
)
def test_an_exif_that_says_nothing_sensible_changes_nothing(tmp_path, exif):
    array = np.zeros((8, 24, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "p.jpg", exif=exif)
    assert read_all(tmp_path / "p.jpg").shape == (3, 8, 24)


def test_cmyk_is_refused(tmp_path):
    Image.new("CMYK", (4, 4)).save(tmp_path / "p.jpg")
    with pytest.raises(UnsuitableImage, match="neither grey, RGB nor palette; convert it to RGB") as caught:
        open_image(tmp_path / "p.jpg")
    assert caught.value.code == "pixel_format_not_supported"


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ([[[1, 2, 65535], [300, 40000, 5]]], [[[1, 300]], [[2, 40000]], [[65535, 5]]]),
        ([[[1, 2, 300, 65535], [1, 2, 300, 0]]], [[[1, 65535]], [[2, 65535]], [[300, 65535]]]),
        ([[[300, 65535], [300, 0]]], [[[300, 65535]]]),
    ],
    ids=["colours", "colours and alpha", "grey and alpha"],
)
def test_16_bits_stay_16_bits(tmp_path, stored, shown):
    (tmp_path / "p.png").write_bytes(imagecodecs.png_encode(np.array(stored, np.uint16)))
    pixels = read_all(tmp_path / "p.png")
    assert (pixels.dtype, pixels.tolist()) == (np.uint16, shown)


def test_a_cut_png_of_16_bits_is_broken(tmp_path):
    content = imagecodecs.png_encode(np.arange(30000, dtype=np.uint16).reshape(100, 100, 3))
    (tmp_path / "p.png").write_bytes(content[: len(content) // 2])
    with open_image(tmp_path / "p.png") as source, pytest.raises(BrokenImage, match="can't be decoded") as caught:
        source.read((slice(0, 1), slice(0, 1)))
    assert caught.value.code == "picture_broken"


def test_an_open_picture_holds_what_it_decodes_to(picture):
    with open_image(picture[0]) as source:
        assert source.held_bytes == 20 * 30 * 3


def test_more_pixels_than_allowed_are_refused_by_the_header(picture):
    with pytest.raises(ImageTooLarge, match="600 pixels, at most 599 are allowed") as caught:
        open_image(picture[0], guards=Guards(isolated=False, max_pixels=599))
    assert (caught.value.code, caught.value.limit) == ("image_too_large", 599)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_cut_picture_is_broken(tmp_path, picture, share):
    content = picture[0].read_bytes()
    (tmp_path / "p.png").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BrokenImage, match="export the picture again") as caught, open_image(tmp_path / "p.png") as source:
        source.read((slice(0, 1), slice(0, 1)))
    assert caught.value.code == "picture_broken"


@pytest.mark.parametrize(
    "region",
    [
        (slice(0, 21), slice(0, 1)),
        (slice(0, 1),),
        (slice(3, 3), slice(0, 1)),
        (slice(0, 4, 2), slice(0, 1)),
        (slice(None),) * 2,
    ],
)
def test_a_region_that_does_not_lie_inside_is_a_mistake(picture, region):
    with open_image(picture[0]) as source, pytest.raises(ValueError, match="doesn't lie in the level's shape"):
        source.read(region)


@pytest.mark.parametrize("level", [-1, 1])
def test_a_level_that_does_not_exist_is_a_mistake(picture, level):
    with open_image(picture[0]) as source, pytest.raises(ValueError, match="has levels 0 to 0"):
        source.read((slice(0, 1), slice(0, 1)), level)


@pytest.mark.parametrize(("bits", "stretched"), [(2, 85), (4, 17)])
def test_grey_of_few_bits_is_stretched_but_not_for_labels(tmp_path, bits, stretched):
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    header = struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)
    row = bytes([0, (1 << (8 - bits)) | (2 << (8 - 2 * bits))])  # filter, then the pixels 1 and 2
    (tmp_path / "p.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    )
    assert read_all(tmp_path / "p.png", labels=True).tolist() == [[[1, 2]]]
    assert read_all(tmp_path / "p.png").tolist() == [[[stretched, 2 * stretched]]]
