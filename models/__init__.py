"""Tensors -> logits: one model a file, and the bundle that carries a trained one."""
