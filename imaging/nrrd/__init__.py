"""NRRD volumes."""
