"""OME-Zarr images and labels, versions 0.4 and 0.5."""
