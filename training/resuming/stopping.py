"""SIGTERM and SIGINT: a run that is told to stop saves its state first, and then ends as if the signal had ended it."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from training.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Takes signals in place of whoever took them before, until it is left.

    The first one counts; later ones change nothing, so that saving isn't cut short.

    Attributes:
        received: its number, or None.
        at_once: whether a signal ends what goes on where it is, since nothing of it is worth keeping; else it is noted.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.at_once = True
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self.install()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if _can_install():
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def install(self) -> None:
        """Puts the handlers in place, again where a library put its own; outside of the main thread there can be none."""
        if _can_install():
            for number in SIGNALS:
                signal.signal(number, self._take)

    def stop_if_received(self) -> None:
        """Nothing, where no signal came.

        Raises:
            Stopped: one did.
        """
        if self.received is not None:
            raise Stopped(self.received)

    def _take(self, number: int, _: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            if self.at_once:
                raise Stopped(number)


def _can_install() -> bool:
    return threading.current_thread() is threading.main_thread()
