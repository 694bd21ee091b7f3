"""Opening of images: the reader is chosen by the file's content, never by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imaging.dicom.header import is_dicom
from imaging.dicom.volume import open_dicom
from imaging.errors import BrokenImage, DataError, UnsupportedFormat
from imaging.guards import LOCAL, Guards
from imaging.isolation.isolated_source import IsolatedSource
from imaging.nifti.header import head_of, is_nifti
from imaging.nifti.volume import NiftiSource
from imaging.nrrd.header import is_nrrd
from imaging.nrrd.volume import NrrdSource
from imaging.ome_zarr.image import OmeZarrSource, is_zarr
from imaging.png_jpeg import PNG_MAGIC, PictureSource
from imaging.slides import GENERIC, MIRAX, MIRAX_SUFFIX, SlideSource, vendor_of
from imaging.source import ImageSource
from imaging.tiff.check import check_tiff
from imaging.tiff.directories import TIFF_MAGICS
from imaging.tiff.image import TiffSource

FORMATS = "PNG, JPEG, TIFF, slides that OpenSlide reads, NIfTI, NRRD, DICOM, OME-Zarr"

_DOUBLE_SUFFIXES = (".nii", ".ome")  # before .gz, .tif and .zarr
_JPEG_MAGIC = b"\xff\xd8\xff"


@dataclass(frozen=True)
class _Reader:
    """Reader of a format.

    Args:
        matches: returns True for the first bytes, decompressed, of a file of this format.
        open: returns the source for a path, guards, and whether labels are read.
    """

    matches: Callable[[bytes], bool]
    open: Callable[[Path, Guards, bool], ImageSource]


def open_image(
    path: Path, *, guards: Guards = LOCAL, labels: bool = False, spacing_um: tuple[float, ...] | None = None
) -> ImageSource:
    """Open an image; the result is a context manager.

    Args:
        path: a file of any name, or the folder of an OME-Zarr image or of one DICOM series.
        guards: how far the file is trusted. The readers' own limits are 2**29 pixels for images held in memory, 10**11 for
            slides and tiled TIFF.
        labels: the file is a reference: values are read as they are stored, such as a palette's indices.
        spacing_um: distance between pixels that the user gives, in S order or one for all axes; None means the file's.

    Raises:
        DataError: `file_missing` if the file doesn't exist, `file_unreadable` if it can't be read.
        BrokenImage: `empty_file`, and the readers' own codes.
        ImageTooLarge: the header declares too many pixels; nothing is decoded.
        UnsupportedFormat: `unsupported_format`, or the format of a slide's maker that isn't supported.
        UnsuitableImage: pixels or dimensions that aren't supported; `image_reader_crashed` where the file is
            isolated and its process ended.
    """
    source = IsolatedSource(path, guards, labels=labels) if guards.isolated else _open_directly(path, guards, labels)
    if spacing_um is not None:
        try:
            source.give_spacing(spacing_um)
        except DataError:
            source.close()
            raise
    return source


def is_image_folder(path: Path) -> bool:
    """Return True if a folder is an image itself: an OME-Zarr, or only DICOM files."""
    if not path.is_dir():
        return False
    entries = [entry for entry in path.iterdir() if entry.name[0] != "."]
    return is_zarr(path) or (bool(entries) and all(entry.is_file() and is_dicom(_head(entry)) for entry in entries))


def stem_of(path: Path) -> str:
    """Return the name without its suffix; .nii.gz, .ome.tif and the like are one suffix."""
    return next((path.stem.removesuffix(suffix) for suffix in _DOUBLE_SUFFIXES if path.stem.endswith(suffix)), path.stem)


def _open_directly(path: Path, guards: Guards, labels: bool) -> ImageSource:
    """Open an image in this process."""
    if path.is_dir() and is_zarr(path):
        return OmeZarrSource(path, guards.max_pixels, read_labels=labels)
    if path.is_dir():
        return open_dicom(path, guards, read_labels=labels)
    head = _head(path)
    for reader in _READERS:
        if reader.matches(head):
            return reader.open(path, guards, labels)
    raise UnsupportedFormat("unsupported_format", f"the file's format isn't supported; allowed are {FORMATS}")


def _head(path: Path) -> bytes:
    if not path.is_file():
        raise DataError("file_missing", "the file doesn't exist; check the path")
    try:
        head = head_of(path)
        empty = path.stat().st_size == 0
    except OSError as error:
        raise DataError("file_unreadable", "the file can't be read; check its permissions and its disk") from error
    if empty:
        raise BrokenImage("empty_file", "the file is empty; send or export it again")
    return head


def _picture(path: Path, guards: Guards, labels: bool) -> ImageSource:
    if path.suffix.lower() == MIRAX_SUFFIX and vendor_of(path) == MIRAX:
        raise UnsupportedFormat(
            "slide_vendor_not_supported",
            "the JPEG is part of a MIRAX slide, which has a folder of files; export it as one TIFF",
        )
    return PictureSource(path, guards.max_pixels, read_labels=labels)


def _tiff_or_slide(path: Path, guards: Guards, labels: bool) -> ImageSource:
    """Open slides of scanner makers with OpenSlide. It reduces pixels to RGB of 8 bits, so that labels use tifffile."""
    tiff = check_tiff(path, guards.max_pages)
    if labels or vendor_of(path) in (None, GENERIC):
        return TiffSource(tiff, guards.max_pixels, read_labels=labels)
    return SlideSource(tiff, guards.max_pixels)


_READERS = (
    _Reader(is_dicom, lambda path, guards, labels: open_dicom(path, guards, read_labels=labels)),
    _Reader(lambda head: head.startswith(PNG_MAGIC), _picture),
    _Reader(lambda head: head.startswith(_JPEG_MAGIC), _picture),
    _Reader(lambda head: head.startswith(TIFF_MAGICS), _tiff_or_slide),
    _Reader(is_nifti, lambda path, guards, labels: NiftiSource(path, guards)),
    _Reader(is_nrrd, lambda path, guards, labels: NrrdSource(path, guards)),
)
