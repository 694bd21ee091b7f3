"""Exit codes of the command line, and the base class of the errors that it reports without a traceback."""

CONFIG, DATA, NUMERIC, STORAGE, INTERRUPTED = 2, 3, 5, 6, 130  # 0 is success; a signal ends with 128 plus its number


class OvertileError(Exception):
    """Error that a user can act on; its message says what to do."""

    @property
    def exit_code(self) -> int:
        """Exit code of a command that ends with this error."""
        return CONFIG
