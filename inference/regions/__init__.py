"""Regions of an image that are segmented: regions of interest and tissue."""
