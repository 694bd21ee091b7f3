"""Scores of masks against the references of a data set."""
