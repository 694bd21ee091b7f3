"""Media types of result files by the suffixes of their names, and formats of masks."""

MEDIA_TYPES = {
    ".png": "image/png",
    ".tiff": "image/tiff",
    ".nii.gz": "application/gzip",
    ".geojson": "application/geo+json",
    ".dcm": "application/dicom",
    ".zip": "application/zip",
    ".csv": "text/csv",
    ".json": "application/json",
}
FORMATS = ("png", "tiff", "nifti", "geojson", "dicom-seg", "ome-zarr")  # of masks


def media_type_of(name: str) -> str:
    """Return the media type of a result file."""
    return next((media_type for ending, media_type in MEDIA_TYPES.items() if name.endswith(ending)), "application/octet-stream")
