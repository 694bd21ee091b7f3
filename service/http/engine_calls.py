"""Calls of the engine whose client waits for the answer: their number, their deadline and their cancellation."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from service.engine.errors import Cancelled, EngineCrashed, ModelGone, OutOfMemory
from service.engine.supervisor import Call, Supervisor
from service.errors import Busy, DeadlineExceeded, Unavailable
from service.limits import ServiceLimits

POLL_S = 0.25
CANCEL_S = 5.0  # for the engine to end a cancelled call; after that it is killed


class EngineCalls:
    """Access to the engine for a limited number of requests at a time.

    Args:
        engine: the engine's supervisor.
        limits: number of requests that may wait, and the deadline.
    """

    def __init__(self, engine: Supervisor, limits: ServiceLimits) -> None:
        self.engine, self._limits = engine, limits
        self._seats = limits.max_waiting + 1
        self._usage: Counter[str] = Counter()  # seats of each owner

    @contextmanager
    def seat(self, owner: str) -> Iterator[None]:
        """Hold one of the seats; an owner with half of all seats leaves the last quarter to others.

        Raises:
            Busy: no seat is free.
        """
        free = self._seats - self._usage.total()
        reserve = self._seats // 4 if self._usage[owner] >= self._seats // 2 else 0
        if free <= reserve:
            raise Busy("busy", "too many requests are waiting; send it again after the seconds in Retry-After")
        self._usage[owner] += 1
        try:
            yield
        finally:
            self._usage -= Counter([owner])  # drops owners without seats

    async def wait_until_ready(self) -> None:
        """Wait until the engine has loaded its models; it restarts within seconds.

        Raises:
            Unavailable: it isn't ready in time.
        """
        try:
            await run_in_threadpool(self.engine.wait)
        except EngineCrashed as error:
            raise unavailable(error) from error

    async def answer(self, call: Call, request: Request | None = None) -> dict[str, Any]:
        """Return the engine's answer; cancel the call when the client leaves or the deadline passes.

        Raises:
            DataError: the image can't be used.
            DeadlineExceeded: the call takes longer than `direct_timeout_s`.
            Unavailable: the engine crashed, has no memory left, or the model was unloaded.
        """
        waited_s = 0.0
        future = asyncio.wrap_future(call.future)
        try:
            while True:
                finished, _ = await asyncio.wait({future}, timeout=POLL_S)
                if finished:
                    return future.result()
                waited_s += POLL_S
                if waited_s > self._limits.direct_timeout_s:
                    raise DeadlineExceeded(
                        "deadline_exceeded", "the image takes longer than a direct call may; send it as a job"
                    )
                if request is not None and await request.is_disconnected():
                    raise Cancelled
        except (EngineCrashed, ModelGone, OutOfMemory) as error:
            raise unavailable(error) from error
        finally:
            if not call.future.done():
                self._cancel(call)

    def _cancel(self, call: Call) -> None:
        """Cancel a call, and restart the engine if the call goes on."""
        call.cancel()

        def restart_if_running(future: Future[Any] = call.future) -> None:
            if not future.done():
                self.engine.restart()

        threading.Timer(CANCEL_S, restart_if_running).start()


def unavailable(error: Exception) -> Unavailable:
    """Return the error for the client when the engine crashed, ran out of memory or lost the model."""
    if isinstance(error, ModelGone):
        return Unavailable("model_unavailable", "the model was unloaded; GET /v1/models lists the loaded models")
    if isinstance(error, OutOfMemory):
        return Unavailable(
            "out_of_memory", "the image needs more memory than the server has free; send it as a job, or send a part of it"
        )
    return Unavailable("worker_crashed", "the process that worked on the image crashed; send it again")
