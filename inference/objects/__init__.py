"""Objects of a mask: how they are found, cleaned, split and measured, in bands of rows."""
