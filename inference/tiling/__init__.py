"""Tile grids, stitching, and the memory that tiles take."""
