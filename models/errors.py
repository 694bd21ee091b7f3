"""What can be wrong with a bundle; light, so that the command line can know it without loading torch."""


class BundleError(Exception):
    """A bundle that can't be trusted or can't be read; the message says what to do."""
