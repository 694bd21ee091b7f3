"""Networks from tensors to logits, one per file, and the bundle that stores trained ones."""
