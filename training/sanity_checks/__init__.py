"""Sanity checks (`overtile check`): fourteen checks of a config before a long training."""
