"""All that the gateway consists of, put together and taken apart again."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from dbos import error as dbos_errors
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp

from disk.lock import Held, only_one
from service import tracing
from service.api import make_api
from service.engine.supervisor import Supervisor
from service.errors import StartError
from service.http.access import guarded
from service.jobs.leases import Leases
from service.jobs.queue import Flow
from service.jobs.registry import Jobs
from service.keys import Keys
from service.limits import AccessSettings, Limits
from service.steady_clock import steady_time
from service.store import Store, store_folder
from service.uploads.registry import Uploads

DATABASE_URL = "OVERTILE_DATABASE_URL"
EXECUTOR = "OVERTILE_EXECUTOR"  # this machine's name among those that share a database; left out: the host's
LOAD_TIMEOUT_S = 600.0
SWEEP_S = 60.0
LOOK_S = 5.0  # between two looks at the disk: who asks for the health never waits for one
_SHARED_PREFIX = "postgresql"


class Gateway:
    """The running service but for its socket.

    Attributes:
        has_room: whether the store's disk takes more than what is kept back.

    Args:
        environment: with OVERTILE_* settings.
        bundles: tag -> folder.

    Raises:
        StartError: another server has the store, or no model can be loaded.
        ValueError: a setting that can't be meant.
        OSError: the store can't be made.
    """

    def __init__(self, environment: Mapping[str, str], bundles: Mapping[str, Path]) -> None:
        self._held = ExitStack()
        self._stopping = threading.Event()
        tracing.configure(environment)
        self.limits = Limits.from_environment(environment)
        self.store = Store(store_folder(environment))
        url = environment.get(DATABASE_URL, f"sqlite:///{self.store.folder}/jobs.sqlite")
        is_shared = url.startswith(_SHARED_PREFIX)
        executor = environment.get(EXECUTOR, socket.gethostname()) if is_shared else "local"
        self._executor = executor
        self._lock(executor)
        self._look_for_room()
        self.keys, self._access = Keys(self.store.keys), AccessSettings.from_environment(environment)
        self.engine = Supervisor(
            {
                "at_once": self.limits.jobs_at_once + 1,
                "runtime": environment.get("OVERTILE_RUNTIME"),
                "memory_bytes": self.limits.memory_bytes or None,
            },
            bundles,
            _inherited(environment),
            self.limits.engine_timeout_s,
        )
        self.flow = Flow(self.store, self.engine, self.limits, url, executor)
        self._leases = Leases(url, executor, self.flow.executors, self.flow.take_over) if is_shared else None
        self.uploads = Uploads(self.store, self.limits)
        self.jobs = Jobs(self.store, self.flow, self.engine, self.limits)

    def start(self) -> ASGIApp:
        """Loads the models, goes on with the jobs, and gives the routes. To be called outside of an event loop."""
        try:
            self.engine.start(LOAD_TIMEOUT_S)
        except TimeoutError as error:
            raise StartError(f"{error}; look at what stands above this line") from error
        if not self.engine.models:
            broken = "; ".join(f"{each.name}: {each.message}" for each in self.engine.broken.values())
            raise StartError(f"no model can be loaded: {broken}")
        if self._leases and not self._leases.hold():
            raise StartError(f"another server is named {self._executor}; give this one its own name with {EXECUTOR}")
        try:
            self.flow.launch()
        except (SQLAlchemyError, dbos_errors.DBOSException) as error:
            raise StartError(
                "the database of jobs can't be used; restore it from a copy, or move jobs.sqlite and the jobs folder away"
            ) from error
        if self._leases:
            self._leases.watch()
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()
        return guarded(make_api(self), self.keys, self._access)

    def stop(self) -> None:
        """What runs is gone on with at the next start."""
        self._stopping.set()
        self.flow.stop()
        if self._leases:
            self._leases.release()
        self.engine.stop()
        self._held.close()

    @property
    def is_ready(self) -> bool:
        """Whether the engine is there."""
        return self.engine.is_ready and not self._stopping.is_set()

    def _look_for_room(self) -> None:
        self.has_room = shutil.disk_usage(self.store.folder).free > self.limits.storage_reserve_bytes

    def _lock(self, executor: str) -> None:
        name = "lock" if executor == "local" else f"lock-{executor}"
        try:
            self._held.enter_context(only_one(self.store.folder / name))
        except Held as error:
            raise StartError(
                f"another server (process {error.process}) has the store {self.store.folder}; stop it, or choose another "
                "store with OVERTILE_STORE"
            ) from error

    def _sweep(self) -> None:
        swept = time.monotonic()
        while not self._stopping.wait(LOOK_S):
            with suppress(OSError):
                self._look_for_room()
                if time.monotonic() - swept > SWEEP_S:
                    swept = time.monotonic()
                    self.uploads.sweep(steady_time())
                    self.jobs.sweep(steady_time())


def _inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """The engine's environment: it has no use for passwords."""
    return {name: value for name, value in environment.items() if name != DATABASE_URL} | {"PYTHONPATH": _import_path()}


def _import_path() -> str:
    """The folder that this code came from first, so that the engine's is the same."""
    own = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join(
        [own, *(each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each and each != own)]
    )
