"""Engine process: `python -m service.engine.main DESCRIPTOR PARENT`, started by the gateway with a socket's descriptor.

It handles each request in a thread of its own, and ends when the gateway does.
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
from imaging.isolation.forkserver import forkserver
from service import event_log
from service.engine.direct_calls import SmallImage, compare_small, segment_small
from service.engine.errors import Cancelled, ModelGone, encode_error
from service.engine.job_results import check_inputs, run_job
from service.engine.loaded_models import LoadedModel, LoadedModels
from service.engine.protocol import JsonConnection, Message, TileProgress
from service.schemas import JobOptions

ALIVE_S = 1.0
PROGRESS_S = 0.2


class EngineProcess:
    """Handler of the gateway's requests.

    Args:
        gateway: connection to the gateway.
        settings: `at_once`, `runtime` and `memory_bytes` of `LoadedModels`.
    """

    def __init__(self, gateway: JsonConnection, settings: dict[str, Any]) -> None:
        self._gateway = gateway
        self._models = LoadedModels(**settings)
        self._cancelled: set[int] = set()
        self._handlers: dict[str, Callable[[Message, TileProgress], Message]] = {
            "segment": self.segment,
            "compare": self.compare,
            "check": self.check,
            "job": self.job,
            "load": self.load,
            "unload": self.unload,
        }

    def serve(self) -> None:
        """Handle requests until the gateway closes the connection."""
        threading.Thread(target=self._send_alive, daemon=True).start()
        for message in self._gateway.messages():
            if "cancel" in message:
                self._cancelled.add(message["cancel"])
            else:
                threading.Thread(target=self._handle, args=(message,), daemon=True).start()

    def _send_alive(self) -> None:
        while True:
            time.sleep(ALIVE_S)
            self._gateway.send({"alive": True})

    def _handle(self, message: Message) -> None:
        """Handle one request: send its progress from time to time, then its answer or its error."""
        number = message["id"]
        owner = message.get("owner")  # of a direct call
        last_s = 0.0

        def on_progress(done: int, total: int) -> None:
            nonlocal last_s
            if number in self._cancelled:
                raise Cancelled
            if time.monotonic() - last_s > PROGRESS_S:
                last_s = time.monotonic()
                self._gateway.send({"id": number, "progress": [done, total]})

        try:
            with self._models.scheduler.direct_call(owner) if owner is not None else nullcontext():
                outcome: Message = {"answer": self._handlers[message["do"]](message, on_progress)}
        except Exception as error:  # noqa: BLE001  (whatever fails for one image, the others continue)
            outcome = {"error": encode_error(error)}
        finally:
            self._cancelled.discard(number)
        try:
            self._gateway.send({"id": number, **outcome})
        except OSError:
            end()

    def _model(self, name: str, smaller: int = 0) -> LoadedModel:
        if (model := self._models.get(name, smaller)) is None:
            raise ModelGone
        return model

    def segment(self, message: Message, on_progress: TileProgress) -> Message:
        """Segment a small image: `path`, `model`, `format`, `spacing_um`, `axes`."""
        spacing_um = tuple(message["spacing_um"]) if message["spacing_um"] else None
        image = SmallImage(Path(message["path"]), spacing_um, message["axes"])
        return segment_small(image, self._model(message["model"]), message["format"], on_progress)

    def compare(self, message: Message, on_progress: TileProgress) -> Message:
        """Compare models on a small image: `path`, `models`, `max_pixels`, `spacing_um`, `axes`."""
        spacing_um = tuple(message["spacing_um"]) if message["spacing_um"] else None
        models = [self._model(name) for name in message["models"]]
        image = SmallImage(Path(message["path"]), spacing_um, message["axes"])
        return compare_small(image, models, message["max_pixels"], on_progress)

    def check(self, message: Message, _: TileProgress) -> Message:
        """Check the files of a job: `inputs`, `models`, `options`."""
        models = [self._model(name) for name in message["models"]]
        return check_inputs(Path(message["inputs"]), models, JobOptions.model_validate(message["options"]))

    def job(self, message: Message, on_progress: TileProgress) -> Message:
        """Run a job: `folder`, `models`, `formats`, `options`, `smaller`."""
        models = [self._model(name, message["smaller"]) for name in message["models"]]
        return run_job(Path(message["folder"]), models, message, on_progress)

    def load(self, message: Message, _: TileProgress) -> Message:
        """Load `bundles`, folders by name."""
        for name, folder in message["bundles"].items():
            self._models.load(Path(folder), name)
        self._send_models()
        return {}

    def unload(self, message: Message, _: TileProgress) -> Message:
        """Unload `model`."""
        self._models.unload(message["model"])
        self._send_models()
        return {}

    def _send_models(self) -> None:
        self._gateway.send(
            {
                "models": [answer.model_dump() for answer in self._models.answers],
                "broken": [answer.model_dump() for answer in self._models.broken],
                "device": str(self._models.device),
            }
        )


def end() -> NoReturn:
    """End the process at once: nobody listens any more, and another process resumes unfinished jobs."""
    event_log.finish()
    os._exit(1)


def main() -> None:
    """Run the engine with the descriptor and the parent's process ID from the command line."""
    descriptor, parent = (int(argument) for argument in sys.argv[1:])
    try:
        end_with_parent(parent)
    except ProcessLookupError:
        end()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which lets running work finish
    os.umask(0o077)
    event_log.configure()
    gateway = JsonConnection(socket.socket(fileno=descriptor))
    settings = next(gateway.messages(), None)
    if settings is None:
        end()
    process = EngineProcess(gateway, settings["settings"])
    forkserver().start()
    process.serve()
    end()


if __name__ == "__main__":
    main()
