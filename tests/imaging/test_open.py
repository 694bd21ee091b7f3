import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from imaging.errors import BrokenImage, DataError, UnsupportedFormat
from imaging.nifti.volume import NiftiSource
from imaging.open import open_image
from imaging.png_jpeg import PictureSource
from imaging.slides import SlideSource
from imaging.tiff.check import check_tiff
from imaging.tiff.image import TiffSource


def write_png(path):
    Image.new("L", (4, 3)).save(path, format="png")


def write_jpeg(path):
    Image.new("L", (4, 3)).save(path, format="jpeg")


def write_tiff(path):
    with path.open("wb") as file:
        tifffile.imwrite(file, np.zeros((3, 4), np.uint8))


def write_nifti(path):
    with path.open("wb") as file:
        nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4)).to_stream(file)


@pytest.mark.parametrize("name", ["a.png", "a.nii.gz", "a.svs", "a"])
@pytest.mark.parametrize(
    ("write", "kind", "mask_format"),
    [
        (write_png, PictureSource, "png"),
        (write_jpeg, PictureSource, "png"),
        (write_tiff, TiffSource, "tiff"),
        (write_nifti, NiftiSource, "nifti"),
    ],
)
def test_content_decides_and_never_the_name(tmp_path, name, write, kind, mask_format):
    write(tmp_path / name)
    with open_image(tmp_path / name) as source:
        assert type(source) is kind
        assert source.mask_format == mask_format


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="the file doesn't exist; check the path") as caught:
        open_image(tmp_path / "missing")
    assert caught.value.code == "file_missing"


def test_an_empty_file(tmp_path):
    (tmp_path / "a.nii").touch()
    with pytest.raises(BrokenImage, match="the file is empty") as caught:
        open_image(tmp_path / "a.nii")
    assert caught.value.code == "empty_file"


@pytest.mark.parametrize("content", [b"x", b"%PDF-1.7 ...", b"PK\3\4" + b"\0" * 500, b"<svg/>", b"GIF89a" + b"\0" * 99])
@pytest.mark.parametrize("name", ["a.svs", "a.nii.gz", "a.png"])
def test_other_formats_are_told_what_is_read(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnsupportedFormat, match="PNG, JPEG, TIFF, slides that OpenSlide reads, NIfTI") as caught:
        open_image(tmp_path / name)
    assert caught.value.code == "unsupported_format"


@pytest.mark.parametrize("magic", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"\x1f\x8b"])
def test_a_magic_without_a_file_is_broken(tmp_path, magic):
    (tmp_path / "a").write_bytes(magic + b"\xff" * 100)
    with pytest.raises(BrokenImage) as caught:
        open_image(tmp_path / "a")
    assert caught.value.code in ("picture_broken", "tiff_bad_ifd", "tiff_truncated", "gzip_corrupt")
    assert caught.value.__cause__ is not None or caught.value.code.startswith("tiff")


def test_a_slide_of_a_maker_that_is_not_read_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 16, 3), np.uint8), tile=(16, 16), photometric="rgb")
    with pytest.raises(UnsupportedFormat, match="allowed are aperio, hamamatsu, leica, philips, ventana") as caught:
        SlideSource(check_tiff(tmp_path / "a.tif", 1))
    assert caught.value.code == "slide_vendor_not_supported"
