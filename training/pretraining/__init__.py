"""Weights to begin with: a warm start, and the pretraining of an encoder."""
