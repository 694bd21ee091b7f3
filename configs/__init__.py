"""Config of a run: its schema, and the shipped experiments as YAML files."""
