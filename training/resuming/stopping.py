"""SIGTERM and SIGINT: a run saves its state before it ends, with the exit code that the signal would have caused."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from training.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Context that handles SIGTERM and SIGINT, and restores the earlier handlers at its end.

    Only the first signal counts, so that a second one can't interrupt saving.

    Attributes:
        received: the signal's number, or None.
        stop_immediately: whether a signal raises `Stopped` where it arrives, since there is nothing to save; otherwise it is
            only stored in `received`.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.stop_immediately = True
        self._earlier_handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._earlier_handlers = {number: signal.getsignal(number) for number in SIGNALS}
        self.install()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if _in_main_thread():
            for number, handler in self._earlier_handlers.items():
                signal.signal(number, handler)

    def install(self) -> None:
        """Install the handlers, also in place of those of a library; only the main thread can have any."""
        if _in_main_thread():
            for number in SIGNALS:
                signal.signal(number, self._handle)

    def stop_if_received(self) -> None:
        """Do nothing unless a signal came.

        Raises:
            Stopped: a signal came.
        """
        if self.received is not None:
            raise Stopped(self.received)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            if self.stop_immediately:
                raise Stopped(number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
