"""Error of bundles, in a file of its own so that the command line can import it without torch."""


class BundleError(Exception):
    """A bundle that can't be read or trusted. The message says what to do."""
