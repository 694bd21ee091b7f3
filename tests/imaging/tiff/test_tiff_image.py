import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage
from imaging.guards import LOCAL, UPLOAD, Guards
from imaging.open import open_image
from imaging.tiff.check import check_tiff
from imaging.tiff.image import TiffSource
from imaging.tiff.levels import SegmentCache
from tests.corpus.tiff_bytes import PIXELS, page, tiff
from tests.phantom import draw_slide, write_pyramid_slide

RANDOM = np.random.default_rng(0)
LAYOUTS = {
    "grey": ((70, 90), np.uint8, {}),
    "grey16 deflate": ((70, 90), np.uint16, {"compression": "zlib"}),
    "float tiled": ((70, 90), np.float32, {"tile": (32, 32), "compression": "zlib"}),
    "big-endian tiled": ((70, 90), np.uint16, {"tile": (32, 16), "byteorder": ">"}),
    "rgb": ((70, 90, 3), np.uint8, {"photometric": "rgb"}),
    "rgb tiled": ((70, 90, 3), np.uint8, {"photometric": "rgb", "tile": (32, 16), "compression": "lzw"}),
    "rgb planar": ((3, 70, 90), np.uint8, {"photometric": "rgb", "planarconfig": "separate", "tile": (16, 16)}),
    "channels": ((5, 70, 90), np.uint16, {"photometric": "minisblack"}),
    "channels deflate": ((5, 70, 90), np.uint16, {"photometric": "minisblack", "compression": "zlib"}),
    "channels tiled": ((5, 70, 90), np.uint16, {"photometric": "minisblack", "tile": (32, 32)}),
    "channels ome": ((2, 70, 90), np.uint16, {"ome": True, "metadata": {"axes": "CYX"}, "photometric": "minisblack"}),
    "imagej": ((2, 70, 90), np.uint16, {"imagej": True, "metadata": {"axes": "CYX"}}),
    "strips": ((70, 90, 3), np.uint8, {"photometric": "rgb", "rowsperstrip": 16, "compression": "packbits"}),
    "signed": ((70, 90), np.int16, {"tile": (32, 32), "compression": "zlib", "predictor": 2}),
    "float predicted": ((70, 90), np.float32, {"tile": (32, 32), "compression": "zlib", "predictor": 3}),
    "bigtiff zstd": ((70, 90), np.uint16, {"bigtiff": True, "byteorder": ">", "tile": (32, 32), "compression": "zstd"}),
    "planar strips": ((3, 70, 90), np.uint16, {"photometric": "rgb", "planarconfig": "separate", "compression": "lzw"}),
    "jpeg 2000": ((70, 90, 3), np.uint8, {"photometric": "rgb", "tile": (32, 32), "compression": "jpeg2000"}),
}


def channels_first(array):
    if array.ndim == 2:
        return array[None]
    return np.moveaxis(array, -1, 0) if array.shape[-1] == 3 else array


def read_all(source, level=0):
    return source.read(tuple(slice(0, size) for size in source.levels[level].shape), level)


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request, tmp_path_factory):
    shape, dtype, options = LAYOUTS[request.param]
    array = RANDOM.integers(0, 250, shape).astype(dtype)
    path = tmp_path_factory.mktemp("tiff") / "image.tif"
    tifffile.imwrite(path, array, **options)
    return path, channels_first(array)


@given(data=st.data())
def test_a_region_is_a_slice_of_the_whole(data, layout):
    path, array = layout
    top, left = data.draw(st.integers(0, 69)), data.draw(st.integers(0, 89))
    bottom, right = data.draw(st.integers(top + 1, 70)), data.draw(st.integers(left + 1, 90))
    with TiffSource(check_tiff(path, 64)) as source:
        assert (source.shape, source.channels) == (array.shape[1:], array.shape[0])
        assert source.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(source.read((slice(top, bottom), slice(left, right))), array[:, top:bottom, left:right])


def test_blocks_make_up_the_whole(layout):
    path, array = layout
    with TiffSource(check_tiff(path, 64)) as source:
        np.testing.assert_array_equal(np.concatenate(list(source.blocks(size_bytes=4000)), axis=1), array)


