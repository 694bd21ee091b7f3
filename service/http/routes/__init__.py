"""The HTTP routes, a file a subject; thin: receive, hand on, answer."""
