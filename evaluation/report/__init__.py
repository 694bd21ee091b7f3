"""Self-contained HTML pages and the plots that they show."""
