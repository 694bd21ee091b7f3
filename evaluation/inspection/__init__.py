"""Summary of a data set, as printed and shown by `overtile inspect`."""