def test_a_region_of_a_tiled_file_decodes_its_tiles_only(tmp_path):
    array = RANDOM.integers(0, 255, (512, 512)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "i.tif", array, tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(tmp_path / "i.tif") as tiff:
        offset, count = tiff.pages[0].dataoffsets[63], tiff.pages[0].databytecounts[63]
    content = bytearray((tmp_path / "i.tif").read_bytes())
    content[offset : offset + count] = b"\xff" * count
    (tmp_path / "i.tif").write_bytes(content)
    with open_image(tmp_path / "i.tif") as source:
        np.testing.assert_array_equal(source.read((slice(0, 448), slice(0, 512)))[0], array[:448])
        with pytest.raises(BrokenImage, match="a part of the TIFF can't be decoded") as caught:
            read_all(source)
        assert caught.value.code == "tile_unreadable"


@pytest.mark.parametrize(
    ("options", "spacing"),
    [
        ({"resolution": (20000, 40000), "resolutionunit": "CENTIMETER"}, (0.25, 0.5)),
        ({"resolution": (25400, 25400), "resolutionunit": "INCH"}, (1.0, 1.0)),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (10, 10), "resolutionunit": "CENTIMETER"}, None),
        ({"resolution": (20000, 40000), "resolutionunit": "NONE"}, None),
        ({}, None),
        ({"imagej": True, "resolution": (2, 4), "metadata": {"unit": "um"}}, (0.25, 0.5)),
        ({"imagej": True, "resolution": (2000, 4000), "metadata": {"unit": "mm"}}, (0.25, 0.5)),
        ({"imagej": True, "resolution": (2, 4)}, None),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}}, (0.25, 0.5)),
        (
            {"ome": True, "metadata": {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25}},
            (0.25, 0.5),
        ),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.5}}, None),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0, "PhysicalSizeY": 0}}, None),
    ],
)
def test_spacing_is_what_the_file_says_in_real_units(tmp_path, options, spacing):
    tifffile.imwrite(tmp_path / "i.tif", np.zeros((20, 30), np.uint8), **options)
    with open_image(tmp_path / "i.tif") as source:
        assert source.spacing_um == (spacing and pytest.approx(spacing))


def test_white_is_zero_is_turned_round_but_not_for_labels(tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", np.array([[0, 1]], np.uint8), photometric="miniswhite")
    with open_image(tmp_path / "i.tif") as image, open_image(tmp_path / "i.tif", labels=True) as reference:
        assert read_all(image).tolist() == [[[255, 254]]]
        assert read_all(reference).tolist() == [[[0, 1]]]


@pytest.mark.parametrize(
    ("kind", "expected"), [("unassalpha", [[[10, 255, 229]]]), ("assocalpha", [[[10, 255, 255]]]), ("unspecified", None)]
)
def test_alpha_lies_on_white_and_a_nameless_sample_is_a_channel(tmp_path, kind, expected):
    array = np.array([[[10, 20, 30, 255], [0, 0, 0, 0], [127, 0, 0, 51]]], np.uint8)
    tifffile.imwrite(tmp_path / "i.tif", array, photometric="rgb", extrasamples=[kind])
    with open_image(tmp_path / "i.tif") as source:
        pixels = read_all(source)
        assert source.channels == len(pixels) == (3 if expected else 4)
        assert pixels[:1].tolist() == (expected or [[[10, 0, 127]]])


@pytest.mark.parametrize(("scale", "dtype"), [(257, np.uint8), (256, np.uint8), (1, np.uint8), (257, np.uint16)])
def test_a_palette_is_its_colours_as_image_and_its_indices_as_labels(tmp_path, scale, dtype):
    colours = np.zeros((3, 2 ** (8 * np.dtype(dtype).itemsize)), np.uint16)
    colours[:, 2] = np.array([10, 20, 255]) * scale
    indices = np.array([[0, 2], [2, 0]], dtype)
    tifffile.imwrite(tmp_path / "i.tif", indices, photometric="palette", colormap=colours)
    with open_image(tmp_path / "i.tif", labels=True) as source:
        assert (source.channels, read_all(source).tolist()) == (1, [[[0, 2], [2, 0]]])
    with open_image(tmp_path / "i.tif") as source:
        assert (source.channels, source.dtype) == (3, np.uint8)
        assert read_all(source).tolist() == [[[0, 10], [10, 0]], [[0, 20], [20, 0]], [[0, 255], [255, 0]]]


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.uint64, np.int64])
def test_integers_of_32_and_64_bits_keep_their_type(tmp_path, dtype, labels):
    tifffile.imwrite(tmp_path / "i.tif", np.array([[0, 70000]], dtype))
    with open_image(tmp_path / "i.tif", labels=labels) as source:
        assert (source.dtype, read_all(source).tolist()) == (dtype, [[[0, 70000]]])


