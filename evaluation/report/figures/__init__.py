"""Figures of the reports as plain numbers, which the templates draw as SVG in the colours of the page."""
