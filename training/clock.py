"""The clock of a run: how much of its steps or minutes is over."""

import math
import time


class Clock:
    """Measures the time of a run over all its sessions, with the monotonic clock.

    Args:
        max_steps: of the run.
        max_minutes: of the run, all sessions together; None: no limit.

    Attributes:
        reserved_s: time needed after the last step, for validation and bundle; set by the scheduler.
    """

    def __init__(self, max_steps: int, max_minutes: float | None) -> None:
        self.max_steps = max_steps
        self.max_seconds = max_minutes * 60 if max_minutes is not None else None
        self.reserved_s = 0.0
        self._earlier_s = 0.0  # of earlier sessions
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Return the seconds that the run took so far."""
        return self._earlier_s + time.monotonic() - self._start

    @property
    def remaining_s(self) -> float:
        """Return the seconds that remain for steps; infinity if minutes aren't limited."""
        return math.inf if self.max_seconds is None else self.max_seconds - self.reserved_s - self.seconds

    def progress(self, step: int) -> float:
        """Return the fraction of the run, 0 .. 1, that is over after `step` optimizer steps: by steps or time, the larger."""
        fraction, seconds = step / self.max_steps, self.seconds
        if self.max_seconds is not None:
            fraction = max(fraction, seconds / max(self.max_seconds - self.reserved_s, seconds))
        return min(fraction, 1.0)

    def state_dict(self) -> dict[str, float]:
        """Return the state for a checkpoint."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Add the time of earlier sessions to the time since this session began, its set-up included."""
        self._earlier_s = state["seconds"]
