"""HTTP layer: access control, request bodies, headers and logging."""
