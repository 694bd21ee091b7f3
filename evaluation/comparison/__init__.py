"""Comparison of two methods on the same held-out cases."""
