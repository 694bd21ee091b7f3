"""What can go wrong in a run besides its config and its data; light, so that the command line can know it."""


class NumericError(Exception):
    """The loss is no longer a number; the message says at which step and what to do."""
