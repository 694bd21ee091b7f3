"""Sizes that compressed tiles declare: decoders allocate memory for the declared size, not for the tile's."""

JPEG = 7
JPEG_2000 = (33003, 33005, 34712)
APERIO_YCBCR = 33003  # JPEG 2000 in YCbCr that isn't marked as such

_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # tables, an extension, conditioning
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_SCAN, _END = 0xDA, 0xD9
_JPEG_2000_MAGIC = b"\xff\x4f\xff\x51"


def check_stream(data: bytes, compression: int, shape: tuple[int, int], samples: int) -> None:
    """Check that a JPEG or JPEG 2000 stream is no larger than its tile.

    Args:
        data: the compressed tile or strip.
        compression: TIFF's number.
        shape: (H, W) of the tile or strip.
        samples: number of values of a pixel.

    Raises:
        ValueError: it is larger, or declares no size.
    """
    if compression == JPEG:
        declared_size = _jpeg_size(data)
    elif compression in JPEG_2000:
        declared_size = _jpeg_2000_size(data)
    else:
        return
    if not all(0 < size <= limit for size, limit in zip(declared_size, (*shape, samples), strict=True)):
        raise ValueError(f"a tile of {shape} x {samples} holds a picture of {declared_size}")


def _jpeg_size(data: bytes) -> tuple[int, int, int]:
    """Return (H, W, components) of the first frame (ITU T.81, B.2.2)."""
    place = 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 10 <= len(data):
        marker = data[place + 1]
        if marker in _FRAMES:
            return int.from_bytes(data[place + 5 : place + 7]), int.from_bytes(data[place + 7 : place + 9]), data[place + 9]
        if marker in (_SCAN, _END):
            break
        is_padding = marker in (0x00, 0xFF)
        place += 1 if is_padding else 2 if marker in _ALONE else 2 + int.from_bytes(data[place + 2 : place + 4])
    raise ValueError("a JPEG without a frame")


def _jpeg_2000_size(data: bytes) -> tuple[int, int, int]:
    """Return (H, W, components) of a bare codestream (ISO 15444-1, A.5.1)."""
    if not data.startswith(_JPEG_2000_MAGIC) or len(data) < 42:
        raise ValueError("not a JPEG 2000 codestream")
    width, height, left, top = (int.from_bytes(data[place : place + 4]) for place in (8, 12, 16, 20))
    return height - top, width - left, int.from_bytes(data[40:42])
