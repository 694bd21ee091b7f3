"""Gateway: starts and stops the engine, the job queue, the uploads and the keys; the routes are added in `api`."""

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

from disk.lock import Held, only_one
from service import telemetry
from service.engine.supervisor import Supervisor
from service.errors import StartError
from service.jobs.creation import JobCreator
from service.jobs.leases import Leases
from service.jobs.queue import JobQueue
from service.jobs.registry import Jobs
from service.jobs.runner import JobRunner
from service.keys import Keys
from service.limits import AccessSettings, ServiceLimits
from service.store import Store, steady_time, store_folder
from service.uploads.registry import Uploads

DATABASE_URL = "OVERTILE_DATABASE_URL"
EXECUTOR = "OVERTILE_EXECUTOR"  # this machine's name among those that share a database; default: the host name
LOAD_TIMEOUT_S = 600.0
SWEEP_S = 60.0  # between two deletions of what has expired
DISK_CHECK_S = 5.0  # between two checks of the disk; health checks read the last one, and never wait for the disk
_SHARED_PREFIX = "postgresql"


class Gateway:
    """Everything that the service runs behind its routes: engine, job queue, uploads and keys.

    Args:
        environment: variables with the OVERTILE_* settings.
        bundles: folder of each bundle by its tag.

    Attributes:
        has_disk_space: whether the store's disk has more free space than the reserve.

    Raises:
        StartError: another server uses the store.
        ValueError: a setting is invalid.
        OSError: the store can't be created.
    """

    def __init__(self, environment: Mapping[str, str], bundles: Mapping[str, Path]) -> None:
        self._locks = ExitStack()
        self._stopping = threading.Event()
        telemetry.configure_tracing(environment)
        self.limits = ServiceLimits.from_environment(environment)
        self.store = Store(store_folder(environment))
        url = environment.get(DATABASE_URL, f"sqlite:///{self.store.folder}/jobs.sqlite")
        is_shared = url.startswith(_SHARED_PREFIX)
        executor = environment.get(EXECUTOR, socket.gethostname()) if is_shared else "local"
        self._executor = executor
        self._lock(executor)
        self._check_disk()
        self.keys, self.access_settings = Keys(self.store.keys), AccessSettings.from_environment(environment)
        self.engine = Supervisor(
            {
                "at_once": self.limits.jobs_at_once + 1,
                "runtime": environment.get("OVERTILE_RUNTIME"),
                "memory_bytes": self.limits.memory_bytes or None,
            },
            bundles,
            _engine_environment(environment),
            self.limits.engine_timeout_s,
        )
        self.job_queue = JobQueue(self.store, JobRunner(self.store, self.engine), self.limits, url, executor)
        self._leases = Leases(url, executor, self.job_queue.executors, self.job_queue.take_over) if is_shared else None
        self.uploads = Uploads(self.store, self.limits)
        self.jobs = Jobs(self.store, self.job_queue, self.limits)
        self.job_creator = JobCreator(self.store, self.job_queue, self.engine, self.limits)

    def start(self) -> None:
        """Load the models and resume the jobs. Must be called outside of an event loop.

        Raises:
            StartError: no model can be loaded, another server has this one's name, or the database can't be used.
        """
        try:
            self.engine.start(LOAD_TIMEOUT_S)
        except TimeoutError as error:
            raise StartError(f"{error}; the lines above say why") from error
        if not self.engine.models:
            broken = "; ".join(f"{each.name}: {each.message}" for each in self.engine.broken.values())
            raise StartError(f"no model can be loaded: {broken}")
        if self._leases and not self._leases.acquire():
            raise StartError(f"another server is named {self._executor}; give this one its own name with {EXECUTOR}")
        try:
            self.job_queue.launch()
        except (SQLAlchemyError, dbos_errors.DBOSException) as error:
            raise StartError(
                "the database of jobs can't be used; restore it from a copy, or move jobs.sqlite and the jobs folder away"
            ) from error
        if self._leases:
            self._leases.start()
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()

    def stop(self) -> None:
        """Stop the engine and the queue; running jobs are resumed at the next start."""
        self._stopping.set()
        self.job_queue.stop()
        if self._leases:
            self._leases.release()
        self.engine.stop()
        self._locks.close()

    @property
    def is_ready(self) -> bool:
        """True if the engine is running with its models loaded."""
        return self.engine.is_ready and not self._stopping.is_set()

    def _check_disk(self) -> None:
        self.has_disk_space = shutil.disk_usage(self.store.folder).free > self.limits.storage_reserve_bytes

    def _lock(self, executor: str) -> None:
        name = "lock" if executor == "local" else f"lock-{executor}"
        try:
            self._locks.enter_context(only_one(self.store.folder / name))
        except Held as error:
            raise StartError(
                f"another server (process {error.process}) has the store {self.store.folder}; stop it, or choose another "
                "store with OVERTILE_STORE"
            ) from error

    def _sweep(self) -> None:
        last_sweep_s = time.monotonic()
        while not self._stopping.wait(DISK_CHECK_S):
            with suppress(OSError):
                self._check_disk()
                if time.monotonic() - last_sweep_s > SWEEP_S:
                    last_sweep_s = time.monotonic()
                    self.uploads.sweep(steady_time())
                    self.jobs.sweep(steady_time())


def _engine_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the engine's environment: without the database's password, and with this code first on the import path."""
    own_folder = str(Path(__file__).resolve().parents[1])
    folders = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each and each != own_folder]
    python_path = os.pathsep.join([own_folder, *folders])
    return {name: value for name, value in environment.items() if name != DATABASE_URL} | {"PYTHONPATH": python_path}
