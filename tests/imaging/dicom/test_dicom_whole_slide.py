import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, RLELossless, generate_uid

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import Guards
from imaging.open import open_image
from tests.imaging.dicom_objects import PATIENT, item, write_slide_level
from tests.phantom import draw_slide

SHAPE = (70, 100)
PIXELS = np.moveaxis(draw_slide(SHAPE, 0)[0], 0, -1)  # (H, W, 3)


def packed_as(kind, **options):
    def pack(tile):
        buffer = io.BytesIO()
        Image.fromarray(tile).save(buffer, kind, **options)
        return buffer.getvalue()

    return pack


def slide(folder, *, levels=2, edit=None, **options):
    """The folder of a slide whose levels halve each other; `edit` changes what is said of the second."""
    series = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    folder.mkdir(exist_ok=True)
    for level in range(levels):
        step = 2**level
        path = folder / f"{levels - level}.dcm"
        write_slide_level(path, PIXELS[::step, ::step], spacing_mm=0.0005 * step, series=series, **options)
    if edit is not None:
        dataset = dcmread(path)
        edit(dataset)
        dataset.save_as(path)
    return folder


def with_syntax(syntax, interpretation, pack):
    return {"packed": pack, "syntax": syntax, "PhotometricInterpretation": interpretation}


JPEG = with_syntax(JPEGBaseline8Bit, "YBR_FULL_422", packed_as("jpeg", quality=95, subsampling="4:2:2"))
JPEG_2000 = with_syntax(JPEG2000Lossless, "YBR_RCT", packed_as("jpeg2000", irreversible=False, mct=1, no_jp2=True))


@pytest.mark.parametrize(("stored", "off"), [({}, 0), (JPEG_2000, 0), (JPEG, 25)])
def test_a_slide_is_read_level_by_level(tmp_path, stored, off):
    with open_image(slide(tmp_path / "slide", **stored)) as source:
        assert [level.shape for level in source.levels] == [(70, 100), (35, 50)]
        assert source.levels[0].spacing_um == pytest.approx((0.5, 0.5))
        assert source.levels[1].spacing_um == pytest.approx((1.0, 1.0))
        assert (source.channels, source.dtype, source.mask_format) == (3, np.uint8, "tiff")
        assert source.held_bytes == 64 * 2**20
        for level, step in enumerate((1, 2)):
            height, width = source.levels[level].shape
            found = source.read((slice(0, height), slice(0, width)), level)
            expected = np.moveaxis(PIXELS[::step, ::step], -1, 0).astype(int)
            assert found.shape == (3, height, width)
            assert np.abs(found.astype(int) - expected).mean() <= off / 5
            assert np.abs(np.median(found.astype(int) - expected, axis=(1, 2))).max() <= off / 10  # RGB in this order


@given(data=st.data())
def test_a_region_is_a_slice_of_the_whole(data, slide_path):
    with open_image(slide_path) as source:
        level = data.draw(st.integers(0, 1))
        starts = [data.draw(st.integers(0, size - 1)) for size in source.levels[level].shape]
        pairs = zip(starts, source.levels[level].shape, strict=True)
        region = tuple(slice(start, data.draw(st.integers(start + 1, size))) for start, size in pairs)
        expected = np.moveaxis(PIXELS[:: 2**level, :: 2**level], -1, 0)[(slice(None), *region)]
        np.testing.assert_array_equal(source.read(region, level), expected)


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory):
    return slide(tmp_path_factory.mktemp("slides") / "slide")


def test_levels_may_have_tiles_of_different_sizes(tmp_path):
    series = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    write_slide_level(tmp_path / "a", PIXELS, spacing_mm=0.0005, series=series, tile=32)
    write_slide_level(tmp_path / "b", PIXELS[::4, ::4], spacing_mm=0.002, series=series, tile=16)
    with open_image(tmp_path) as source:
        assert [level.shape for level in source.levels] == [(70, 100), (18, 25)]
        np.testing.assert_array_equal(source.read((slice(0, 18), slice(0, 25)), 1)[0], PIXELS[::4, ::4, 0])


def test_a_file_of_a_slide_is_one_level(tmp_path):
    with open_image(slide(tmp_path / "slide") / "1.dcm") as source:
        assert source.shape == (35, 50)
        assert len(source.levels) == 1


def test_label_and_overview_are_left_out(tmp_path):
    """What is written on the glass may name the patient."""

    def edit(dataset):
        dataset.ImageType = ["DERIVED", "PRIMARY", "LABEL", "NONE"]
        del dataset.PixelData  # nobody looks for it

    with open_image(slide(tmp_path / "slide", edit=edit)) as source:
        assert [level.shape for level in source.levels] == [(70, 100)]


def everywhere(**elements):
    def edit(dataset):
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)

    return edit


def retyped(keyword, vr, value):
    def edit(dataset):
        dataset.add_new(keyword, vr, value)

    return edit


def second_path(dataset):
    dataset.OpticalPathSequence.append(item(OpticalPathIdentifier="2"))
    dataset.NumberOfOpticalPaths = 2
    dataset.PixelData = dataset.PixelData * 2
    dataset.NumberOfFrames *= 2


