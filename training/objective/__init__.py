"""What is minimised, and what a validation goes by."""
