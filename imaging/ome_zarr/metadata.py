"""A Zarr folder's metadata files, read within limits, and the errors that all who parse them raise."""

from pathlib import Path

from imaging.errors import BrokenImage, UnsupportedFormat

MAX_METADATA_BYTES = 16 * 2**20


def metadata_bytes(root: Path, path: Path) -> bytes:
    """Return the content of a metadata file below `root`, which is resolved.

    Raises:
        BrokenImage: `zarr_metadata_missing`, `zarr_metadata_too_large`.
        UnsupportedFormat: `zarr_path_outside`: a link leads out.
    """
    path = path.resolve()
    if not path.is_relative_to(root):
        raise path_outside()
    if not path.is_file():  # a pipe would be waited for
        raise _metadata_missing()
    try:
        with path.open("rb") as file:
            content = file.read(MAX_METADATA_BYTES + 1)
    except OSError as error:
        raise _metadata_missing() from error
    if len(content) > MAX_METADATA_BYTES:
        raise BrokenImage(
            "zarr_metadata_too_large",
            f"a metadata file of the OME-Zarr has over {MAX_METADATA_BYTES} bytes, which none needs; export the image again",
        )
    return content


def metadata_invalid() -> BrokenImage:
    """Return the error for metadata that violate the format's specification."""
    return BrokenImage(
        "zarr_metadata_invalid",
        "the OME-Zarr's metadata aren't what OME-Zarr 0.4 with Zarr 2, or 0.5 with Zarr 3, says; export the image again",
    )


def _metadata_missing() -> BrokenImage:
    return BrokenImage(
        "zarr_metadata_missing", "a metadata file of the OME-Zarr is missing or can't be read; copy the whole folder again"
    )


def path_outside() -> UnsupportedFormat:
    """Return the error for a level that lies outside of its group."""
    return UnsupportedFormat(
        "zarr_path_outside", "a level of the OME-Zarr lies outside its folder; save the image with all of its levels inside"
    )