FAULTS = [
    (everywhere(SamplesPerPixel=1), UnsuitableImage, "pixel_format_not_supported"),
    (everywhere(BitsAllocated=16), UnsuitableImage, "pixel_format_not_supported"),
    (everywhere(PhotometricInterpretation="PALETTE COLOR"), UnsuitableImage, "pixel_format_not_supported"),
    (everywhere(PhotometricInterpretation="YBR_FULL_422"), UnsuitableImage, "pixel_format_not_supported"),
    (everywhere(ImageType=["DERIVED"]), BrokenImage, "dicom_broken"),
    (everywhere(TotalPixelMatrixRows=0), BrokenImage, "dicom_broken"),
    (everywhere(TotalPixelMatrixRows=10**6, TotalPixelMatrixColumns=10**6), ImageTooLarge, "image_too_large"),
    (everywhere(Rows=16000, Columns=16000), BrokenImage, "dicom_broken"),
    (everywhere(NumberOfFrames=10**6), BrokenImage, "dicom_broken"),
    (everywhere(StudyInstanceUID="1.2.3"), BrokenImage, "dicom_broken"),  # wsidicom leaves such a level out
    (retyped(0x00280010, "UL", 2**31), BrokenImage, "dicom_broken"),
    (retyped(0x00480006, "US", 50), BrokenImage, "dicom_broken"),
    (second_path, UnsuitableImage, "dimension_not_supported"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "kind", "code"), FAULTS)
def test_a_slide_that_can_not_be_read_is_refused(tmp_path, edit, kind, code, caplog):
    folder = slide(tmp_path / "slide", edit=edit)
    with pytest.raises(kind) as caught:
        open_image(folder)
    assert caught.value.code == code
    assert PATIENT not in caught.value.message
    assert caplog.text == ""


def test_a_slide_without_a_level_is_refused(tmp_path):
    folder = slide(tmp_path / "slide", levels=1, edit=everywhere(ImageType=["DERIVED", "PRIMARY", "LABEL", "NONE"]))
    with pytest.raises(UnsupportedFormat, match="hold only a slide's label or overview") as caught:
        open_image(folder)
    assert caught.value.code == "dicom_kind_not_supported"


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, RLELossless])
def test_other_compressions_are_refused(tmp_path, syntax):
    with pytest.raises(UnsupportedFormat) as caught:
        open_image(slide(tmp_path / "slide", packed=lambda tile: b"\xff\xd8\xff\xd9", syntax=syntax))
    assert caught.value.code == "dicom_compression_not_supported"


def test_the_limit_is_told(tmp_path):
    with pytest.raises(ImageTooLarge, match="has 7000 pixels, at most 6999 are allowed; cut out the part") as caught:
        open_image(slide(tmp_path / "slide"), guards=Guards(isolated=False, max_pixels=6999))
    assert caught.value.limit == 6999


def test_a_tile_that_can_not_be_decoded_leaves_the_others(tmp_path):
    path = slide(tmp_path / "slide", levels=1, **JPEG) / "1.dcm"
    content = path.read_bytes()
    start = content.rindex(b"\xff\xd8\xff")  # the last tile
    path.write_bytes(content[:start] + b"\0" * 200 + content[start + 200 :])
    with open_image(path) as source:
        with pytest.raises(BrokenImage, match="a part of the slide can't be decoded") as caught:
            source.read((slice(60, 70), slice(90, 100)))
        assert caught.value.code == "tile_unreadable"
        assert source.read((slice(0, 10), slice(0, 10))).shape == (3, 10, 10)


@pytest.mark.parametrize("shape", [(16, 17), (15, 16), (2000, 2000)])
def test_a_tile_of_another_size_than_declared_is_not_decoded(tmp_path, shape):
    packed = packed_as("jpeg")(np.zeros((*shape, 3), np.uint8))
    stored = {**JPEG, "packed": lambda tile: packed}
    with open_image(slide(tmp_path / "slide", levels=1, **stored)) as source, pytest.raises(BrokenImage) as caught:
        source.read((slice(0, 10), slice(0, 10)))
    assert caught.value.code == "tile_unreadable"


@pytest.mark.parametrize("size", [140, 400, 1000, 3000])
def test_a_cut_slide_is_broken(tmp_path, size):
    path = slide(tmp_path / "slide", levels=1, **JPEG) / "1.dcm"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError), open_image(path) as source:
        source.read((slice(0, 70), slice(0, 100)))


@given(data=st.data())
def test_no_damage_brings_down_the_reader(data, damaged_path):
    path, content = damaged_path
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged[: data.draw(st.integers(132, len(content)))])
    with contextlib.suppress(DataError), open_image(path) as source:
        source.read(tuple(slice(0, min(size, 200)) for size in source.shape))


@pytest.fixture(scope="module", params=["raw", "jpeg"])
def damaged_path(request, tmp_path_factory):
    path = slide(tmp_path_factory.mktemp("damaged"), levels=1, **(JPEG if request.param == "jpeg" else {})) / "1.dcm"
    return path, path.read_bytes()


def test_a_header_without_a_sound_orientation_is_broken(tmp_path):
    def edit(dataset):
        dataset.ImageOrientationSlide = None

    with pytest.raises(BrokenImage), open_image(slide(tmp_path / "slide", edit=edit)) as source:
        source.read((slice(0, 1), slice(0, 1)))


def test_a_frame_with_a_length_that_can_not_be_is_broken(tmp_path):
    path = slide(tmp_path / "slide", levels=1, **JPEG) / "1.dcm"
    content = path.read_bytes()
    table = content.index(b"\xe0\x7f\x10\x00OB") + 20  # where each frame begins
    path.write_bytes(content[: table + 4] + b"\xff\xff\xff\x7f" + content[table + 8 :])
    with pytest.raises(BrokenImage) as caught, open_image(path) as source:
        source.read((slice(0, 70), slice(0, 100)))
    assert caught.value.code in ("dicom_broken", "tile_unreadable")
