"""Slides of the scanners' makers, as far as files like theirs can be written here: Aperio, Hamamatsu, Philips, Ventana."""

from io import BytesIO

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imaging.errors import BrokenImage, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import UPLOAD, Guards
from imaging.open import open_image
from imaging.slides import SlideSource
from imaging.tiff.check import check_tiff
from imaging.tiff.image import TiffSource
from tests.corpus.tiff_bytes import JPEG, PIXELS, YCBCR, Page, page, tiff
from tests.phantom import draw_slide, write_pyramid_slide

STORED = np.moveaxis(PIXELS, -1, 0)  # (3, 64, 64)
PHILIPS = """<?xml version="1.0"?><DataObject ObjectType="DPUfsImport"><Attribute Name="PIM_DP_SCANNED_IMAGES"><Array>
<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE">WSI</Attribute>
<Attribute Name="DICOM_PIXEL_SPACING">"0.000250" "0.000500"</Attribute>
<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>
<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING">"0.00025" "0.0005"</Attribute>
</DataObject>
<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING">"0.0005" "0.001"</Attribute></DataObject>
</Array></Attribute></DataObject></Array></Attribute></DataObject>"""
VENTANA_SCAN = '<iScan Magnification="20" ScanRes="0.465"/>'
VENTANA_TILES = """<EncodeInfo><SlideStitchInfo>
<ImageInfo AOIScanned="1" Width="32" Height="32" NumCols="2" NumRows="2" Pos-X="{x}" Pos-Y="0">
<TileJointInfo Direction="RIGHT" Tile1="1" Tile2="2" OverlapX="0" OverlapY="0" Confidence="100"/>
<TileJointInfo Direction="UP" Tile1="1" Tile2="4" OverlapX="0" OverlapY="0" Confidence="100"/>
</ImageInfo></SlideStitchInfo><AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>"""

_SETTINGS = """<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>
<illuminationSettings><illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings>"""
LEICA = f"""<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
<collection sizeX="96000" sizeY="64000">
<image><pixels sizeX="48" sizeY="32"><dimension sizeX="48" sizeY="32" r="0" ifd="0"/></pixels>
<view sizeX="96000" sizeY="64000" offsetX="0" offsetY="0"/>{_SETTINGS}</image>
<image><pixels sizeX="64" sizeY="64"><dimension sizeX="64" sizeY="64" r="0" ifd="1"/>
<dimension sizeX="32" sizeY="32" r="1" ifd="2"/></pixels>
<view sizeX="32000" sizeY="32000" offsetX="16000" offsetY="8000"/>{_SETTINGS}</image>
</collection></scn>"""


def read_all(source, level=0):
    return source.read(tuple(slice(0, size) for size in source.levels[level].shape), level)


def text(words):
    return "s", words.encode() + b"\0"


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    image, _ = draw_slide((600, 800), 1)
    path = tmp_path_factory.mktemp("slide") / "slide.svs"
    write_pyramid_slide(path, image, 0.25)
    return path, image


@given(data=st.data())
def test_a_region_of_a_slide_is_a_slice_of_its_level(data, slide):
    path, image = slide
    level = data.draw(st.integers(0, 2))
    whole = image[:, :: 2**level, :: 2**level]
    top, left = data.draw(st.integers(0, whole.shape[1] - 1)), data.draw(st.integers(0, whole.shape[2] - 1))
    bottom, right = data.draw(st.integers(top + 1, whole.shape[1])), data.draw(st.integers(left + 1, whole.shape[2]))
    with open_image(path) as source:
        assert isinstance(source, SlideSource)
        pixels = source.read((slice(top, bottom), slice(left, right)), level)
    np.testing.assert_array_equal(pixels, whole[:, top:bottom, left:right])


def test_a_slides_levels_and_spacing(slide):
    with open_image(slide[0]) as source:
        assert [level.shape for level in source.levels] == [(600, 800), (300, 400), (150, 200)]
        assert [level.spacing_um for level in source.levels] == [(0.25, 0.25), (0.5, 0.5), (1.0, 1.0)]
        assert (source.channels, source.dtype, source.mask_format) == (3, np.uint8, "tiff")
        assert (source.geometry.origin_px, source.held_bytes) == (None, 32 * 2**20)
    assert openslide.OpenSlide.detect_format(slide[0]) == "aperio"


def test_openslide_and_tifffile_read_the_same(slide):
    tiff = check_tiff(slide[0], 64)
    with SlideSource(tiff) as one, TiffSource(tiff) as other:
        assert [level.shape for level in one.levels] == [level.shape for level in other.levels]
        for level in range(3):
            np.testing.assert_array_equal(read_all(one, level), read_all(other, level))


def test_labels_never_go_through_openslide(slide):
    with open_image(slide[0], labels=True) as source:
        assert isinstance(source, TiffSource)


def test_a_slide_too_large_is_refused(slide):
    with pytest.raises(ImageTooLarge, match="480000 pixels, at most 10 are allowed") as caught:
        open_image(slide[0], guards=Guards(isolated=False, max_pixels=10))
    assert (caught.value.code, caught.value.limit) == ("slide_too_large", 10)


