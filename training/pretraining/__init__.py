"""Initial weights: warm start from other weights, and pretraining of an encoder on unlabelled images."""
