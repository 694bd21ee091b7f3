"""Studies: many small trainings or predictions that answer one question about the two methods."""
