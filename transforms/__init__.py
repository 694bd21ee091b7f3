"""Transforms of arrays: normalisation, and random augmentation in training."""
