"""PNG and JPEG images, (C, H, W), read through Pillow, and 16-bit PNG through libpng; decoded once and held in memory."""

import struct
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from imagecodecs import png_decode
from numpy.typing import NDArray
from PIL.Image import Exif
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from imaging.errors import BrokenImage, ImageTooLarge, UnsuitableImage
from imaging.source import Geometry, HeldSource, MaskFormat, over_white

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
MAX_PICTURE_PIXELS = 2**29

_ORIENTATION_TAG = 0x0112
_UPRIGHT = 1
_TRANSPOSED = (5, 6, 7, 8)
_ROWS_REVERSED = (3, 4, 7, 8)  # as shown
_COLUMNS_REVERSED = (2, 3, 6, 7)  # as shown
_CHANNELS = {"1": 1, "L": 1, "LA": 1, "P": 3, "RGB": 3, "RGBA": 3}
_DEEP_CHANNELS = {"I;16B": 1, "LA;16B": 1, "RGB;16B": 3, "RGBA;16B": 3}  # 16 bits, which Pillow would reduce to 8
# Pillow stretches grey of 2 and 4 bits to 0..255; labels are divided by the factor again.
_STRETCH = {"L;2": 85, "L;4": 17}
_PILLOW_ERRORS = (  # that its two plugins raise on broken files
    OSError, EOFError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError,
    RuntimeError, struct.error, zlib.error,
)  # fmt: skip


class PictureSource(HeldSource):
    """A PNG or JPEG as uint8 (1, H, W) or (3, H, W); PNGs of 16 bits as uint16.

    Transparent pixels are blended with white. EXIF's orientation is applied, so that image and mask lie as viewers show them,
    with the remark `orientation_applied`. The density is not used: it is for print.

    Args:
        path: the file.
        max_pixels: upper limit of the number of pixels; None means 2**29.
        read_labels: a palette PNG gives its palette's indices (1, H, W), and grey of few bits its own values.

    Raises:
        BrokenImage: `picture_broken` if the header or, at a read, the pixels can't be decoded.
        ImageTooLarge: `image_too_large` if the header declares more than `max_pixels`.
        UnsuitableImage: `pixel_format_not_supported` if it is neither grey, RGB nor palette (CMYK for example).
    """

    mask_format: ClassVar[MaskFormat] = "png"

    def __init__(self, path: Path, max_pixels: int | None = None, *, read_labels: bool = False) -> None:
        self._path = path
        self._read_labels = read_labels
        limit = MAX_PICTURE_PIXELS if max_pixels is None else max_pixels
        with _open_header(path) as image:
            pixels = image.width * image.height
            if pixels > limit:
                raise ImageTooLarge(
                    "image_too_large",
                    f"the picture has {pixels} pixels, at most {limit} are allowed; cut it, or save it as a tiled TIFF",
                    limit,
                )
            if image.mode not in _CHANNELS and _raw_mode(image) not in _DEEP_CHANNELS:
                raise UnsuitableImage(
                    "pixel_format_not_supported",
                    "the picture is neither grey, RGB nor palette; convert it to RGB",
                )
            deep = _DEEP_CHANNELS.get(_raw_mode(image))
            channels = deep or (1 if read_labels and image.mode == "P" else _CHANNELS[image.mode])
            self._orientation = _orientation(image)
            shape = (image.width, image.height) if self._orientation in _TRANSPOSED else (image.height, image.width)
            super().__init__(Geometry(shape), channels, np.dtype(np.uint16 if deep else np.uint8))
            if self._orientation != _UPRIGHT:
                self.file_warnings = ("orientation_applied",)

    def _decode(self) -> NDArray[Any]:
        try:
            if self.dtype == np.uint16:
                array = png_decode(self._path.read_bytes())
                pixels = array[None] if array.ndim == 2 else _opaque(array)  # (C, H, W) as stored
            else:
                with _open_header(self._path) as image:
                    pixels = _decode_8_bits(image, self._read_labels)  # (C, H, W) as stored
        except _PILLOW_ERRORS as error:
            raise BrokenImage("picture_broken", "the picture's pixels can't be decoded; export the picture again") from error
        # EXIF 2.32, 4.6.4: which sides of the picture row 0 and column 0 are
        if self._orientation in _TRANSPOSED:
            pixels = pixels.swapaxes(1, 2)
        row_step = -1 if self._orientation in _ROWS_REVERSED else 1
        column_step = -1 if self._orientation in _COLUMNS_REVERSED else 1
        return pixels[:, ::row_step, ::column_step]


def _open_header(path: Path) -> ImageFile:
    """Open a picture with the plugin of its own format: `Image.open` would guess the format and apply another limit."""
    with path.open("rb") as file:
        plugin = PngImageFile if file.read(len(PNG_MAGIC)) == PNG_MAGIC else JpegImageFile
    try:
        return plugin(path)
    except _PILLOW_ERRORS as error:
        raise BrokenImage("picture_broken", "the picture's header can't be read; export the picture again") from error


def _raw_mode(image: ImageFile) -> str:
    """Return Pillow's name for the pixels as the file stores them, such as L;2 for grey of 2 bits."""
    args = image.tile[0][3] if image.tile else ""
    return str(args if isinstance(args, str) or not args else args[0])


def _orientation(image: ImageFile) -> int:
    """Return EXIF's orientation, 1 to 8; 1 where it is missing or unreadable, as viewers show the picture."""
    exif = Exif()
    try:
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(_ORIENTATION_TAG)
    except _PILLOW_ERRORS:
        return _UPRIGHT
    return orientation if type(orientation) is int and 1 <= orientation <= 8 else _UPRIGHT


def _decode_8_bits(image: ImageFile, read_labels: bool) -> NDArray[Any]:
    """Return the pixels (C, H, W), uint8; labels as they are stored."""
    step = _STRETCH.get(_raw_mode(image), 1) if read_labels else 1  # before decoding, which empties `image.tile`
    array = np.array(image if read_labels and image.mode in ("P", "1") else _with_alpha_channel(image))
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.ndim == 2:
        return array[None] // step if step > 1 else array[None]  # (1, H, W)
    return _opaque(array)


def _opaque(array: NDArray[Any]) -> NDArray[Any]:
    """(H, W, C with or without alpha) -> (C, H, W)."""
    array = np.moveaxis(array, -1, 0)  # (C, H, W)
    return array if array.shape[0] == 3 else over_white(array[:-1], array[-1])


def _with_alpha_channel(image: ImageFile) -> Any:
    """Convert the image to a mode that numpy reads as grey or colours, with transparency as a channel."""
    if "transparency" in image.info and image.mode in ("P", "RGB"):
        return image.convert("RGBA")
    if "transparency" in image.info and image.mode in ("1", "L"):
        return image.convert("LA")
    return image.convert({"P": "RGB", "1": "L"}.get(image.mode, image.mode))
