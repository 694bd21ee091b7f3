"""The HTTP routes under /v1, a file a subject."""
