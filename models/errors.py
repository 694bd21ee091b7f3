"""Error of bundles, in a file of its own so that the command line can import it without torch."""

from configs.errors import OvertileError


class BundleError(OvertileError):
    """A bundle that can't be read or trusted. The message says what to do."""