def test_a_tile_that_openslide_cannot_decode_leaves_the_rest_readable(tmp_path, slide):
    path, image = tmp_path / "bad.svs", slide[1]
    content = bytearray(slide[0].read_bytes())
    with tifffile.TiffFile(slide[0]) as tiff:
        offset, count = tiff.pages[0].dataoffsets[-1], tiff.pages[0].databytecounts[-1]
    content[offset : offset + count] = b"\xff" * count
    path.write_bytes(content)
    for guards in (Guards(isolated=False), UPLOAD):
        with open_image(path, guards=guards) as source:
            with pytest.raises(BrokenImage, match="a part of the slide") as caught:
                read_all(source)
            assert caught.value.code == "tile_unreadable"
            np.testing.assert_array_equal(source.read((slice(0, 256), slice(0, 256))), image[:, :256, :256])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiled_tiff_of_no_maker_is_read_by_tifffile(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "i.tif", np.zeros((64, 64, 3), dtype), tile=(16, 16))
    with open_image(tmp_path / "i.tif") as source:
        assert isinstance(source, TiffSource)
    with pytest.raises((UnsupportedFormat, UnsuitableImage)):
        SlideSource(check_tiff(tmp_path / "i.tif", 64))


def test_pixels_that_openslide_would_cut_are_refused(tmp_path):
    words = "Aperio Image Library v12\n64x64 (16x16)|MPP = 0.25"
    (tmp_path / "i.svs").write_bytes(tiff([page(PIXELS.astype("<u2"), t_270=text(words))]))
    with pytest.raises(
        UnsuitableImage, match="aren't RGB of 8 bits, the only type that is supported for slides of its maker"
    ) as caught:
        open_image(tmp_path / "i.svs")
    assert caught.value.code == "pixel_format_not_supported"


def test_a_broken_description_makes_a_broken_slide(tmp_path):
    (tmp_path / "i.tiff").write_bytes(tiff([page(t_305=text("Philips DP"), t_270=text(PHILIPS.replace("WSI", "?")))]))
    with pytest.raises(BrokenImage, match="the slide's structure can't be read") as caught:
        open_image(tmp_path / "i.tiff")
    assert caught.value.code == "slide_broken"


def test_philips(tmp_path):
    words = {"t_305": text("Philips DP v1.0"), "t_270": text(PHILIPS)}
    pages = [page(**words), page(PIXELS[::2, ::2], tile=16, t_254=("I", [1]))]
    (tmp_path / "i.tiff").write_bytes(tiff(pages))
    with open_image(tmp_path / "i.tiff") as source:
        assert isinstance(source, SlideSource)
        assert [level.shape for level in source.levels] == [(64, 64), (32, 32)]
        assert source.spacing_um == pytest.approx((0.25, 0.5))
        np.testing.assert_array_equal(read_all(source), STORED)
        np.testing.assert_array_equal(read_all(source, 1), STORED[:, ::2, ::2])


@pytest.mark.parametrize("x", [0, 32])
def test_ventana(tmp_path, x):
    words = {"t_270": text("level=0 mag=20 quality=95"), "t_700": ("B", VENTANA_TILES.format(x=x).encode() + b"\0")}
    label = page(PIXELS[:16], tile=None, t_270=text("Label Image"), t_700=("B", VENTANA_SCAN.encode() + b"\0"))
    (tmp_path / "i.bif").write_bytes(tiff([label, page(**words)]))
    with open_image(tmp_path / "i.bif") as source:
        assert isinstance(source, SlideSource)
        assert source.shape == (64, 64 + x)
        assert source.geometry.origin_px is None  # OpenSlide says none
        assert source.spacing_um == pytest.approx((0.465, 0.465))
        np.testing.assert_array_equal(read_all(source)[:, :, x:], STORED)
        assert (read_all(source)[:, :, :x] == 255).all()


def test_leica_and_where_its_scanned_part_begins(tmp_path):
    resolution = {"t_282": ("r", [20000, 1]), "t_283": ("r", [20000, 1]), "t_296": ("H", [3])}  # a centimetre
    overview = page(PIXELS[:32, :48], tile=16, t_270=text(LEICA))
    levels = [page(PIXELS, **resolution), page(PIXELS[::2, ::2], tile=16, t_254=("I", [1]))]
    (tmp_path / "i.scn").write_bytes(tiff([overview, *levels], big=True))
    with open_image(tmp_path / "i.scn") as source:
        assert isinstance(source, SlideSource)
        assert [level.shape for level in source.levels] == [(128, 192), (64, 96)]
        assert source.geometry.origin_px == (16, 32)
        assert source.spacing_um == pytest.approx((0.5, 0.5))
        pixels = read_all(source)
        np.testing.assert_array_equal(pixels[:, 16:80, 32:96], STORED)
        assert (pixels[:, :16] == 255).all()
        np.testing.assert_array_equal(read_all(source, 1)[:, 8:40, 16:48], STORED[:, ::2, ::2])


def ndpi_page(pixels, lens):
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=100, subsampling=0, restart_marker_blocks=2)
    tags = page(pixels, tile=None, compression=JPEG, t_262=("H", [YCBCR]), t_271=text("Hamamatsu")).tags
    return Page(tags | {65420: ("I", [1]), 65421: ("f", [lens]), 65424: ("i", [0])}, [stream.getvalue()])


def test_hamamatsu(tmp_path):
    content = tiff([ndpi_page(PIXELS, 20.0), ndpi_page(PIXELS[::2, ::2], 10.0)], ndpi=True)
    (tmp_path / "i.ndpi").write_bytes(content)
    (tmp_path / "upload").write_bytes(content)
    for name in ("i.ndpi", "upload"):
        with open_image(tmp_path / name) as source:
            assert isinstance(source, SlideSource)
            shapes = [level.shape for level in source.levels]
            assert shapes == [(64 // 2**level,) * 2 for level in range(len(shapes))]  # OpenSlide adds what JPEG can halve
            assert np.abs(read_all(source).astype(int) - STORED).max() < 12
    (tmp_path / "cut").write_bytes(content[:-100])
    with pytest.raises(BrokenImage, match="points to data beyond its end"):
        open_image(tmp_path / "cut")
