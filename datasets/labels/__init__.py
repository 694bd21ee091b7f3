"""Labels of references: their counts, and their kind where nobody declares classes."""
