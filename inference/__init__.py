"""Image -> probability -> mask: tiles, predictors, stitching, and the whole flow."""
