"""Data of a run: splits, open cases, locations of patches, and batches."""
