"""How much of a run is over: of its steps or of its minutes, whichever is ahead."""

import math
import time


class Clock:
    """Goes on where it stopped when a run goes on; it asks the monotonic clock, so a change of the date does no harm.

    Args:
        max_steps: of the run.
        max_minutes: of the run, all its sittings together; None: as long as the steps take.

    Attributes:
        ending_s: what the run still takes after its last step; whoever does it says how long.
    """

    def __init__(self, max_steps: int, max_minutes: float | None) -> None:
        self.max_steps = max_steps
        self.max_seconds = max_minutes * 60 if max_minutes is not None else None
        self.ending_s = 0.0
        self._before_s = 0.0  # earlier sittings
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """That the run took so far."""
        return self._before_s + time.monotonic() - self._began

    @property
    def left_s(self) -> float:
        """For steps, until the run has to come to its end; infinity where minutes aren't limited."""
        return math.inf if self.max_seconds is None else self.max_seconds - self.ending_s - self.seconds

    def progress(self, step: int) -> float:
        """The share of the run that is over when `step` optimizer steps are done, 0 .. 1."""
        share, seconds = step / self.max_steps, self.seconds
        if self.max_seconds is not None:
            share = max(share, seconds / max(self.max_seconds - self.ending_s, seconds))
        return min(share, 1.0)

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Adds an earlier sitting's time to what this one took since it began, its set-up included."""
        self._before_s = state["seconds"]
