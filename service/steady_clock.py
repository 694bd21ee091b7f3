"""The time by which things expire: it doesn't leap when the machine's clock is set."""

import time

_BEGAN = time.time() - time.monotonic()


def steady_time() -> float:
    """Seconds since 1970, as the clock says them, but never more than have passed since the process began.

    A clock that is set forward by a year makes nothing expire; what does, expires after the next start.
    """
    return min(time.time(), _BEGAN + time.monotonic())
