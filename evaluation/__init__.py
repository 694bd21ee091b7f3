"""Masks -> numbers and pictures: metrics, the comparison of two methods, the report."""