def test_integers_that_float32_can_not_hold_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", np.array([[0, 2**24 + 1]], np.int64))
    with open_image(tmp_path / "i.tif") as source, pytest.raises(UnsuitableImage, match="1 pixels hold integers") as caught:
        read_all(source)
    assert caught.value.code == "value_range"


def test_float64_becomes_float32(tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", np.array([[0.1, -7]]))
    with open_image(tmp_path / "i.tif") as source:
        assert source.dtype == np.float32
        assert read_all(source).tolist() == np.array([[[0.1, -7]]], np.float32).tolist()


def test_float64_beyond_float32_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", np.array([[1e300, 0]]))
    with open_image(tmp_path / "i.tif") as source, pytest.raises(UnsuitableImage, match="too large for float32") as caught:
        read_all(source)
    assert caught.value.code == "non_finite_pixels"


def test_an_orientation_tag_is_not_applied_with_a_remark(tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", np.array([[1, 2, 3]], np.uint8), extratags=[(274, 3, 1, 6, True)])
    with open_image(tmp_path / "i.tif") as source:
        assert read_all(source).tolist() == [[[1, 2, 3]]]
        assert source.warnings == ("orientation_ignored",)


@pytest.mark.parametrize(
    ("stored", "shown", "options"),
    [
        (np.array([[True, False, True]]), [[[255, 0, 255]]], {"photometric": "minisblack"}),
        (np.array([[True, False, True]]), [[[0, 255, 0]]], {"photometric": "miniswhite"}),
        (np.array([[-128, 0, 127]], np.int8), [[[-128, 0, 127]]], {}),
        (np.array([[-0.5, 0, 2048]], np.float16), [[[-0.5, 0, 2048]]], {}),
    ],
)
def test_narrow_pixels_are_widened_without_a_loss(tmp_path, stored, shown, options):
    tifffile.imwrite(tmp_path / "i.tif", stored, **options)
    with open_image(tmp_path / "i.tif") as image, open_image(tmp_path / "i.tif", labels=True) as reference:
        pixels = read_all(image)
        assert (pixels.dtype, pixels.tolist()) == (image.dtype, shown)
        assert read_all(reference).tolist() == stored[None].tolist()


@pytest.mark.parametrize(
    ("array", "options", "code"),
    [
        (np.zeros((20, 30, 4), np.uint8), {"photometric": "separated"}, "pixel_format_not_supported"),
        (np.zeros((5, 20, 30), np.uint8), {"metadata": None, "photometric": "minisblack"}, "dimension_not_supported"),
    ],
)
def test_other_pixels_and_nameless_stacks_are_refused(tmp_path, array, options, code):
    tifffile.imwrite(tmp_path / "i.tif", array, **options)
    with pytest.raises(UnsuitableImage) as caught:
        open_image(tmp_path / "i.tif")
    assert caught.value.code == code


@pytest.mark.parametrize("flag", [True, False], ids=["below", "pages"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_pyramids_levels_are_read_wherever_they_hang(tmp_path, flag, channels):
    whole = RANDOM.integers(0, 60000, (channels, 128, 96)).astype(np.uint16)
    options = {"tile": (16, 16), "compression": "zlib", "photometric": "minisblack"}
    with tifffile.TiffWriter(tmp_path / "i.tif", ome=flag) as tiff:
        tiff.write(whole, subifds=2 if flag else 0, metadata={"axes": "CYX"} if flag else {}, **options)
        for step in (2, 4):
            tiff.write(whole[:, ::step, ::step], subfiletype=1, **options)
    with open_image(tmp_path / "i.tif") as source:
        assert [level.shape for level in source.levels] == [(128, 96), (64, 48), (32, 24)]
        for level in range(3):
            np.testing.assert_array_equal(read_all(source, level), whole[:, :: 2**level, :: 2**level])


@pytest.mark.parametrize(("samples", "background"), [(3, 255), (1, 0)])
def test_a_tile_that_was_left_out_is_white_in_colour_and_dark_in_channels(tmp_path, samples, background):
    one = page(PIXELS[:, :, :samples])
    one.segments[3] = b""
    (tmp_path / "i.tif").write_bytes(tiff([one]))
    with open_image(tmp_path / "i.tif") as image, open_image(tmp_path / "i.tif", labels=True) as reference:
        assert (read_all(image)[:, 32:, 32:] == background).all()
        assert (read_all(reference)[:, 32:, 32:] == 0).all()
        np.testing.assert_array_equal(read_all(image)[:, :32], np.moveaxis(PIXELS[:32, :, :samples], -1, 0))


def test_what_is_held_is_bounded(tmp_path):
    tifffile.imwrite(tmp_path / "tiles.tif", np.zeros((64, 64), np.uint8), tile=(16, 16))
    tifffile.imwrite(tmp_path / "strip.tif", np.zeros((6000, 6000), np.uint8), rowsperstrip=6000, compression="zlib")
    with open_image(tmp_path / "tiles.tif") as tiles, open_image(tmp_path / "strip.tif") as strip:
        assert tiles.held_bytes == 32 * 2**20
        assert strip.held_bytes == 6000**2  # one strip at least


def test_the_cache_lets_go_of_what_was_read_longest_ago():
    cache, decoded = SegmentCache(limit_bytes=250), []

    def get(number):
        return cache.get((0, 0, number), lambda: decoded.append(number) or np.full(100, number, np.uint8))

    for number in (1, 2, 1, 3, 1, 2):
        assert get(number)[0] == number
    assert decoded == [1, 2, 3, 2]


@pytest.mark.parametrize("side", [2**15, 2**15 - 1])
def test_more_pixels_in_one_strip_than_are_decoded_at_once(tmp_path, side):
    path = tmp_path / "i.tif"
    tifffile.imwrite(path, np.zeros((1, side), np.uint8), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for tag in ("ImageLength", "RowsPerStrip"):
            tiff.pages[0].tags[tag].overwrite(2**14 + 1)
    if side * (2**14 + 1) > 2**29:
        with pytest.raises(ImageTooLarge, match="pixels in one strip, at most 536870912 are allowed; cut it"):
            open_image(path)
    else:
        with open_image(path) as source:
            assert source.shape == (2**14 + 1, side)


def test_pixels_that_are_not_numbers_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", np.array([[0, np.nan]], np.float32))
    with open_image(tmp_path / "i.tif") as source, pytest.raises(UnsuitableImage, match="NaN, infinite or too large") as caught:
        read_all(source)
    assert caught.value.code == "non_finite_pixels"


def test_more_pixels_than_allowed_are_refused_by_the_header(layout):
    with pytest.raises(ImageTooLarge, match="6300 pixels, at most 6299 are allowed") as caught:
        open_image(layout[0], guards=Guards(isolated=False, max_pixels=6299))
    assert (caught.value.code, caught.value.limit) == ("slide_too_large", 6299)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_cut_file_is_refused_and_never_a_level_short(tmp_path, share):
    image, _ = draw_slide((600, 700), 0)
    write_pyramid_slide(tmp_path / "whole.svs", image)
    content = (tmp_path / "whole.svs").read_bytes()
    (tmp_path / "cut.svs").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BrokenImage) as caught:
        open_image(tmp_path / "cut.svs")
    assert caught.value.code in ("tiff_broken", "tiff_truncated")
    assert str(tmp_path) not in caught.value.message


def test_absurd_tiles_never_reach_openslide(tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", np.zeros((64, 64, 3), np.uint8), tile=(64, 64), photometric="rgb")
    with tifffile.TiffFile(tmp_path / "i.tif", mode="r+") as tiff:
        tiff.pages[0].tags["TileWidth"].overwrite(1490000000, dtype="I")
    with pytest.raises(BrokenImage, match="save it with tiles of 512") as caught:
        open_image(tmp_path / "i.tif")
    assert caught.value.code == "tiff_bad_tiles"


def test_a_resolution_unit_that_is_none_is_broken(tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", np.zeros((4, 4), np.uint8), resolution=(9, 9), resolutionunit="INCH")
    with tifffile.TiffFile(tmp_path / "i.tif", mode="r+") as tiff:
        tiff.pages[0].tags["ResolutionUnit"].overwrite(b"?", dtype="s")
    with pytest.raises(BrokenImage, match="structure can't be read") as caught:
        open_image(tmp_path / "i.tif")
    assert caught.value.code == "tiff_broken"


@given(st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=20))
def test_changed_bytes_never_raise_anything_else(mutable, changes):
    path, content = mutable
    changed = bytearray(content)
    for place, value in changes:
        changed[place % 600 if place % 2 else place % len(content)] = value
    path.write_bytes(changed)
    try:
        with TiffSource(check_tiff(path, 64), max_pixels=10**6) as source:
            read_all(source)
    except DataError:
        pass


@pytest.fixture(scope="module")
def mutable(tmp_path_factory):
    path = tmp_path_factory.mktemp("mutable") / "i.tif"
    tifffile.imwrite(path, RANDOM.integers(0, 9, (60, 70)).astype(np.uint8), tile=(32, 32), compression="zlib")
    return path, path.read_bytes()


STACK = RANDOM.integers(0, 255, (5, 20, 30)).astype(np.uint8)


def pillow_pages(path, stack):
    pages = [Image.fromarray(page) for page in stack]
    pages[0].save(path, save_all=True, append_images=pages[1:])


def plain_array(path, stack):
    tifffile.imwrite(path, stack)


def compressed_array(path, stack):
    tifffile.imwrite(path, stack, compression="zlib")


@pytest.mark.parametrize("guards", [LOCAL, UPLOAD])
@pytest.mark.parametrize("write", [pillow_pages, plain_array, compressed_array])
def test_a_nameless_axis_is_depth_where_a_volume_is_needed(tmp_path, write, guards):
    write(tmp_path / "i.tif", STACK)
    with open_image(tmp_path / "i.tif", dimensions=3, guards=guards) as source:
        assert (source.channels, source.shape) == (1, STACK.shape)
        np.testing.assert_array_equal(read_all(source)[0], STACK)


@pytest.mark.parametrize("planes", [3, 4])
def test_three_or_four_plain_planes_are_slices_where_a_volume_is_needed(tmp_path, planes):
    tifffile.imwrite(tmp_path / "i.tif", STACK[:planes], photometric="rgb", planarconfig="separate")  # tifffile's default
    with open_image(tmp_path / "i.tif", dimensions=3) as source:
        np.testing.assert_array_equal(read_all(source)[0], STACK[:planes])
    with open_image(tmp_path / "i.tif", dimensions=2) as source:
        assert source.shape == (20, 30)


@pytest.mark.parametrize("write", [pillow_pages, plain_array, compressed_array])
def test_axes_that_are_given_are_taken(tmp_path, write):
    write(tmp_path / "i.tif", STACK)
    with open_image(tmp_path / "i.tif", axes="ZYX") as source:
        assert (source.channels, source.shape) == (1, STACK.shape)
        np.testing.assert_array_equal(read_all(source)[0], STACK)
    with open_image(tmp_path / "i.tif", axes="CYX", dimensions=3) as source:
        assert (source.channels, source.shape) == (5, (20, 30))
        np.testing.assert_array_equal(read_all(source), STACK)


def test_two_nameless_axes_need_names(tmp_path):
    stack = RANDOM.integers(0, 255, (2, 5, 20, 30)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "i.tif", stack)
    with pytest.raises(UnsuitableImage):
        open_image(tmp_path / "i.tif", dimensions=3)
    with open_image(tmp_path / "i.tif", axes="CZYX") as source:
        np.testing.assert_array_equal(read_all(source), stack)
    with open_image(tmp_path / "i.tif", axes="ZCYX") as source:
        np.testing.assert_array_equal(read_all(source), stack.swapaxes(0, 1))


@pytest.mark.parametrize("axes", ["YX", "CZYX", "ZXY", "YXZ", "ZZX", "TYX", "zyx", ""])
def test_axes_that_do_not_fit_are_refused(tmp_path, axes):
    tifffile.imwrite(tmp_path / "i.tif", STACK)
    if axes == "":  # as if none were given
        with open_image(tmp_path / "i.tif", axes=axes) as source:
            assert source.channels == 5
        return
    with pytest.raises(UnsuitableImage, match=r"give a letter of Z, C, Y and X for each axis longer than 1.*: \?YX") as caught:
        open_image(tmp_path / "i.tif", axes=axes)
    assert caught.value.code == "axes_invalid"


def test_named_axes_stay_where_a_volume_is_needed(tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", STACK, imagej=True, metadata={"axes": "ZYX"})
    with open_image(tmp_path / "i.tif", dimensions=3) as source:
        assert source.shape == STACK.shape


def test_the_message_about_nameless_pages_says_how_to_name_them(tmp_path):
    pillow_pages(tmp_path / "i.tif", STACK)
    with pytest.raises(UnsuitableImage, match="with --axes ZYX or a column axes"):
        open_image(tmp_path / "i.tif", dimensions=2)


@pytest.mark.parametrize("bits", [2, 4, 10, 12])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_packed_integers_are_read(tmp_path, bits, photometric):
    stored = np.random.default_rng(bits).integers(0, 2**bits, (5, 7)).astype(np.uint8 if bits <= 8 else np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stored, bitspersample=bits, photometric=photometric)
    expected = stored if photometric == "minisblack" else 2**bits - 1 - stored
    with open_image(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(source.read((slice(0, 5), slice(0, 7)))[0], expected)
    with open_image(tmp_path / "a.tif", labels=True) as source:
        np.testing.assert_array_equal(source.read((slice(0, 5), slice(0, 7)))[0], stored)


def test_a_palette_of_4_bits_is_read_and_one_with_too_few_colours_refused(tmp_path):
    indices = np.random.default_rng(0).integers(0, 16, (6, 8)).astype(np.uint8)
    colours = np.random.default_rng(1).integers(0, 2**16, (3, 16)).astype(np.uint16)
    tags = {"t_258": ("H", [4]), "t_262": ("H", [3])}
    packed = indices[:, ::2] * 16 + indices[:, 1::2]
    for count, is_read in ((16, True), (10, False)):
        one = page(packed, tile=None, compression=1, **tags, t_256=("I", [8]), t_320=("H", colours[:, :count].ravel().tolist()))
        (tmp_path / "a.tif").write_bytes(tiff([one]))
        if is_read:
            with open_image(tmp_path / "a.tif") as source:
                np.testing.assert_array_equal(source.read((slice(0, 6), slice(0, 8))), (colours >> 8)[:, indices])
            continue
        with pytest.raises(UnsuitableImage) as caught:
            open_image(tmp_path / "a.tif")
        assert caught.value.code == "pixel_format_not_supported"


def test_an_undefined_sample_format_is_unsigned_and_tags_of_unknown_types_are_skipped(tmp_path):
    stored = PIXELS[..., 0].astype("<u2") * 300
    one = page(stored, t_339=("H", [4]), t_305=("s", b"program\0"))
    one.entries[305] = (99, 8, 0)
    (tmp_path / "a.tif").write_bytes(tiff([one]))
    with open_image(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(source.read((slice(0, 64), slice(0, 64)))[0], stored)
