"""Guards: the limits of opening and reading a file, and whether a process of its own opens it."""

from dataclasses import dataclass

from imaging.errors import ImageTooLarge

MAX_VOXELS = 2**29  # limit for volumes where the guards have none
MAX_SLIDE_PIXELS = 10**11  # limit for slides where the guards have none


@dataclass(frozen=True)
class Guards:
    """Limits of opening and reading a file; the same code runs for trusted and untrusted files.

    Args:
        isolated: a separate process, under the limits below that start with `process_`, opens and reads the file.
        companions: the voxels of a header (.hdr) may be read from the file beside it (.img).
        max_pixels: upper limit of pixels or voxels; None means each reader's own limit.
        max_pages: upper limit of a TIFF's pages, those of its pyramids included.
        max_volume_side: upper limit of a volume's longest axis, voxels.
        max_volume_bytes: upper limit of a volume's voxels as stored; None means no limit but the number of voxels.
        max_gzip_ratio: upper limit of decompressed bytes for each compressed byte, beyond 16 MiB; None means no limit.
            Masks reach a thousand, measured images stay below ten.
        process_memory_bytes: address space of the reader's process, which takes 0.2 GiB before a file is open.
        process_cpu_s: processor time for one opening or one read.
        process_timeout_s: wall time for one opening or one read.
        process_read_bytes: upper limit of the pixels of one read; larger regions are read in parts.
    """

    isolated: bool
    companions: bool = False
    max_pixels: int | None = None
    max_pages: int = 65_536
    max_volume_side: int = 32_767
    max_volume_bytes: int | None = None
    max_gzip_ratio: int | None = None
    process_memory_bytes: int = 6 * 2**30
    process_cpu_s: int = 120
    process_timeout_s: float = 60.0
    process_read_bytes: int = 64 * 2**20


LOCAL = Guards(isolated=False, companions=True)  # the user's own files, on the user's own machine
UPLOAD = Guards(  # files that came over the network
    isolated=True, max_pages=4096, max_volume_side=4096, max_volume_bytes=2**31, max_gzip_ratio=200
)


def check_voxels(voxels: int, longest: int, guards: Guards) -> None:
    """Check the number of voxels, and of those along the longest axis, before any voxel is read.

    Raises:
        ImageTooLarge: `volume_too_large`.
    """
    max_voxels = MAX_VOXELS if guards.max_pixels is None else guards.max_pixels
    if voxels > max_voxels:
        raise _volume_too_large(f"has {voxels} voxels, but at most {max_voxels}", max_voxels)
    if longest > guards.max_volume_side:
        limit = guards.max_volume_side
        raise _volume_too_large(f"has an axis of {longest} voxels, but at most {limit}", limit)


def check_voxel_bytes(size_bytes: int, guards: Guards) -> None:
    """Check the size of the voxels as they are stored.

    Raises:
        ImageTooLarge: `volume_too_large`.
    """
    limit = guards.max_volume_bytes
    if limit is not None and size_bytes > limit:
        raise _volume_too_large(f"has voxels of {size_bytes} bytes in all, but at most {limit}", limit)


def _volume_too_large(what: str, limit: int) -> ImageTooLarge:
    return ImageTooLarge("volume_too_large", f"the volume {what} are allowed; crop or resample it", limit)
