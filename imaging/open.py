"""A file -> the source that reads it, decided by what the file holds and never by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imaging.errors import BrokenImage, DataError, UnsupportedFormat
from imaging.guards import LOCAL, Guards
from imaging.nifti import head_of, is_nifti
from imaging.pictures import PNG_MAGIC, PictureSource
from imaging.slides import SlideSource, vendor_of
from imaging.source import ImageSource
from imaging.tiff import TiffSource, is_rgb8, opened
from imaging.volumes import VolumeSource

FORMATS = "PNG, JPEG, TIFF, slides that OpenSlide reads, NIfTI"

_JPEG_MAGIC = b"\xff\xd8\xff"
_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class _Reader:
    """`matches` sees the first bytes, uncompressed; `read` gets path, guards and labels."""

    matches: Callable[[bytes], bool]
    read: Callable[[Path, Guards, bool], ImageSource]


def open_image(
    path: Path, *, guards: Guards = LOCAL, labels: bool = False, spacing_um: tuple[float, ...] | None = None
) -> ImageSource:
    """The open image; leave it as a context manager.

    Args:
        path: the file, of any name.
        guards: how far the file is trusted. The readers' own limits are 2**29 pixels for what is held in memory, 10**11 for
            slides and tiled TIFF.
        labels: the file is a reference: stored values come as they are, a palette's indices for example.
        spacing_um: the user's word for the distance between pixels, in S order; None takes the file's.

    Raises:
        DataError: `file_missing` if there is no such file, `file_unreadable` if it may not be read.
        BrokenImage: `empty_file`, or what the reader finds broken.
        ImageTooLarge: by the header, before anything is decoded.
        UnsupportedFormat: `unsupported_format`, or a slide's maker whose format isn't read.
        UnsuitableImage: a sound image with pixels or dimensions that aren't read.
    """
    source = _opened(path, guards, labels)
    if spacing_um is not None:
        source.give_spacing(spacing_um)
    return source


def _opened(path: Path, guards: Guards, labels: bool) -> ImageSource:
    head = _head(path)
    for reader in _READERS:
        if reader.matches(head):
            return reader.read(path, guards, labels)
    raise UnsupportedFormat("unsupported_format", f"the file is of no format that is read; allowed are {FORMATS}")


def _head(path: Path) -> bytes:
    if not path.is_file():
        raise DataError("file_missing", "there is no such file; check the path")
    try:
        head = head_of(path)
        empty = path.stat().st_size == 0
    except OSError as error:
        raise DataError("file_unreadable", "the file can't be read; check its permissions and its disk") from error
    if empty:
        raise BrokenImage("empty_file", "the file is empty; send or export it again")
    return head


def _picture(path: Path, guards: Guards, labels: bool) -> ImageSource:
    return PictureSource(path, guards.max_pixels, read_labels=labels)


def _volume(path: Path, guards: Guards, labels: bool) -> ImageSource:
    return VolumeSource(path, guards.max_pixels)


def _tiff_or_slide(path: Path, guards: Guards, labels: bool) -> ImageSource:
    """OpenSlide for its makers' formats; a plain TIFF only if that loses nothing: it cuts everything to RGB of 8 bits."""
    with opened(path) as tiff:  # before OpenSlide, which ends the process on some broken tile sizes
        suits_openslide = is_rgb8(tiff) and not labels
    vendor = vendor_of(path)
    if vendor is None or (vendor == "generic-tiff" and not suits_openslide):
        return TiffSource(path, guards.max_pixels, read_labels=labels)
    return SlideSource(path, guards.max_pixels)


_READERS = (  # one line a format
    _Reader(lambda head: head.startswith(PNG_MAGIC), _picture),
    _Reader(lambda head: head.startswith(_JPEG_MAGIC), _picture),
    _Reader(lambda head: head.startswith(_TIFF_MAGICS), _tiff_or_slide),
    _Reader(is_nifti, _volume),
)
