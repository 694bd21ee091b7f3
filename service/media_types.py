"""The files that are handed out, by the endings of their names."""

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
    """Of a file of ours."""
    return next((media_type for ending, media_type in MEDIA_TYPES.items() if name.endswith(ending)), "application/octet-stream")
