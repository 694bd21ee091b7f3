"""TIFF, OME-TIFF and ImageJ images."""
