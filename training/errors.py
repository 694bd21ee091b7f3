"""What can end a run besides its config and its data; light, so that the command line can know it."""

from configs.errors import NUMERIC, OvertileError


class NumericError(OvertileError):
    """The loss is no number, again; the message says at which step, with which cases, and what to do."""

    exit_code = NUMERIC


class StorageError(OSError):
    """A checkpoint can't be written or none can be read; the message says which, why, and what to do."""


class Stopped(SystemExit):
    """The run was told to stop, and all that is to be kept is on the disk; ends the process as the signal would have.

    Args:
        signal_number: which signal it was; the exit code is 128 more, as shells have it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(128 + signal_number)
