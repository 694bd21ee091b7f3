"""Guards: the limits of opening and reading a file, and whether a process of its own opens it."""

from dataclasses import dataclass

from imaging.errors import ImageTooLarge

MAX_VOXELS = 2**29  # a reader's own limit for volumes
MAX_SLIDE_PIXELS = 10**11  # and for slides


@dataclass(frozen=True)
class Guards:
    """Limits of opening and reading a file; the same code runs for trusted and untrusted files.

    Args:
        isolated: a process of its own, under the limits below that start with `process_`, opens and reads the file.
        max_pixels: most pixels or voxels to take; None means each reader's own limit.
        max_pages: most pages of a TIFF, those of its pyramids included.
        max_volume_side: longest axis of a volume, voxels.
        max_volume_bytes: most that a volume's voxels may take as stored; None means no limit beside the voxels' number.
        max_gzip_ratio: most uncompressed bytes a compressed one may come to, once there are 16 MiB of them; None
            means no limit. Masks come to a thousand, images that were measured stay under ten.
        process_memory_bytes: address space of the reader's process; what it takes itself before a file is open is 0.2 GiB.
        process_cpu_s: processor time for one opening or one read.
        process_timeout_s: wall time for one opening or one read.
        process_read_bytes: most pixels that are asked for at once; larger regions are asked for in parts.
    """

    isolated: bool
    max_pixels: int | None = None
    max_pages: int = 65_536
    max_volume_side: int = 32_767
    max_volume_bytes: int | None = None
    max_gzip_ratio: int | None = None
    process_memory_bytes: int = 6 * 2**30
    process_cpu_s: int = 120
    process_timeout_s: float = 60.0
    process_read_bytes: int = 64 * 2**20


LOCAL = Guards(isolated=False)  # the user's own files, on the user's own machine
UPLOAD = Guards(  # files that came over the network
    isolated=True, max_pages=4096, max_volume_side=4096, max_volume_bytes=2**31, max_gzip_ratio=200
)


def check_voxels(voxels: int, longest: int, guards: Guards) -> None:
    """Before any voxel is read.

    Raises:
        ImageTooLarge: `volume_too_large`: too many, or too many in a row.
    """
    max_voxels = MAX_VOXELS if guards.max_pixels is None else guards.max_pixels
    if voxels > max_voxels:
        raise _volume_too_large(f"has {voxels} voxels, at most {max_voxels}", max_voxels)
    if longest > guards.max_volume_side:
        raise _volume_too_large(f"is {longest} voxels long, at most {guards.max_volume_side}", guards.max_volume_side)


def check_voxel_bytes(size_bytes: int, guards: Guards) -> None:
    """Check the size of the voxels as they are stored.

    Raises:
        ImageTooLarge: `volume_too_large`.
    """
    limit = guards.max_volume_bytes
    if limit is not None and size_bytes > limit:
        raise _volume_too_large(f"has voxels of {size_bytes} bytes, at most {limit}", limit)


def _volume_too_large(what: str, limit: int) -> ImageTooLarge:
    return ImageTooLarge("volume_too_large", f"the volume {what} are allowed; crop or resample it", limit)
