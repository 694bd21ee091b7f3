"""A DICOM file's grey images as stored, one at a time, never more of them than the header says."""

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
    Header,
    dicom_broken,
    dicom_errors,
    number_of_frames,
    pixel_format_not_supported,
    whole,
)
from imaging.errors import BrokenImage, UnsupportedFormat
from imaging.guards import Guards, check_voxel_bytes, check_voxels

_PIXEL_DATA = (0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF
_LEAST_PACKED_BYTES = 8  # a compressed image's own header
_END_OF_JPEG = b"\xff\xd9"
_MOST_PACKED_BYTES = 2**16  # beyond twice the image itself: what a compressed image may need, tables included


@dataclass(frozen=True)
class Pixels:
    """Storage of a file's images: `offset` of the first byte, `length` in bytes, None where they are compressed."""

    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    inverted: bool  # 0 is white
    vr: str
    offset: int
    length: int | None
    remarks: tuple[str, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, in the machine's byte order."""
        return np.dtype(f"{'i' if self.signed else 'u'}{max(1, self.bits_allocated // 8)}")

    @property
    def turned_sum(self) -> int:
        """Sum of a value and its inverted value, where grey is inverted."""
        return -1 if self.signed else 2**self.bits_stored - 1


def pixels_of(header: Header, *, bits: tuple[int, ...] = (8, 16, 32)) -> Pixels:
    """Return how the images are stored, checked against the file's size where they aren't compressed.

    Raises:
        BrokenImage: `dicom_broken`, `dicom_wrong_length`, `dicom_truncated`.
        UnsuitableImage: `pixel_format_not_supported`.
        UnsupportedFormat: `dicom_no_pixels`.
    """
    with dicom_errors():
        vr, offset, length = _pixel_element(header)
        dataset = header.dataset
        bits_allocated = whole(dataset, "BitsAllocated", 1, 64)
        bits_stored = whole(dataset, "BitsStored", 1, bits_allocated)
        interpretation = str(dataset["PhotometricInterpretation"].value)
        samples = whole(dataset, "SamplesPerPixel", 1, 4)
        highest_bit = whole(dataset, "HighBit", 0, bits_allocated - 1)
        grey = interpretation in ("MONOCHROME1", "MONOCHROME2") and samples == 1
        if not grey or bits_allocated not in bits or "ModalityLUTSequence" in dataset:
            raise pixel_format_not_supported()
        remarks = () if highest_bit == bits_stored - 1 else ("high_bit_ignored",)
        pixels = Pixels(
            rows=whole(dataset, "Rows", 1, 65535),
            columns=whole(dataset, "Columns", 1, 65535),
            frames=number_of_frames(dataset),
            bits_allocated=bits_allocated,
            bits_stored=bits_stored,
            signed=bool(whole(dataset, "PixelRepresentation", 0, 1)),
            inverted=interpretation == "MONOCHROME1",
            vr=vr,
            offset=offset,
            length=length,
            remarks=remarks if header.has_preamble else (*remarks, "preamble_missing"),
        )
        return _with_length_checked(header, pixels)


def check_size(pixels: Pixels, images: int, guards: Guards) -> None:
    """Before anything is decoded.

    Raises:
        ImageTooLarge: `volume_too_large`.
    """
    voxels = pixels.rows * pixels.columns * images
    check_voxels(voxels, max(pixels.rows, pixels.columns, images), guards)
    check_voxel_bytes(voxels * pixels.dtype.itemsize, guards)


def stored_images(header: Header, pixels: Pixels) -> Iterator[NDArray[Any]]:
    """Yield the images in the file's order, each (rows, columns) of `pixels.dtype`; one is in memory at a time.

    Raises:
        BrokenImage: `dicom_broken`.
    """
    with header.path.open("rb") as file, dicom_errors():
        file.seek(pixels.offset)
        images = _uncompressed if header.transfer_syntax in UNCOMPRESSED else _unpacked
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
        packed: the image as compressed.
        transfer_syntax: how it is compressed.
        shape: (rows, columns) as declared.
        pixel_bytes: of all channels.

    Raises:
        Exception: what the libraries raise on streams that they can't read.
    """
    if len(packed) > 2 * shape[0] * shape[1] * pixel_bytes + _MOST_PACKED_BYTES:
        return False
    if transfer_syntax == RLELossless:
        return True  # it gives none, and grows 64 times at most
    if transfer_syntax in (JPEGLSLossless, JPEGLSNearLossless, *DEEP_JPEG):
        is_whole = packed.rstrip(b"\0").endswith(_END_OF_JPEG)  # CharLS takes 15 s to find out of 1 kB that it isn't
        return is_whole and _jpeg_size(packed) == shape
    with Image.open(BytesIO(packed), formats=("JPEG", "JPEG2000")) as image:
        return (image.height, image.width) == shape


def _pixel_element(header: Header) -> tuple[str, int, int | None]:
    """Return the pixel element's type, the offset of its value, and its length; None for the length of compressed pixels."""
    order = ">" if header.transfer_syntax == ExplicitVRBigEndian else "<"
    with header.path.open("rb") as file:
        file.seek(header.pixels_at)
        start = file.read(12)
    if not start:
        raise UnsupportedFormat("dicom_no_pixels", "the DICOM file holds no pixels; send the images of the series")
    tag = struct.unpack_from(f"{order}HH", start)
    if tag != _PIXEL_DATA:
        raise pixel_format_not_supported()  # real numbers, which aren't integers with a scaling
    if header.transfer_syntax == ImplicitVRLittleEndian:
        vr, head_bytes = "OW", 8
    else:
        vr, head_bytes = start[4:6].decode("ascii"), 12
    (length,) = struct.unpack_from(f"{order}I", start, head_bytes - 4)
    if (length == _UNDEFINED) is (header.transfer_syntax in UNCOMPRESSED) or vr not in ("OB", "OW"):
        raise dicom_broken()
    return vr, header.pixels_at + head_bytes, None if length == _UNDEFINED else length


def _with_length_checked(header: Header, pixels: Pixels) -> Pixels:
    """Return the pixels, with a remark where padding follows them (PS3.5, 8.1.1)."""
    size = header.path.stat().st_size
    if pixels.length is None:
        if size < pixels.offset + pixels.frames * _LEAST_PACKED_BYTES:
            raise dicom_broken()
        return pixels
    needed = -(-pixels.rows * pixels.columns * pixels.frames * pixels.bits_allocated // 8)
    if pixels.length < needed:
        raise BrokenImage(
            "dicom_wrong_length",
            f"the DICOM file's header declares images of {needed} bytes, its pixels are declared as {pixels.length}; "
            "send or export it again",
        )
    if size < pixels.offset + pixels.length:
        raise BrokenImage(
            "dicom_truncated",
            f"the DICOM file's pixels end at byte {pixels.offset + pixels.length}, the file at {size}; "
            "it was cut, send or export it again",
        )
    if pixels.length > needed + needed % 2:
        return replace(pixels, length=needed, remarks=(*pixels.remarks, "trailing_data"))
    return pixels


def _uncompressed(file: BinaryIO, header: Header, pixels: Pixels) -> Iterator[NDArray[Any]]:
    if pixels.bits_allocated == 1:
        yield from _bits(file, header, pixels)
        return
    decoder = get_decoder(header.transfer_syntax)
    for image, _ in decoder.iter_array(file, raw=True, **_options(header, pixels)):
        yield image


def _bits(file: BinaryIO, header: Header, pixels: Pixels) -> Iterator[NDArray[Any]]:
    """Images of one bit a pixel follow each other without a gap; pydicom cuts those that begin within a byte."""
    size = pixels.rows * pixels.columns
    swapped = header.transfer_syntax == ExplicitVRBigEndian and pixels.vr == "OW"
    for start in range(0, pixels.frames * size, size):
        first = start // 16 * 2  # whole words, which big endian files turn round
        file.seek(pixels.offset + first)
        packed = np.frombuffer(file.read(-(-(start + size) // 16) * 2 - first), np.uint8)
        if swapped:
            packed = packed.reshape(-1, 2)[:, ::-1].ravel()
        bits = np.unpackbits(packed, bitorder="little")[start - 8 * first :]
        yield bits[:size].reshape(pixels.rows, pixels.columns)


def _unpacked(file: BinaryIO, header: Header, pixels: Pixels) -> Iterator[NDArray[Any]]:
    for packed in generate_frames(file, number_of_frames=pixels.frames):
        if not is_as_declared(packed, header.transfer_syntax, (pixels.rows, pixels.columns), pixels.dtype.itemsize):
            raise dicom_broken()
        if header.transfer_syntax in DEEP_JPEG:
            yield _signed(imagecodecs.jpeg8_decode(packed), pixels)  # libjpeg-turbo, which knows lossless and 12 bits
            continue
        options = _options(header, pixels) | {"number_of_frames": 1}
        yield get_decoder(header.transfer_syntax).as_array(encapsulate([packed], has_bot=False), raw=True, **options)[0]


def _signed(image: NDArray[Any], pixels: Pixels) -> NDArray[Any]:
    """Return the stored bits with their sign."""
    unused = pixels.bits_allocated - pixels.bits_stored
    shifted = image.astype(f"u{pixels.dtype.itemsize}") << unused
    return shifted.view(pixels.dtype) >> unused


def _from_lowest_bit(image: NDArray[Any], pixels: Pixels) -> NDArray[Any]:
    """Return values whose stored bits begin at the lowest one, although the header says otherwise.

    Raises:
        UnsuitableImage: `pixel_format_not_supported`: higher bits are in use, so that it is open which ones are meant.
    """
    extended = _signed(image, pixels)
    if not np.array_equal(extended, image) and int(image.view(f"u{image.itemsize}").max()) >= 2**pixels.bits_stored:
        raise pixel_format_not_supported()
    return extended


def _options(header: Header, pixels: Pixels) -> dict[str, Any]:
    return {
        "transfer_syntax_uid": header.transfer_syntax,
        "rows": pixels.rows,
        "columns": pixels.columns,
        "number_of_frames": pixels.frames,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": pixels.bits_allocated,
        "bits_stored": pixels.bits_allocated if "high_bit_ignored" in pixels.remarks else pixels.bits_stored,
        "pixel_representation": int(pixels.signed),
        "pixel_keyword": "PixelData",
        "pixel_vr": pixels.vr,
    }


def _jpeg_size(packed: bytes) -> tuple[int, int]:
    """(rows, columns) out of the frame header, SOF, of a JPEG or JPEG-LS stream (ITU-T T.81, B.2.2; T.87, C.2.2)."""
    at = 2
    while True:
        marker, length = struct.unpack_from(">HH", packed, at)
        if marker in (0xFFC0, 0xFFC1, 0xFFC2, 0xFFC3, 0xFFF7):
            rows, columns = struct.unpack_from(">HH", packed, at + 5)
            return int(rows), int(columns)
        at += 2 + length
