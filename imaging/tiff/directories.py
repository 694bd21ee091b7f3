"""Directories of untrusted TIFF files: classic, BigTIFF and Hamamatsu's NDPI, in both byte orders."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.errors import BrokenImage, DataError, UnsupportedFormat

TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_MAX_TAGS = 256
_MAX_PAYLOAD_BYTES = 16 * 2**20
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGER_TYPES = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_SUB_IFDS_TAG = 330
_NDPI_TAG = 65420
_LOW_HALF = 2**32 - 1
_BEYOND_ANY_FILE = 2**42  # the largest position that file systems accept


@dataclass(frozen=True)
class TiffFormat:
    """Variant of the TIFF format: sizes and byte order of its directories.

    Args:
        order: "<" or ">", the sign for the byte order in struct and numpy.
        big: BigTIFF: 8 bytes where classic TIFF has 4.
        ndpi: classic, but with 8 bytes for a directory's offset, and without the upper half of other offsets.
    """

    order: str
    big: bool
    ndpi: bool = False

    @cached_property
    def entry(self) -> struct.Struct:
        """Struct of one tag: its number, type, count, and the values or their offset."""
        return struct.Struct(self.order + ("HHQQ" if self.big else "HHII"))

    @cached_property
    def count(self) -> struct.Struct:
        """Struct of the number of tags in a directory."""
        return struct.Struct(self.order + ("Q" if self.big else "H"))

    @cached_property
    def following(self) -> struct.Struct:
        """Struct of the next directory's offset."""
        return struct.Struct(self.order + ("Q" if self.big or self.ndpi else "I"))

    @property
    def inline_bytes(self) -> int:
        """Largest size of values that are stored in the tag itself."""
        return 8 if self.big else 4


class _Entry(NamedTuple):
    kind: int
    values: int
    size_bytes: int
    place: int


