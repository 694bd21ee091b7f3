"""Inference: tiles, predictors, stitching, and the flow from an image to its mask."""
