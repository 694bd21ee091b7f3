"""Isolation of untrusted files: each is opened in a process of its own."""
