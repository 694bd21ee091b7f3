"""Figures of scores as plain numbers, which the pages draw as SVG in their own colours."""
