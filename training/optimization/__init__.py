"""Optimization: optimizers, learning rate schedules, precision, and the running mean of the weights."""
