"""Opening of images: the reader is chosen by the file's content, never by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imaging.dicom.header import is_dicom
from imaging.dicom.volume import find_slices, open_dicom
from imaging.errors import BrokenImage, DataError, UnsupportedFormat
from imaging.guards import LOCAL, Guards
from imaging.isolation.isolated_source import IsolatedSource
from imaging.nifti.header import head_of, is_nifti
from imaging.nifti.volume import NiftiSource
from imaging.nrrd.header import is_nrrd
from imaging.nrrd.volume import NrrdSource
from imaging.ome_zarr.image import OmeZarrSource, is_zarr
from imaging.plane import PlaneSource, plane_axis
from imaging.png_jpeg import PNG_MAGIC, PictureSource
from imaging.slides import GENERIC, MIRAX, MIRAX_SUFFIX, SlideSource, vendor_of
from imaging.source import ImageSource, ReadOptions
from imaging.tiff.check import check_tiff
from imaging.tiff.directories import TIFF_MAGICS
from imaging.tiff.image import TiffSource

FORMATS = "PNG, JPEG, TIFF, slides that OpenSlide reads, NIfTI, NRRD, DICOM, OME-Zarr"

_DOUBLE_SUFFIXES = (".nii", ".hdr", ".img", ".ome")  # before .gz, .tif and .zarr
_IMAGE_SUFFIXES = (  # files of these names are reported where they can't be read; formats that aren't supported among them
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".nii", ".nii.gz",
    ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".dcm", ".bmp", ".gif", ".webp", ".jp2", ".czi", ".vsi", ".lif", ".nd2", ".lsm",
)  # fmt: skip
_VOXELS_SUFFIX = ".img"  # of a NIfTI or Analyze header's voxels
_JPEG_MAGIC = b"\xff\xd8\xff"


@dataclass(frozen=True)
class _Reader:
    """Reader of a format.

    Args:
        matches: returns True for the first bytes, decompressed, of a file of this format.
        open: returns the source for a path, guards, and whether labels are read.
    """

    matches: Callable[[bytes], bool]
    open: Callable[[Path, Guards, ReadOptions], ImageSource]


def open_image(
    path: Path,
    *,
    guards: Guards = LOCAL,
    labels: bool = False,
    spacing_um: tuple[float, ...] | None = None,
    dimensions: int | None = None,
    axes: str | None = None,
) -> ImageSource:
    """Open an image; the result is a context manager.

    Args:
        path: a file of any name, or the folder of an OME-Zarr image or of one DICOM series.
        guards: how far the file is trusted. The readers' own limits are 2**29 pixels for images held in memory, 10**11 for
            slides and tiled TIFF.
        labels: the file is a reference: values are read as they are stored, such as a palette's indices.
        spacing_um: distance between pixels that the user gives, in S order or one for all axes; None means the file's.
        dimensions: of the image that is needed, 2 or 3: a volume of one slice is read as 2D, and the nameless axis of a TIFF
            stack as depth; None reads what the file declares.
        axes: letters of a TIFF's axes in the file's order, such as ZYX; None takes the file's.

    Raises:
        DataError: `file_missing` if the file doesn't exist, `file_unreadable` if it can't be read.
        BrokenImage: `empty_file`, and the readers' own codes.
        ImageTooLarge: the header declares too many pixels; nothing is decoded.
        UnsupportedFormat: `unsupported_format`, or the format of a slide's maker that isn't supported.
        UnsuitableImage: pixels or dimensions that aren't supported; `image_reader_crashed` where the file is
            isolated and its process ended.
    """
    options = ReadOptions(labels, dimensions, axes)
    source = IsolatedSource(path, guards, options) if guards.isolated else open_directly(path, guards, options)
    axis = plane_axis(source.geometry) if dimensions == 2 else None
    if axis is not None:
        source = PlaneSource(source, axis)
    if spacing_um is not None:
        try:
            source.give_spacing(spacing_um)
        except DataError:
            source.close()
            raise
    return source


def is_image_folder(path: Path) -> bool:
    """Return True if a folder is an image itself: an OME-Zarr, or DICOM images without images of another format beside them."""
    if not path.is_dir():
        return False
    if is_zarr(path):
        return True
    files = [entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith(".")]
    others = [file for file in files if not is_dicom_file(file)]
    return len(others) < len(files) and bool(find_slices(path)) and not any(map(is_image_file, others))


def is_image_file(path: Path) -> bool:
    """Return True if a file is an image, by its content, or by its name where the content is damaged or not supported."""
    if path.name.lower().endswith(_IMAGE_SUFFIXES):
        return True
    try:
        head = _head(path)
    except DataError:
        return False
    return any(reader.matches(head) for reader in _READERS)


def is_dicom_file(path: Path) -> bool:
    """Return True if a file is DICOM, by its content."""
    try:
        return is_dicom(_head(path))
    except DataError:
        return False


def stem_of(path: Path) -> str:
    """Return the name without its suffix; .nii.gz, .ome.tif and the like are one suffix."""
    return next((path.stem.removesuffix(suffix) for suffix in _DOUBLE_SUFFIXES if path.stem.endswith(suffix)), path.stem)


def open_directly(path: Path, guards: Guards, options: ReadOptions) -> ImageSource:
    """Open an image in this process; see `open_image` for the errors that it raises."""
    if path.is_dir() and is_zarr(path):
        return OmeZarrSource(path, guards.max_pixels, read_labels=options.labels)
    if path.is_dir():
        return open_dicom(path, guards, read_labels=options.labels)
    path = header_beside(path) if guards.companions else path
    head = _head(path)
    for reader in _READERS:
        if reader.matches(head):
            return reader.open(path, guards, options)
    raise UnsupportedFormat("unsupported_format", f"the file's format isn't supported; allowed are {FORMATS}")


def header_beside(path: Path) -> Path:
    """Return the header of a file of voxels (.img) where it lies beside it; any other path as it is."""
    name = path.name.removesuffix(".gz")
    if not name.lower().endswith(_VOXELS_SUFFIX):
        return path
    stem = name[: -len(_VOXELS_SUFFIX)]
    headers = (path.with_name(stem + suffix) for suffix in (".hdr", ".HDR", ".hdr.gz"))
    return next((header for header in headers if header.is_file()), path)


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


def _picture(path: Path, guards: Guards, options: ReadOptions) -> ImageSource:
    if path.suffix.lower() == MIRAX_SUFFIX and vendor_of(path) == MIRAX:
        raise UnsupportedFormat(
            "slide_vendor_not_supported",
            "the JPEG is part of a MIRAX slide, which has a folder of files; export it as one TIFF",
        )
    return PictureSource(path, guards.max_pixels, read_labels=options.labels)


def _tiff_or_slide(path: Path, guards: Guards, options: ReadOptions) -> ImageSource:
    """Open slides of scanner makers with OpenSlide. It reduces pixels to RGB of 8 bits, so that labels use tifffile."""
    tiff = check_tiff(path, guards.max_pages)
    if options.labels or vendor_of(path) in (None, GENERIC):
        return TiffSource(tiff, guards.max_pixels, options)
    return SlideSource(tiff, guards.max_pixels)


_READERS = (
    _Reader(is_dicom, lambda path, guards, options: open_dicom(path, guards, read_labels=options.labels)),
    _Reader(lambda head: head.startswith(PNG_MAGIC), _picture),
    _Reader(lambda head: head.startswith(_JPEG_MAGIC), _picture),
    _Reader(lambda head: head.startswith(TIFF_MAGICS), _tiff_or_slide),
    _Reader(is_nifti, lambda path, guards, options: NiftiSource(path, guards)),
    _Reader(is_nrrd, lambda path, guards, options: NrrdSource(path, guards)),
)
