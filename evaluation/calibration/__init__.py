"""Calibration of probabilities: samples of pixels, the temperature that fits them, and reliability diagrams."""
