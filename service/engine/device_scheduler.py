"""Who has the device: passes of networks one at a time, those of small calls first, without starving the large.

A pass of a network is the smallest piece of work; between two of them whoever waits may come in. Whoever has many small calls
waiting gets no more turns than whoever has one. What a pass gives doesn't
depend on what runs beside it: tiles of several images share one only where a batch always has the same size, filled up with
tiles of nothing, so that the device goes through the same operations whatever is in it.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inference.predictors.runtime import Pass

MOST_AHEAD = 4.0  # seconds of the device that small calls may have for each second that a large one waits for it


@dataclass(eq=False)
class _Waiting:
    """A pass that is wanted."""

    run: Pass
    patches: Tensor
    owner: str | None
    batch_size: int
    done: threading.Event = field(default_factory=threading.Event)
    answer: Tensor | None = None
    error: BaseException | None = None

    @property
    def urgent(self) -> bool:
        """Whether it is a small call's, whose owner waits for the answer."""
        return self.owner is not None

    def can_join(self, other: "_Waiting") -> bool:
        """Whether both could go through the network together."""
        return self.run is other.run and self.patches.shape[1:] == other.patches.shape[1:]


class Turns:
    """One device's.

    Args:
        joins: whether tiles of several images share a batch: on a GPU, where a batch costs little more than a tile.
    """

    def __init__(self, *, joins: bool = False) -> None:
        self.joins = joins
        self._lock = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._busy = False
        self._credit = 0.0  # seconds that small calls had since a large one's last pass
        self._large_s = 0.0  # that a large one's pass takes
        self._last: dict[str | None, float] = {}  # when each of those who wait had their last turn
        self._local = threading.local()

    @contextmanager
    def urgently(self, owner: str) -> Iterator[None]:
        """The passes of this thread are a small call's."""
        self._local.owner = owner
        try:
            yield
        finally:
            self._local.owner = None

    def gate(self, run: Pass, batch_size: int = 1) -> Pass:
        """The same pass, which waits for its turn."""

        def in_turn(patches: Tensor) -> Tensor:
            return self._passed(_Waiting(run, patches, getattr(self._local, "owner", None), batch_size))

        return in_turn

    def _passed(self, mine: _Waiting) -> Tensor:
        """The answer, which this thread makes, or another one with its own."""
        with self._lock:
            self._waiting.append(mine)
            self._lock.wait_for(lambda: mine.done.is_set() or (not self._busy and self._next() is mine))
            together = [] if mine.done.is_set() else self._taken(mine)
        if together:
            self._run(together)
        if mine.error is not None:
            raise mine.error
        if mine.answer is None:
            raise RuntimeError("a pass ended without an answer")
        return mine.answer

    def _next(self) -> _Waiting:
        """Urgent ones first, the owner first who had none for longest; a large one whose turn is overdue before them."""
        large = [each for each in self._waiting if not each.urgent]
        urgent = [each for each in self._waiting if each.urgent]
        if not urgent or (large and self._credit > MOST_AHEAD * self._large_s):
            return (large or urgent)[0]
        return min(urgent, key=lambda each: self._last.get(each.owner, 0.0))

    def _taken(self, mine: _Waiting) -> list[_Waiting]:
        """Those that go through now: mine, and what fits into its batch."""
        together, room = [mine], mine.batch_size - len(mine.patches)
        for other in self._waiting if self.joins else ():
            if other is not mine and other.can_join(mine) and len(other.patches) <= room:
                together.append(other)
                room -= len(other.patches)
        self._waiting = [each for each in self._waiting if each not in together]
        owners = {each.owner for each in self._waiting}
        self._last = {owner: last for owner, last in self._last.items() if owner in owners}
        self._last |= {each.owner: time.monotonic() for each in together}
        self._busy = True
        return together

    def _run(self, together: list[_Waiting]) -> None:
        began = time.monotonic()
        try:
            self._answer(together)
        except BaseException as error:  # noqa: BLE001  (each of them raises it in its own thread)
            for each in together:
                each.error = error
        finally:
            with self._lock:
                self._count(together, time.monotonic() - began)
                for each in together:
                    each.done.set()
                self._busy = False
                self._lock.notify_all()

    def _count(self, together: list[_Waiting], seconds: float) -> None:
        if any(not each.urgent for each in together):
            self._credit, self._large_s = 0.0, seconds
        elif any(not each.urgent for each in self._waiting):
            self._credit += seconds

    def _answer(self, together: list[_Waiting]) -> None:
        first = together[0]
        if not self.joins:
            first.answer = first.run(first.patches)
            return
        patches = torch.cat([each.patches for each in together])
        if (missing := first.batch_size - len(patches)) > 0:
            patches = torch.cat([patches, patches.new_zeros((missing, *patches.shape[1:]))])
        answers = first.run(patches)
        start = 0
        for each in together:
            each.answer = answers[start : start + len(each.patches)]
            start += len(each.patches)
