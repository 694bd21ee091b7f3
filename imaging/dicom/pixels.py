"""Grey images of a DICOM file as stored, decoded one at a time, never more than the header declares."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from imaging.dicom.header import (
    DEEP_JPEG,
    UNCOMPRESSED,
    DicomHeader,
    dicom_broken,
    dicom_errors,
    number_of_frames,
    pixel_format_not_supported,
    whole_number,
)
from imaging.errors import BrokenImage, UnsupportedFormat
from imaging.guards import Guards, check_voxel_bytes, check_voxels

_PIXEL_DATA = (0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF
_LEAST_PACKED_BYTES = 8  # the header of a compressed image
_END_OF_JPEG = b"\xff\xd9"
_MOST_PACKED_BYTES = 2**16  # that a compressed image may take beyond twice the image itself, for tables


@dataclass(frozen=True)
class DicomPixels:
    """Storage of a file's images: `offset` of the first byte, and `length` in bytes; None for compressed images."""

    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    is_inverted: bool  # 0 is white
    vr: str
    offset: int
    length: int | None
    remarks: tuple[str, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, in the machine's byte order."""
        return np.dtype(f"{'i' if self.is_signed else 'u'}{max(1, self.bits_allocated // 8)}")

    @property
    def inversion_sum(self) -> int:
        """Sum of a value and its inverted value, where grey is inverted."""
        return -1 if self.is_signed else 2**self.bits_stored - 1


def pixels_of(header: DicomHeader, *, bits: tuple[int, ...] = (1, 8, 16, 32, 64)) -> DicomPixels:
    """Return the storage of a file's images, checked against the file's size.

    Raises:
        BrokenImage: `dicom_broken`, `dicom_wrong_length`, `dicom_truncated`.
        UnsuitableImage: `pixel_format_not_supported`.
        UnsupportedFormat: `dicom_no_pixels`.
    """
    with dicom_errors():
        vr, offset, length = _pixel_element(header)
        dataset = header.dataset
        bits_allocated = whole_number(dataset, "BitsAllocated", 1, 64)
        bits_stored = whole_number(dataset, "BitsStored", 1, bits_allocated)
        interpretation = str(dataset["PhotometricInterpretation"].value)
        samples = whole_number(dataset, "SamplesPerPixel", 1, 4)
        highest_bit = whole_number(dataset, "HighBit", 0, 65535) if "HighBit" in dataset else None
        grey = interpretation in ("MONOCHROME1", "MONOCHROME2") and samples == 1
        if not grey or bits_allocated not in bits or "ModalityLUTSequence" in dataset:
            raise pixel_format_not_supported()
        remarks = () if highest_bit == bits_stored - 1 else ("high_bit_ignored",)
        pixels = DicomPixels(
            rows=whole_number(dataset, "Rows", 1, 65535),
            columns=whole_number(dataset, "Columns", 1, 65535),
            frames=number_of_frames(dataset),
            bits_allocated=bits_allocated,
            bits_stored=bits_stored,
            is_signed=bool(whole_number(dataset, "PixelRepresentation", 0, 1)),
            is_inverted=interpretation == "MONOCHROME1",
            vr=vr,
            offset=offset,
            length=length,
            remarks=remarks if header.has_preamble else (*remarks, "preamble_missing"),
        )
        return _check_length(header, pixels)


def check_size(pixels: DicomPixels, images: int, guards: Guards) -> None:
    """Check the size of a volume of so many images before anything is decoded.

    Raises:
        ImageTooLarge: `volume_too_large`.
    """
    voxels = pixels.rows * pixels.columns * images
    check_voxels(voxels, max(pixels.rows, pixels.columns, images), guards)
    check_voxel_bytes(voxels * pixels.dtype.itemsize, guards)


def stored_images(header: DicomHeader, pixels: DicomPixels) -> Iterator[NDArray[Any]]:
    """Yield the images in the file's order, each (rows, columns) of `pixels.dtype`; one is in memory at a time.

    Raises:
        BrokenImage: `dicom_broken`.
    """
    with header.path.open("rb") as file, dicom_errors():
        file.seek(pixels.offset)
        if header.transfer_syntax not in UNCOMPRESSED:
            images = _compressed_images
        else:
            images = _bit_images if pixels.bits_allocated == 1 else _uncompressed_images
        count = 0
        for image in images(file, header, pixels):
            if image.shape != (pixels.rows, pixels.columns) or count == pixels.frames:
                raise dicom_broken()
            count += 1
            image = image.astype(pixels.dtype, copy=False)
            yield _from_lowest_bit(image, pixels) if "high_bit_ignored" in pixels.remarks else image
        if count != pixels.frames:
            raise dicom_broken()


def is_as_declared(packed: bytes, transfer_syntax: UID, shape: tuple[int, int], pixel_bytes: int) -> bool:
    """Return True if a compressed image declares the same size as the header.

    Args:
        packed: the compressed image.
        transfer_syntax: its compression.
        shape: (rows, columns) in the header.
        pixel_bytes: size of a pixel, all channels together.

    Raises:
        Exception: the libraries' errors for streams that they can't read.
    """
    if len(packed) > 2 * shape[0] * shape[1] * pixel_bytes + _MOST_PACKED_BYTES:
        return False
    if transfer_syntax == RLELossless:
        return True  # RLE declares no size, and expands to at most 64 times its own
    if transfer_syntax in (JPEGLSLossless, JPEGLSNearLossless, *DEEP_JPEG):
        # CharLS takes 15 s to notice that a stream of 1 kB is cut.
        return packed.rstrip(b"\0").endswith(_END_OF_JPEG) and _jpeg_size(packed) == shape
    with Image.open(BytesIO(packed), formats=("JPEG", "JPEG2000")) as image:
        return (image.height, image.width) == shape


def _pixel_element(header: DicomHeader) -> tuple[str, int, int | None]:
    """Return the type of the pixel element, the offset of its value, and its length, which is None for compressed pixels.

    Raises:
        BrokenImage: `dicom_broken`.
        UnsupportedFormat: `dicom_no_pixels`.
        UnsuitableImage: `pixel_format_not_supported`.
    """
    order = ">" if header.transfer_syntax == ExplicitVRBigEndian else "<"
    with header.path.open("rb") as file:
        file.seek(header.pixels_at)
        start = file.read(12)
    if not start:
        raise UnsupportedFormat("dicom_no_pixels", "the DICOM file holds no pixels; send the images of the series")
    tag = struct.unpack_from(f"{order}HH", start)
    if tag != _PIXEL_DATA:
        raise pixel_format_not_supported()  # the element of real numbers
    if header.transfer_syntax == ImplicitVRLittleEndian:
        vr, head_bytes = "OW", 8
    else:
        vr, head_bytes = start[4:6].decode("ascii"), 12
    (length,) = struct.unpack_from(f"{order}I", start, head_bytes - 4)
    if (length == _UNDEFINED) is (header.transfer_syntax in UNCOMPRESSED) or vr not in ("OB", "OW"):
        raise dicom_broken()
    return vr, header.pixels_at + head_bytes, None if length == _UNDEFINED else length


def _check_length(header: DicomHeader, pixels: DicomPixels) -> DicomPixels:
    """Return the pixels, checked against the file's size, with a remark where padding follows them (PS3.5, 8.1.1).

    Raises:
        BrokenImage: `dicom_broken`, `dicom_wrong_length`, `dicom_truncated`.
    """
    size = header.path.stat().st_size
    if pixels.length is None:
        if size < pixels.offset + pixels.frames * _LEAST_PACKED_BYTES:
            raise dicom_broken()
        return pixels
    needed = -(-pixels.rows * pixels.columns * pixels.frames * pixels.bits_allocated // 8)
    if pixels.length < needed:
        raise BrokenImage(
            "dicom_wrong_length",
            f"the DICOM file's header declares images of {needed} bytes, but its pixel element has {pixels.length}; "
            "send or export it again",
        )
    if size < pixels.offset + pixels.length:
        raise BrokenImage(
            "dicom_truncated",
            f"the DICOM file's pixels end at byte {pixels.offset + pixels.length}, but the file ends at {size}: it was cut; "
            "send or export it again",
        )
    if pixels.length > needed + needed % 2:
        return replace(pixels, length=needed, remarks=(*pixels.remarks, "trailing_data"))
    return pixels


def _uncompressed_images(file: BinaryIO, header: DicomHeader, pixels: DicomPixels) -> Iterator[NDArray[Any]]:
    decoder = get_decoder(header.transfer_syntax)
    for image, _ in decoder.iter_array(file, raw=True, **_options(header, pixels)):
        yield image


def _bit_images(file: BinaryIO, header: DicomHeader, pixels: DicomPixels) -> Iterator[NDArray[Any]]:
    """Yield images of one bit a pixel, which follow each other without a gap; pydicom cuts those that begin within a byte."""
    size = pixels.rows * pixels.columns
    is_swapped = header.transfer_syntax == ExplicitVRBigEndian and pixels.vr == "OW"
    for start in range(0, pixels.frames * size, size):
        first = start // 16 * 2  # whole words, whose bytes big-endian files swap
        file.seek(pixels.offset + first)
        packed = np.frombuffer(file.read(-(-(start + size) // 16) * 2 - first), np.uint8)
        if is_swapped:
            packed = packed.reshape(-1, 2)[:, ::-1].ravel()
        bits = np.unpackbits(packed, bitorder="little")[start - 8 * first :]
        yield bits[:size].reshape(pixels.rows, pixels.columns)


def _compressed_images(file: BinaryIO, header: DicomHeader, pixels: DicomPixels) -> Iterator[NDArray[Any]]:
    for packed in generate_frames(file, number_of_frames=pixels.frames):
        if not is_as_declared(packed, header.transfer_syntax, (pixels.rows, pixels.columns), pixels.dtype.itemsize):
            raise dicom_broken()
        if header.transfer_syntax in DEEP_JPEG:
            image = imagecodecs.jpeg8_decode(packed)  # libjpeg-turbo, which supports lossless JPEG and 12 bits
            yield _extend_sign(image, pixels)
            continue
        options = _options(header, pixels) | {"number_of_frames": 1}
        yield get_decoder(header.transfer_syntax).as_array(encapsulate([packed], has_bot=False), raw=True, **options)[0]


def _extend_sign(image: NDArray[Any], pixels: DicomPixels) -> NDArray[Any]:
    """Return the stored bits as values with their sign."""
    unused_bits = pixels.bits_allocated - pixels.bits_stored
    shifted = image.astype(f"u{pixels.dtype.itemsize}") << unused_bits
    return shifted.view(pixels.dtype) >> unused_bits


def _from_lowest_bit(image: NDArray[Any], pixels: DicomPixels) -> NDArray[Any]:
    """Return values whose stored bits begin at the lowest bit, although the header declares another one.

    Raises:
        UnsuitableImage: `pixel_format_not_supported`: higher bits are in use, so that the values are ambiguous.
    """
    extended = _extend_sign(image, pixels)
    if not np.array_equal(extended, image) and int(image.view(f"u{image.itemsize}").max()) >= 2**pixels.bits_stored:
        raise pixel_format_not_supported()
    return extended


def _options(header: DicomHeader, pixels: DicomPixels) -> dict[str, Any]:
    return {
        "transfer_syntax_uid": header.transfer_syntax,
        "rows": pixels.rows,
        "columns": pixels.columns,
        "number_of_frames": pixels.frames,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": pixels.bits_allocated,
        "bits_stored": pixels.bits_allocated if "high_bit_ignored" in pixels.remarks else pixels.bits_stored,
        "pixel_representation": int(pixels.is_signed),
        "pixel_keyword": "PixelData",
        "pixel_vr": pixels.vr,
    }


def _jpeg_size(packed: bytes) -> tuple[int, int]:
    """Return (rows, columns) from the frame header of a JPEG or JPEG-LS stream (ITU-T T.81, B.2.2; T.87, C.2.2)."""
    at = 2
    while True:
        marker, length = struct.unpack_from(">HH", packed, at)
        if marker in (0xFFC0, 0xFFC1, 0xFFC2, 0xFFC3, 0xFFF7):
            rows, columns = struct.unpack_from(">HH", packed, at + 5)
            return int(rows), int(columns)
        at += 2 + length
