"""Predictors: a bundle's networks as functions of patches, and the runtimes that execute them."""
