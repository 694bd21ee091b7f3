"""Outputs of an image: the files that are written for it, and what is measured on its finished mask."""
