"""The gateway's end of the engine: starts the process, hands it work, and starts it again when it dies or hangs."""

import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from service.engine.errors import EngineCrashed, decode_error
from service.engine.protocol import Message, Wire
from service.schemas import BrokenModelAnswer, ModelAnswer

PAUSES_S = (0.0, 0.2, 1.0, 5.0)  # before it is started again, the longer the oftener it died soon
SOON_S = 30.0
START_S = 30.0  # that work waits for an engine that starts again
OnProgress = Callable[[int, int], None]

_log = logging.getLogger("overtile.service")


@dataclass(eq=False)
class Call:
    """Work that the engine was given; `future` has its answer."""

    message: Message
    on_progress: OnProgress | None
    future: "Future[Message]" = field(default_factory=Future)
    cancel: Callable[[], bool] = lambda: False


class Supervisor:
    """One engine. Threads may share it.

    Args:
        settings: of `service.engine.loaded_models.Models`.
        bundles: name -> folder, to be loaded first.
        environment: of the process.
        timeout_s: without a word from it, it hangs and is killed.
    """

    def __init__(
        self, settings: Mapping[str, Any], bundles: Mapping[str, Path], environment: Mapping[str, str], timeout_s: float
    ) -> None:
        self.models: dict[str, ModelAnswer] = {}
        self.broken: dict[str, BrokenModelAnswer] = {}
        self.device = ""
        self.starts = 0
        self._settings, self._environment, self._timeout_s = dict(settings), dict(environment), timeout_s
        self._bundles = dict(bundles)
        self._numbers = itertools.count(1)
        self._calls: dict[int, Call] = {}
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._heard = time.monotonic()
        self._is_ready = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, name="engine", daemon=True)

    def start(self, timeout_s: float) -> None:
        """Starts the process and waits until its models are loaded.

        Raises:
            TimeoutError: they weren't.
        """
        self._thread.start()  # lives as long as this process: the engine is killed when the thread that started it ends
        threading.Thread(target=self._watch, name="engine watch", daemon=True).start()
        if not self._is_ready.wait(timeout_s):
            raise TimeoutError("the engine didn't load its models in time")

    def stop(self) -> None:
        """Ends the process; what it worked on can be gone on with."""
        self._ended.set()
        self._kill()
        self._thread.join(10)

    def restart(self) -> None:
        """Ends the process, which starts again: for work that doesn't end when it is called off."""
        self._kill()

    def wait(self, timeout_s: float = START_S) -> None:
        """Until a process is there that has loaded its models.

        Raises:
            EngineCrashed: there is none after that time.
        """
        if not self._is_ready.wait(timeout_s):
            raise EngineCrashed

    @property
    def is_ready(self) -> bool:
        """Whether a process is there that has loaded its models."""
        return self._is_ready.is_set()

    @property
    def process_id(self) -> int | None:
        """Of the engine that runs now."""
        return self._process.pid if self._process else None

    def ask(self, what: str, on_progress: OnProgress | None = None, **words: Any) -> Call:
        """Hands over work; its future raises what the engine does, or EngineCrashed."""
        number = next(self._numbers)
        call = Call({"id": number, "do": what, **words}, on_progress)
        call.cancel = partial(self._send, {"cancel": number})
        with self._lock:
            self._calls[number] = call
        if not self._send(call.message):
            self._settle(number, EngineCrashed())
        return call

    def load(self, name: str, folder: Path) -> Call:
        """A bundle beside the others, now and whenever the process starts again."""
        self._bundles[name] = folder
        return self.ask("load", bundles={name: str(folder)})

    def unload(self, name: str) -> Call:
        """Forgets a model."""
        self._bundles.pop(name, None)
        return self.ask("unload", model=name)

    def _send(self, message: Message) -> bool:
        wire = self._wire
        if wire is None:
            return False
        try:
            wire.send(message)
        except OSError:
            return False
        return True

    def _keep_running(self) -> None:
        died_soon = 0
        while not self._ended.is_set():
            began = time.monotonic()
            self._run_once()
            if self._ended.is_set():
                return
            died_soon = died_soon + 1 if time.monotonic() - began < SOON_S else 0
            pause_s = PAUSES_S[min(died_soon, len(PAUSES_S) - 1)]
            _log.error("the engine ended; it starts again in %g s", pause_s)
            self._ended.wait(pause_s)

    def _run_once(self) -> None:
        """From the process's start to its end."""
        wire = self._started()
        for message in wire.messages():
            self._heard = time.monotonic()
            self._hear(message)
        self._is_ready.clear()
        self._wire = None
        wire.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        with self._lock:
            numbers = list(self._calls)
        for number in numbers:
            self._settle(number, EngineCrashed())

    def _started(self) -> Wire:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "service.engine.main", str(theirs.fileno()), str(os.getpid())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, env=self._environment, pass_fds=[theirs.fileno()]
            )
        self.starts += 1
        self._heard = time.monotonic() + self._timeout_s  # imports take a while
        wire = Wire(ours)
        wire.send({"settings": self._settings})
        self._wire = wire
        bundles = {name: str(folder) for name, folder in self._bundles.items()}
        self.ask("load", bundles=bundles).future.add_done_callback(self._loaded)
        return wire

    def _loaded(self, done: "Future[Message]") -> None:
        if done.exception() is None:
            self._is_ready.set()

    def _hear(self, message: Message) -> None:
        if "models" in message:
            self.models = {each["name"]: ModelAnswer.model_validate(each) for each in message["models"]}
            self.broken = {each["name"]: BrokenModelAnswer.model_validate(each) for each in message["broken"]}
            self.device = message["device"]
        elif "progress" in message:
            call = self._calls.get(message["id"])
            if call and call.on_progress:
                call.on_progress(*message["progress"])
        elif "answer" in message:
            self._settle(message["id"], message["answer"])
        elif "error" in message:
            self._settle(message["id"], decode_error(message["error"]))

    def _settle(self, number: int, outcome: Message | Exception) -> None:
        with self._lock:
            call = self._calls.pop(number, None)
        if call is None:
            return
        if isinstance(outcome, Exception):
            call.future.set_exception(outcome)
        else:
            call.future.set_result(outcome)

    def _watch(self) -> None:
        """Kills a process that hangs."""
        while not self._ended.wait(1.0):
            if self._wire is not None and time.monotonic() - self._heard > self._timeout_s:
                _log.error("the engine hangs; it is ended")
                self._heard = time.monotonic()
                self._kill()

    def _kill(self) -> None:
        if self._process:
            self._process.kill()
