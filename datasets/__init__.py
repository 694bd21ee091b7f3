"""A folder on disk -> cases, each an image with its reference; which train and which validate; what is wrong with them."""
