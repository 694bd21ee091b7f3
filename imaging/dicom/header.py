"""DicomHeader of one DICOM file, checked before any pixel is decoded; elements about the patient are not read."""

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
from pydicom.filereader import read_dataset
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
_PREAMBLE_BYTES = 128
_META_GROUP = 0x0002
_BARE_META = b"\x02\0\0\0UL\4\0"  # first element of the meta information, in files without a preamble
_BARE_DATA_GROUP = 0x0008  # first group of files without preamble and meta information
_BARE_DATA_ELEMENTS = range(0x0001, 0x0019)  # up to the SOP instance UID: length to end, image type, creation date, SOP class
UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
DEEP_JPEG = (JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)  # up to 12 and 16 bits
COMPRESSED = (
    RLELossless, JPEGBaseline8Bit, *DEEP_JPEG, JPEGLSLossless, JPEGLSNearLossless,
    JPEG2000Lossless, JPEG2000,
)  # fmt: skip

for _name in ("pydicom", "highdicom"):
    logging.getLogger(_name).setLevel(
        logging.CRITICAL + 1
    )  # their warnings quote the header; failures are raised as errors here

_DICOM_ERRORS = (  # that pydicom and its decoders raise on broken files
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
class DicomHeader:
    """Checked elements of a DICOM file that precede its pixels.

    Args:
        path: path of the file.
        dataset: the few elements that reading needs, none of them about the patient; access them within `dicom_errors`.
        kind: SOP class UID: MR image, CT image, segmentation and so on.
        series: UID of the series that the file belongs to.
        transfer_syntax: encoding of the file.
        pixels_at: offset of the pixel element in the file.
        has_preamble: the file begins with DICOM's preamble.
    """

    path: Path
    dataset: Dataset
    kind: str
    series: str
    transfer_syntax: UID
    pixels_at: int
    has_preamble: bool = True


def is_dicom(head: bytes) -> bool:
    """Return True if a file's first bytes are those of a DICOM file, with its preamble or without."""
    return _has_preamble(head) or head.startswith(_BARE_META) or _begins_with_data(head)


def _has_preamble(head: bytes) -> bool:
    return head[_PREAMBLE_BYTES:HEAD_BYTES] == b"DICM"


def _begins_with_data(head: bytes) -> bool:
    """Return True if the head starts with two elements of group 0008, little endian."""
    group, element = struct.unpack_from("<HH", head.ljust(4, b"\0"))
    if group != _BARE_DATA_GROUP or element not in _BARE_DATA_ELEMENTS:
        return False
    is_explicit = head[4:6].isalpha() and head[4:6].isupper()
    length = int.from_bytes(head[6:8] if is_explicit else head[4:8], "little")
    next_group = head[8 + length : 10 + length]
    return next_group == struct.pack("<H", _BARE_DATA_GROUP)


def read_header(path: Path) -> DicomHeader:
    """Read the header of one file. Deflated files are refused, since pydicom would inflate them as a whole.

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
        raise UnsupportedFormat("unsupported_format", "the file isn't DICOM; export the image again")
    with dicom_errors(), path.open("rb") as file:
        file.seek(HEAD_BYTES if _has_preamble(head) else 0)
        meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != _META_GROUP)
        syntax = meta.get("TransferSyntaxUID")
        if syntax is not None and syntax not in (*UNCOMPRESSED, *COMPRESSED):
            raise compression_not_supported()  # before dcmread inflates a deflated file
        file.seek(0)
        dataset = dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
        if "TransferSyntaxUID" in meta:
            transfer_syntax = UID(str(meta["TransferSyntaxUID"].value))
        else:  # the encoding that pydicom has recognised
            is_implicit, _ = dataset.original_encoding
            transfer_syntax = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
        kind, series = (str(dataset.get(keyword, "")) for keyword in ("SOPClassUID", "SeriesInstanceUID"))
        return DicomHeader(path, dataset, kind, series, transfer_syntax, file.tell(), _has_preamble(head))


@contextmanager
def dicom_errors(error: Callable[[], DataError] | None = None, *, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Convert the libraries' errors to ours and suppress their warnings, since both quote the header.

    Args:
        error: returns the error to raise; None means `dicom_broken`.
        passing: errors that aren't converted.

    Raises:
        BrokenImage: `dicom_broken`, or the error that `error` returns.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except passing:
        raise
    except _DICOM_ERRORS:
        raise (error or dicom_broken)() from None


def whole_number(dataset: Dataset, keyword: str, lowest: int, highest: int) -> int:
    """Return an integer that the standard stores in 16 bits.

    Raises:
        BrokenImage: `dicom_broken` if it is missing, has another type or lies outside of its bounds.
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
        BrokenImage: `dicom_broken` if the element holds another number of values, or one isn't finite.
    """
    value = dataset.get(keyword)
    if value is None or value == "":
        return None
    reals = (float(value),) if count == 1 else tuple(map(float, value))
    if len(reals) != count or not all(map(isfinite, reals)):
        raise dicom_broken()
    return reals


def dicom_broken() -> BrokenImage:
    """Return the error for a header that can't be read, or pixels that can't be decoded."""
    return BrokenImage(
        "dicom_broken", "the DICOM file is cut or damaged, or its header contradicts itself; send or export it again"
    )


def pixel_format_not_supported() -> UnsuitableImage:
    """Return the error for pixels of a type that the readers don't support."""
    return UnsuitableImage(
        "pixel_format_not_supported",
        "the DICOM file's pixels have a type that isn't supported; allowed are grey integers of 1 to 64 bits for volumes "
        "and colour of 8 bits for slides: export the image again as one of them",
    )


def compression_not_supported() -> UnsupportedFormat:
    """Return the error for a transfer syntax that isn't supported."""
    return UnsupportedFormat(
        "dicom_compression_not_supported",
        "the DICOM file has a compression that isn't supported; allowed are JPEG and JPEG 2000, for volumes also RLE and "
        "JPEG-LS: save it uncompressed, with dcmtk's dcmdjpeg or with gdcmconv --raw",
    )
