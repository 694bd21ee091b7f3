"""The training objective: losses, targets and pixel weights, and the score of a validation."""
