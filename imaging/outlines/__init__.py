"""Conversion between masks and outlines of objects."""
