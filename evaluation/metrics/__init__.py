"""Metrics that compare a mask with its reference."""
