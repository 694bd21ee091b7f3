"""DICOM volumes, segmentations and whole slides."""
