"""Discovery of the cases in a folder: rows of a table, files that lie beside images, and pairs by name."""
