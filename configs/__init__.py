"""What a run is: the schema and the shipped experiments."""
