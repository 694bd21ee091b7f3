"""Errors that end a run, besides those of config and data; imports nothing heavy, for the command line."""

from configs.errors import NUMERIC, OvertileError


class NumericError(OvertileError):
    """The loss is NaN or infinite and recovery failed, or it falls at no learning rate."""

    exit_code = NUMERIC


class StorageError(OSError):
    """A checkpoint can't be written, or none can be read."""


class Stopped(SystemExit):
    """A signal stopped the run after its state was saved; the process ends as if the signal had ended it.

    Args:
        signal_number: of the signal; the exit code is 128 more, as in shells.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(128 + signal_number)
