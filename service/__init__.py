"""HTTP <-> inference: the BentoML service, its routes, and the packaging of bundles."""
