"""Declarations of data sets: classes with their values, ignored pixels and channels, as a layout's own files give them."""
