"""What changes the weights, and how fast."""
