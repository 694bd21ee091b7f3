"""Resumable uploads of files."""
