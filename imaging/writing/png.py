"""Palette PNG of a 2D mask, written row by row: values are labels, colours are for viewers."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ImageColor

from configs.sections import ClassSection
from imaging.png_jpeg import PNG_MAGIC
from imaging.source import Geometry
from imaging.writing.row_buffer import RowBuffer

_PALETTE_COLOUR = 3


def write_png(path: Path, rows: RowBuffer, geometry: Geometry, classes: Sequence[ClassSection]) -> None:
    """Write labels (H, W) with 8 bits a pixel. Pillow would hold all of them in memory, twice.

    Source: W3C, Portable Network Graphics, third edition, 2025.
    """
    height, width = rows.shape
    palette = b"".join(bytes(ImageColor.getrgb(section.colour)) for section in classes[:256])
    packing = zlib.compressobj(6)
    with path.open("wb") as file:
        file.write(PNG_MAGIC)
        _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _PALETTE_COLOUR, 0, 0, 0))
        _write_chunk(file, b"PLTE", palette)
        for band in rows.bands():
            lines = np.pad(band, ((0, 0), (1, 0)))  # (rows, 1 + W): each line begins with its filter, 0 for none
            _write_chunk(file, b"IDAT", packing.compress(lines.data))
        _write_chunk(file, b"IDAT", packing.flush())
        _write_chunk(file, b"IEND", b"")


def _write_chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
