"""Supervisor of the engine, in the gateway: starts the process, sends it requests, and restarts it when it dies or hangs."""

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
from service.engine.protocol import JsonConnection, Message, TileProgress
from service.schemas import BrokenModelAnswer, ModelAnswer

RESTART_PAUSES_S = (0.0, 0.2, 1.0, 5.0)  # longer after each process that ended early
EARLY_S = 30.0  # a process that lives for less time ended early
START_S = 30.0  # that a request waits for an engine that restarts

_log = logging.getLogger("overtile.service")


@dataclass(eq=False)
class Call:
    """Request to the engine; `future` has its answer."""

    message: Message
    on_progress: TileProgress | None
    future: "Future[Message]" = field(default_factory=Future)
    cancel: Callable[[], bool] = lambda: False


class Supervisor:
    """Supervisor of one engine. Threads may share it.

    Args:
        settings: arguments of `service.engine.loaded_models.LoadedModels`.
        bundles: folders of the bundles to load at each start, by name.
        environment: environment variables of the process.
        timeout_s: a process that sends nothing for so long hangs and is killed.

    Attributes:
        models: the loaded models by name.
        broken: the models that can't be loaded, by name.
        device: device of the networks.
        starts: number of times that the process was started.
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
        self._connection: JsonConnection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._last_message_s = time.monotonic()
        self._is_ready = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, name="engine", daemon=True)

    def start(self, timeout_s: float) -> None:
        """Start the process and wait until its models are loaded.

        Raises:
            TimeoutError: they aren't loaded in time.
        """
        self._thread.start()  # lives as long as this process: the engine is killed when the thread that started it ends
        threading.Thread(target=self._kill_when_hanging, name="engine watch", daemon=True).start()
        if not self._is_ready.wait(timeout_s):
            raise TimeoutError("the engine didn't load its models in time")

    def stop(self) -> None:
        """Kill the process; interrupted jobs can be resumed."""
        self._ended.set()
        self._kill()
        self._thread.join(10)

    def restart(self) -> None:
        """Kill the process, which starts again; for a request that doesn't end when it is cancelled."""
        self._kill()

    def wait(self, timeout_s: float = START_S) -> None:
        """Wait until the engine is ready.

        Raises:
            EngineCrashed: it isn't ready in time.
        """
        if not self._is_ready.wait(timeout_s):
            raise EngineCrashed

    @property
    def is_ready(self) -> bool:
        """True if the process is running and has loaded its models."""
        return self._is_ready.is_set()

    @property
    def process_id(self) -> int | None:
        """ID of the current process; None before the first start."""
        return self._process.pid if self._process else None

    def ask(self, what: str, on_progress: TileProgress | None = None, **parameters: Any) -> Call:
        """Send a request; the call's future raises the engine's error, or EngineCrashed.

        Args:
            what: name of a handler in `service.engine.main`.
            on_progress: called with the tiles, in another thread.
            parameters: parameters of the request, as JSON.
        """
        number = next(self._numbers)
        call = Call({"id": number, "do": what, **parameters}, on_progress)
        call.cancel = partial(self._send, {"cancel": number})
        with self._lock:
            self._calls[number] = call
        if not self._send(call.message):
            self._settle(number, EngineCrashed())
        return call

    def load(self, name: str, folder: Path) -> Call:
        """Load a bundle beside the others, now and at each restart."""
        self._bundles[name] = folder
        return self.ask("load", bundles={name: str(folder)})

    def unload(self, name: str) -> Call:
        """Unload a model, and don't load it again at a restart."""
        self._bundles.pop(name, None)
        return self.ask("unload", model=name)

    def _send(self, message: Message) -> bool:
        """Send a message; return whether there is a process to receive it."""
        connection = self._connection
        if connection is None:
            return False
        try:
            connection.send(message)
        except OSError:
            return False
        return True

    def _keep_running(self) -> None:
        early_ends = 0
        while not self._ended.is_set():
            start_s = time.monotonic()
            self._run_once()
            if self._ended.is_set():
                return
            early_ends = early_ends + 1 if time.monotonic() - start_s < EARLY_S else 0
            pause_s = RESTART_PAUSES_S[min(early_ends, len(RESTART_PAUSES_S) - 1)]
            _log.error("the engine ended; it restarts in %g s", pause_s)
            self._ended.wait(pause_s)

    def _run_once(self) -> None:
        """Run one process from its start to its end, and fail the calls that it didn't answer."""
        connection = self._start_process()
        for message in connection.messages():
            self._last_message_s = time.monotonic()
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
        self._is_ready.clear()
        self._connection = None
        connection.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        with self._lock:
            numbers = list(self._calls)
        for number in numbers:
            self._settle(number, EngineCrashed())

    def _start_process(self) -> JsonConnection:
        own_end, engine_end = socket.socketpair()
        with engine_end:
            descriptor = engine_end.fileno()
            command = [sys.executable, "-P", "-m", "service.engine.main", str(descriptor), str(os.getpid())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=self._environment, pass_fds=[descriptor])
        self.starts += 1
        self._last_message_s = time.monotonic() + self._timeout_s  # imports take a while
        connection = JsonConnection(own_end)
        connection.send({"settings": self._settings})
        self._connection = connection

        def set_ready(future: Future[Message]) -> None:
            if future.exception() is None:
                self._is_ready.set()

        bundles = {name: str(folder) for name, folder in self._bundles.items()}
        self.ask("load", bundles=bundles).future.add_done_callback(set_ready)
        return connection

    def _settle(self, number: int, outcome: Message | Exception) -> None:
        """Set the answer or the error of a call."""
        with self._lock:
            call = self._calls.pop(number, None)
        if call is None:
            return
        if isinstance(outcome, Exception):
            call.future.set_exception(outcome)
        else:
            call.future.set_result(outcome)

    def _kill_when_hanging(self) -> None:
        while not self._ended.wait(1.0):
            if self._connection is not None and time.monotonic() - self._last_message_s > self._timeout_s:
                _log.error("the engine hangs and is killed")
                self._last_message_s = time.monotonic()
                self._kill()

    def _kill(self) -> None:
        if self._process:
            self._process.kill()
