"""What makes a run go on as if it had never stopped."""