class Ifd:
    """Directory whose tags lie inside the file; values are read on request."""

    def __init__(self, file: BinaryIO, form: TiffFormat, place: int, entries: dict[int, _Entry], *, is_sub: bool) -> None:
        self.is_sub = is_sub
        self._file = file
        self._form = form
        self._place = place
        self._entries = entries

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    @property
    def size_bytes(self) -> int:
        """Size of all its values, bytes."""
        return sum(entry.size_bytes for entry in self._entries.values())

    def count(self, tag: int) -> int:
        """Return the number of values of a tag."""
        return self._entries[tag].values if tag in self._entries else 0

    def numbers(self, tag: int) -> NDArray[np.uint64]:
        """Return a tag's integers; none where the tag is missing.

        Raises:
            BrokenImage: `tiff_bad_ifd` if they aren't whole numbers of 0 or more.
        """
        if tag not in self._entries:
            return np.zeros(0, np.uint64)
        kind = _INTEGER_TYPES.get(self._entries[tag].kind)
        if kind is None:
            raise bad_ifd()
        return np.frombuffer(self.payload(tag), self._form.order + kind).astype(np.uint64)

    def number(self, tag: int, default: int) -> int:
        """Return a tag's first integer.

        Raises:
            BrokenImage: `tiff_bad_ifd` if it isn't a whole number of 0 or more.
        """
        if self.count(tag) == 0:
            return default
        entry = self._entries[tag]
        if entry.kind not in _INTEGER_TYPES:
            raise bad_ifd()
        self._file.seek(entry.place)
        return int.from_bytes(self._file.read(_TYPE_BYTES[entry.kind]), "little" if self._form.order == "<" else "big")

    def payload(self, tag: int) -> bytes:
        """Return a tag's bytes as stored; none where the tag is missing."""
        if tag not in self._entries:
            return b""
        self._file.seek(self._entries[tag].place)
        return self._file.read(self._entries[tag].size_bytes)

    def far(self, places: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return offsets in the file with their upper half, which NDPI leaves out."""
        if not self._form.ndpi:
            return places
        return np.array([_far(self._form, self._place, int(place)) for place in places], np.uint64)


def bad_ifd() -> DataError:
    """Return the error for a directory that contradicts itself or the format."""
    return BrokenImage("tiff_bad_ifd", "the TIFF's directory contradicts itself or the format; export the image again")


def truncated() -> DataError:
    """Return the error for data beyond the file's end."""
    return BrokenImage("tiff_truncated", "the TIFF points to data beyond its end; it was cut, send or export it again")


def walk(path: Path, file: BinaryIO, max_pages: int) -> Iterator[Ifd]:
    """Yield all directories, including those below others, in the order in which readers visit them.

    Args:
        path: path of the file.
        file: the open file.
        max_pages: upper limit of directories.

    Raises:
        UnsupportedFormat: `unsupported_format` if it isn't a TIFF.
        BrokenImage: `tiff_bad_ifd` for loops, too many directories or tags, repeated tags, tags of more
            than 16 MiB, or that overlap; `tiff_truncated` for data beyond the end.
    """
    size = path.stat().st_size
    form, first = _header(file, size)
    places = _chain(file, form, first, max_pages)
    visits: set[int] = set()
    read_bytes = 0
    waiting = [(place, False) for place in reversed(places)]
    while waiting:
        place, is_sub = waiting.pop()
        if place in visits:
            raise bad_ifd()  # a loop
        visits.add(place)
        ifd = Ifd(file, form, place, _directory(file, form, place, size), is_sub=is_sub)
        read_bytes += ifd.size_bytes
        if len(visits) > max_pages or ifd.count(_SUB_IFDS_TAG) > max_pages:
            raise _too_many(max_pages)
        if read_bytes > size + _MAX_PAYLOAD_BYTES:
            raise bad_ifd()  # overlapping values, which make a small file slow to read
        waiting += [(int(sub), True) for sub in reversed(ifd.far(ifd.numbers(_SUB_IFDS_TAG)))]
        yield ifd


def _too_many(max_pages: int) -> DataError:
    return BrokenImage(
        "tiff_bad_ifd", f"the TIFF has more than {max_pages} pages; save the image with fewer, several channels in one"
    )


def _header(file: BinaryIO, size: int) -> tuple[TiffFormat, int]:
    head = file.read(16)
    if head[:4] not in TIFF_MAGICS:
        raise UnsupportedFormat("unsupported_format", "not a TIFF; save the image as TIFF with tiles")
    form = TiffFormat("<" if head[:2] == b"II" else ">", big=b"+" in head[2:4])
    if len(head) < (16 if form.big else 8):
        raise truncated()
    if form.big and struct.unpack(form.order + "HH", head[4:8]) != (8, 0):
        raise bad_ifd()
    if form == TiffFormat("<", big=False):  # NDPI has the same magic, and 8 bytes for the first directory's offset
        ndpi, place = TiffFormat("<", big=False, ndpi=True), int.from_bytes(head[4:12], "little")
        try:
            is_ndpi = _NDPI_TAG in _directory(file, ndpi, place, size)
        except BrokenImage:
            is_ndpi = False
        if is_ndpi:
            return ndpi, place
    return form, int(form.following.unpack_from(head, 8 if form.big else 4)[0])


def _chain(file: BinaryIO, form: TiffFormat, first: int, max_pages: int) -> list[int]:
    """Return the offsets of the chained directories; `_directory` checks that they lie in the file."""
    places: dict[int, None] = {}
    place = first
    while place or not places:
        if place in places:
            raise bad_ifd()  # a loop
        if len(places) == max_pages:
            raise _too_many(max_pages)
        places[place] = None
        _, end = _ends(file, form, place)
        place = int(form.following.unpack(_read(file, end - form.following.size, form.following.size))[0])
    return list(places)


def _ends(file: BinaryIO, form: TiffFormat, place: int) -> tuple[int, int]:
    """Return the offsets of a directory's first tag and of its end."""
    if place < 8:
        raise bad_ifd()
    (count,) = form.count.unpack(_read(file, place, form.count.size))
    if not 0 < count <= _MAX_TAGS:
        raise bad_ifd()
    start = place + form.count.size
    return start, start + count * form.entry.size + form.following.size


def _read(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(min(place, _BEYOND_ANY_FILE))
    content = file.read(size)
    if len(content) < size:
        raise truncated()
    return content


def _directory(file: BinaryIO, form: TiffFormat, place: int, size: int) -> dict[int, _Entry]:
    """Return the checked tags of a directory; those of unknown types are left out (TIFF 6.0, section 2)."""
    start, end = _ends(file, form, place)
    entries: dict[int, _Entry] = {}
    tags = form.entry.iter_unpack(_read(file, start, end - start)[: -form.following.size])
    for index, (tag, kind, count, value) in enumerate(tags):
        if tag in entries:
            raise bad_ifd()
        if kind not in _TYPE_BYTES:
            continue
        size_bytes = count * _TYPE_BYTES[kind]
        inline_place = start + (index + 1) * form.entry.size - form.inline_bytes
        is_inline = size_bytes <= form.inline_bytes
        entries[tag] = _Entry(kind, count, size_bytes, inline_place if is_inline else _far(form, place, value))
    if max((entry.size_bytes for entry in entries.values()), default=0) > _MAX_PAYLOAD_BYTES:
        raise bad_ifd()
    outside = [entry for entry in entries.values() if entry.size_bytes > form.inline_bytes]
    spans = {(entry.place, entry.place + entry.size_bytes) for entry in outside}  # two tags may share all of their values
    if any(stop > size for _, stop in spans):
        raise truncated()
    ordered = sorted([*spans, (place, end)])
    if ordered[0][0] < 8 or any(after[0] < before[1] for before, after in pairwise(ordered)):
        raise bad_ifd()
    return entries


def _far(form: TiffFormat, directory: int, place: int) -> int:
    """Return an offset with its upper half: in NDPI, values precede their directory by less than 4 GiB.

    Source: openslide-decode-tifflike.c.
    """
    if not form.ndpi:
        return place
    far = (directory & ~_LOW_HALF) | (place & _LOW_HALF)
    return max(far - 2**32, far & _LOW_HALF) if far >= directory else far
