"""Packaging of bundles as Bentos and for other programs."""
