"""The engine: `python -m service.engine.main DESCRIPTOR PARENT`, its end of the connection to the gateway, and its process.

It reads what to do, does each in a thread of its own, and ends when the gateway does.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from disk.process import end_with_parent
from imaging.isolation.forkserver import nursery
from service import event_log
from service.engine.direct_calls import compare_small, segment_small
from service.engine.errors import Cancelled, ModelGone, encode_error
from service.engine.job_runner import carry_out, check
from service.engine.loaded_models import Model, Models
from service.engine.protocol import Message, Wire
from service.schemas import JobOptions

ALIVE_S = 1.0
PROGRESS_S = 0.2


class EngineProcess:
    """What the process does.

    Args:
        wire: to the gateway.
        settings: `at_once`, `runtime`, `memory_bytes` of `Models`.
    """

    def __init__(self, wire: Wire, settings: dict[str, Any]) -> None:
        self.wire = wire
        self.models = Models(**settings)
        self._cancelled: set[int] = set()
        self._does: dict[str, Callable[[Message, Callable[[int, int], None]], Message]] = {
            "segment": self._segment,
            "compare": self._compare,
            "check": self._check,
            "job": self._job,
            "load": self._load,
            "unload": self._unload,
        }

    def serve(self) -> None:
        """Until the gateway is gone."""
        threading.Thread(target=self._say_alive, daemon=True).start()
        for message in self.wire.messages():
            if "cancel" in message:
                self._cancelled.add(message["cancel"])
            else:
                threading.Thread(target=self._do, args=(message,), daemon=True).start()

    def tell_models(self) -> None:
        """What is loaded, and what couldn't be."""
        self.wire.send(
            {
                "models": [answer.model_dump() for answer in self.models.answers],
                "broken": [answer.model_dump() for answer in self.models.broken],
                "device": str(self.models.device),
            }
        )

    def _say_alive(self) -> None:
        while True:
            time.sleep(ALIVE_S)
            self.wire.send({"alive": True})

    def _do(self, message: Message) -> None:
        number = message["id"]
        owner = message.get("owner")  # of a small call
        try:
            with self.models.turns.urgently(owner) if owner is not None else nullcontext():
                answer = self._does[message["do"]](message, self._progress(number))
            told: Message = {"answer": answer}
        except Exception as error:  # noqa: BLE001  (whatever goes wrong with one image, the others go on)
            told = {"error": encode_error(error)}
        finally:
            self._cancelled.discard(number)
        try:
            self.wire.send({"id": number, **told})
        except OSError:
            end()

    def _progress(self, number: int) -> Callable[[int, int], None]:
        """Tells the gateway from time to time, and stops what was cancelled."""
        last = 0.0

        def on_progress(done: int, total: int) -> None:
            nonlocal last
            if number in self._cancelled:
                raise Cancelled
            if time.monotonic() - last > PROGRESS_S:
                last = time.monotonic()
                self.wire.send({"id": number, "progress": [done, total]})

        return on_progress

    def _model(self, name: str, smaller: int = 0) -> Model:
        if (model := self.models.of(name, smaller)) is None:
            raise ModelGone
        return model

    def _segment(self, message: Message, on_progress: Callable[[int, int], None]) -> Message:
        spacing_um = tuple(message["spacing_um"]) if message["spacing_um"] else None
        return segment_small(Path(message["path"]), self._model(message["model"]), message["format"], spacing_um, on_progress)

    def _compare(self, message: Message, on_progress: Callable[[int, int], None]) -> Message:
        spacing_um = tuple(message["spacing_um"]) if message["spacing_um"] else None
        models = [self._model(name) for name in message["models"]]
        return compare_small(Path(message["path"]), models, message["max_pixels"], spacing_um, on_progress)

    def _check(self, message: Message, _: Callable[[int, int], None]) -> Message:
        models = [self._model(name) for name in message["models"]]
        return check(Path(message["inputs"]), models, JobOptions.model_validate(message["options"]))

    def _job(self, message: Message, on_progress: Callable[[int, int], None]) -> Message:
        models = [self._model(name, message["smaller"]) for name in message["models"]]
        return carry_out(Path(message["folder"]), self.models, models, message, on_progress)

    def _load(self, message: Message, _: Callable[[int, int], None]) -> Message:
        for name, folder in message["bundles"].items():
            self.models.load(Path(folder), name)
        self.tell_models()
        return {}

    def _unload(self, message: Message, _: Callable[[int, int], None]) -> Message:
        self.models.unload(message["model"])
        self.tell_models()
        return {}


def end() -> NoReturn:
    """At once: nobody listens any more, and what is half done is gone on with by another."""
    event_log.finish()
    os._exit(1)


def main() -> None:
    """What `python -m` runs."""
    descriptor, parent = (int(word) for word in sys.argv[1:])
    try:
        end_with_parent(parent)
    except ProcessLookupError:
        end()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the gateway, which lets us finish
    os.umask(0o077)
    event_log.configure()
    wire = Wire(socket.socket(fileno=descriptor))
    settings = next(wire.messages(), None)
    if settings is None:
        end()
    process = EngineProcess(wire, settings["settings"])
    nursery().start()
    process.serve()
    end()


if __name__ == "__main__":
    main()
