"""Header of one DICOM file, checked before any pixel is decoded; the patient's data aren't read."""

import logging
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from PIL.Image import DecompressionBombError
from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from imaging.errors import BrokenImage, DataError, UnsuitableImage, UnsupportedFormat

HEAD_BYTES = 132
UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
DEEP_JPEG = (JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)  # of up to 12 and 16 bits
COMPRESSED = (
    RLELossless, JPEGBaseline8Bit, *DEEP_JPEG, JPEGLSLossless, JPEGLSNearLossless,
    JPEG2000Lossless, JPEG2000,
)  # fmt: skip

for _name in ("pydicom", "highdicom"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)  # their warnings quote the header; what fails is raised here

_DICOM_ERRORS = (  # what pydicom and its decoders were seen to raise on broken files
    OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError, OverflowError,
    MemoryError, RuntimeError, struct.error, zlib.error, BytesLengthException, InvalidDicomError,
    DecompressionBombError,
)  # fmt: skip
_KEYWORDS = (
    "SOPClassUID", "ImageType", "SeriesInstanceUID", "FrameOfReferenceUID",
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "SegmentationType", "TotalPixelMatrixColumns", "TotalPixelMatrixRows",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_TAGS = [tag for tag in map(tag_for_keyword, _KEYWORDS) if tag is not None]


@dataclass(frozen=True)
class Header:
    """Checked elements of a DICOM file that precede its pixels.

    Args:
        path: of the file.
        dataset: the few elements that reading needs, none of the patient's; to be looked at under `dicom_errors`.
        kind: the UID of what the file is: an MR image, a CT image, a segmentation.
        series: the UID of the series that it belongs to.
        transfer_syntax: how it is encoded.
        pixels_at: where the element of the pixels begins.
    """

    path: Path
    dataset: Dataset
    kind: str
    series: str
    transfer_syntax: UID
    pixels_at: int


def is_dicom(head: bytes) -> bool:
    """Return True if a file's first bytes are those of a DICOM file."""
    return head[128:132] == b"DICM"


def read_header(path: Path) -> Header:
    """Read the header of one file. Deflated files are refused: pydicom would inflate all of it at once.

    Raises:
        DataError: `file_unreadable`.
        BrokenImage: `dicom_broken`.
        UnsupportedFormat: `unsupported_format` if it isn't DICOM, `dicom_compression_not_supported`.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise DataError("file_unreadable", "the file can't be read; check its permissions and its disk") from error
    if not is_dicom(head):
        raise UnsupportedFormat("unsupported_format", "not a DICOM file with its preamble; export the image again")
    with dicom_errors():
        transfer_syntax = UID(str(read_file_meta_info(path)["TransferSyntaxUID"].value))
        if transfer_syntax not in (*UNCOMPRESSED, *COMPRESSED):
            raise compression_not_supported()
        with path.open("rb") as file:
            dataset = dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
            kind, series = (str(dataset.get(keyword, "")) for keyword in ("SOPClassUID", "SeriesInstanceUID"))
            return Header(path, dataset, kind, series, transfer_syntax, file.tell())


@contextmanager
def dicom_errors(error: Callable[[], DataError] | None = None, *, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Convert the libraries' errors to ours and suppress their warnings, since both quote the header.

    Args:
        error: makes the one to raise; None makes `dicom_broken`.
        passing: errors that are the caller's business.

    Raises:
        BrokenImage: `dicom_broken`, or what `error` makes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except passing:
        raise
    except _DICOM_ERRORS:
        raise (error or dicom_broken)() from None


def whole(dataset: Dataset, keyword: str, lowest: int, highest: int) -> int:
    """Return an integer that the standard stores in 16 bits.

    Raises:
        BrokenImage: `dicom_broken` if it is missing, of another type or outside of its bounds.
    """
    element = dataset[keyword]
    if element.VR != "US" or type(element.value) is not int or not lowest <= element.value <= highest:
        raise dicom_broken()
    return element.value


def number_of_frames(dataset: Dataset) -> int:
    """Return the number of images in a file; 1 where the header doesn't give it.

    Raises:
        BrokenImage: `dicom_broken`.
    """
    frames = int(dataset.get("NumberOfFrames", None) or 1)
    if frames < 1:
        raise dicom_broken()
    return frames


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return a tuple of `count` real numbers; None where the element is missing or empty.

    Raises:
        BrokenImage: `dicom_broken` if there are more or fewer, or one isn't finite.
    """
    value = dataset.get(keyword)
    if value is None or value == "":
        return None
    found = (float(value),) if count == 1 else tuple(map(float, value))
    if len(found) != count or not all(map(isfinite, found)):
        raise dicom_broken()
    return found


def dicom_broken() -> BrokenImage:
    """Return the error for a header that can't be read, or pixels that can't be decoded."""
    return BrokenImage(
        "dicom_broken", "the DICOM file is cut or damaged, or its header contradicts itself; send or export it again"
    )


def pixel_format_not_supported() -> UnsuitableImage:
    """Pixels of another kind than the readers take."""
    return UnsuitableImage(
        "pixel_format_not_supported",
        "the DICOM file's pixels are of a kind that isn't read; allowed are grey integers of 8, 16 or 32 bits for volumes "
        "and colour of 8 bits for slides",
    )


def compression_not_supported() -> UnsupportedFormat:
    """Return the error for a transfer syntax that isn't supported."""
    return UnsupportedFormat(
        "dicom_compression_not_supported",
        "the DICOM file is compressed in a way that isn't read; allowed are JPEG and JPEG 2000, for volumes RLE and "
        "JPEG-LS, too: save it uncompressed, with dcmtk's dcmdjpeg or with gdcmconv --raw",
    )
