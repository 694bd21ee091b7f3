"""Training: from a config to a bundle, with its data, objective, optimization, resuming and monitoring."""
