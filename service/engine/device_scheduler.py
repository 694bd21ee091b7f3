"""Scheduling of the device: one pass of a network at a time, those of direct calls before those of jobs.

A pass is the smallest piece of work: between two of them another image may come in. Owners of direct calls take turns, however
many calls each of them has, and a job gets a pass when direct calls have had the device for `DIRECT_SHARE` times as long as a
pass of a job takes. The output of a pass doesn't depend on what else runs: tiles of several images share a batch only where
every batch is filled up to the same size, so that the device performs the same operations whatever the batch contains.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inference.predictors.runtime import Pass

DIRECT_SHARE = 4.0  # seconds of the device for direct calls, for each second that a pass of a waiting job takes


@dataclass(eq=False)
class _PendingPass:
    """Pass that waits for the device; `owner` is None for a job, whose client doesn't wait for the answer."""

    run: Pass
    patches: Tensor
    owner: str | None
    batch_size: int
    is_done: threading.Event = field(default_factory=threading.Event)
    output: Tensor | None = None
    error: BaseException | None = None

    @property
    def is_direct(self) -> bool:
        """True for a pass of a direct call, False for one of a job."""
        return self.owner is not None

    def can_join(self, other: "_PendingPass") -> bool:
        """Return whether the patches of both can share a batch."""
        return self.run is other.run and self.patches.shape[1:] == other.patches.shape[1:]


class DeviceScheduler:
    """Scheduler of one device, which the threads of all requests share.

    Args:
        joins: whether tiles of several images share a batch; worth it on a GPU, where a batch costs little more than a tile.
    """

    def __init__(self, *, joins: bool = False) -> None:
        self.joins = joins
        self._lock = threading.Condition()
        self._pending: list[_PendingPass] = []
        self._is_busy = False
        self._direct_s = 0.0  # time that direct calls had since the last pass of a job
        self._job_pass_s = 0.0  # time of the last pass of a job
        self._last_pass: dict[str | None, float] = {}  # when each owner with a pending pass had the last one
        self._local = threading.local()

    @contextmanager
    def direct_call(self, owner: str) -> Iterator[None]:
        """Mark the passes of this thread as a direct call of `owner`."""
        self._local.owner = owner
        try:
            yield
        finally:
            self._local.owner = None

    def schedule(self, run: Pass, batch_size: int = 1) -> Pass:
        """Return the same pass, but one that waits for the device."""

        def scheduled_pass(patches: Tensor) -> Tensor:
            own = _PendingPass(run, patches, getattr(self._local, "owner", None), batch_size)
            with self._lock:
                self._pending.append(own)
                self._lock.wait_for(lambda: own.is_done.is_set() or (not self._is_busy and self._next() is own))
                batch = [] if own.is_done.is_set() else self._take_batch(own)
            if batch:  # otherwise the thread of another image has run this pass with its own
                self._run(batch)
            if own.error is not None:
                raise own.error
            if own.output is None:
                raise RuntimeError("a pass ended without an output")
            return own.output

        return scheduled_pass

    def _next(self) -> _PendingPass:
        """Return the pass to run next: of the owner who has waited longest since the last one, or of a job that is due."""
        jobs = [each for each in self._pending if not each.is_direct]
        direct = [each for each in self._pending if each.is_direct]
        if not direct or (jobs and self._direct_s > DIRECT_SHARE * self._job_pass_s):
            return (jobs or direct)[0]
        return min(direct, key=lambda each: self._last_pass.get(each.owner, 0.0))

    def _take_batch(self, own: _PendingPass) -> list[_PendingPass]:
        """Take a pass, and others that fit into its batch, off the pending ones, and reserve the device for them."""
        batch, free = [own], own.batch_size - len(own.patches)
        for other in self._pending if self.joins else ():
            if other is not own and other.can_join(own) and len(other.patches) <= free:
                batch.append(other)
                free -= len(other.patches)
        self._pending = [each for each in self._pending if each not in batch]
        owners = {each.owner for each in self._pending}
        self._last_pass = {owner: time_s for owner, time_s in self._last_pass.items() if owner in owners}
        self._last_pass |= {each.owner: time.monotonic() for each in batch}
        self._is_busy = True
        return batch

    def _run(self, batch: list[_PendingPass]) -> None:
        """Run a batch, and set the output or the error of each of its passes."""
        start_s = time.monotonic()
        try:
            outputs = _outputs_of(batch, fills=self.joins)
            for each, output in zip(batch, outputs, strict=True):
                each.output = output
        except BaseException as error:  # noqa: BLE001  (each pass raises it in its own thread)
            for each in batch:
                each.error = error
        finally:
            seconds = time.monotonic() - start_s
            with self._lock:
                if any(not each.is_direct for each in batch):
                    self._direct_s, self._job_pass_s = 0.0, seconds
                elif any(not each.is_direct for each in self._pending):
                    self._direct_s += seconds
                for each in batch:
                    each.is_done.set()
                self._is_busy = False
                self._lock.notify_all()


def _outputs_of(batch: list[_PendingPass], *, fills: bool) -> list[Tensor]:
    """Return the output of each pass of a batch; `fills` adds zeros up to the batch size."""
    first = batch[0]
    if not fills:
        return [first.run(first.patches)]
    patches = torch.cat([each.patches for each in batch])
    missing = first.batch_size - len(patches)
    if missing > 0:
        patches = torch.cat([patches, patches.new_zeros((missing, *patches.shape[1:]))])
    sizes = [len(each.patches) for each in batch]
    outputs = first.run(patches)
    return list(torch.split(outputs[: sum(sizes)], sizes))
