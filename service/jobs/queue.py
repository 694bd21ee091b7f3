"""Jobs as DBOS carries them out: a queue in a database, whose work goes on after a kill, on this machine or on another."""

import errno
import json
import logging
import os
import shutil
import threading
import time
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from typing import Any

from dbos import DBOS, DBOSConfig, Serializer
from dbos import WorkflowStatus as Known

from imaging.errors import DataError, ImageTooLarge
from service import event_log, prometheus
from service.engine.errors import Cancelled, EngineCrashed, ModelGone, OutOfMemory
from service.engine.supervisor import Call, Supervisor
from service.limits import Limits
from service.store import Store, read_json
from service.tracing import tracer

QUEUE = "overtile"
WORKFLOW = "carry_out"
VERSION = "1"  # of the workflow; jobs that an earlier release accepted are carried out by a later one
MOST_CRASHES = 3
POLL_S = 0.2
CANCEL_S = 5.0  # for the engine to end what was called off; then it is killed
CANCELLED = "cancelled"  # a file in the job's folder, which every machine sees
PROGRESS = "progress.json"

Outcome = dict[str, Any]

_log = logging.getLogger("overtile.service")


class JsonSerializer(Serializer):
    """What DBOS keeps, as JSON: nothing that is read from the database is ever executed."""

    def serialize(self, data: Any) -> str:
        """Errors as their class."""
        return json.dumps({"error": type(data).__name__} if isinstance(data, BaseException) else data)

    def deserialize(self, serialized_data: str) -> Any:
        """Tuples come back as lists, errors as what was kept of them."""
        return json.loads(serialized_data)

    def name(self) -> str:
        """In the database, beside what it made."""
        return "overtile_json"


class Flow:
    """The queue, and this machine's part in it.

    Args:
        store: with the jobs' folders.
        engine: that does the work.
        limits: how many at once.
        database_url: of SQLAlchemy; SQLite in the store, or a PostgreSQL that machines share.
        executor: this machine's name among those that share the queue.
    """

    def __init__(self, store: Store, engine: Supervisor, limits: Limits, database_url: str, executor: str) -> None:
        self._store, self._engine, self._limits = store, engine, limits
        self._config: DBOSConfig = {
            "name": "overtile",
            "system_database_url": database_url,
            "application_version": VERSION,
            "executor_id": executor,
            "serializer": JsonSerializer(),
            "log_level": "WARNING",
            "use_listen_notify": False,
        }
        self._stopping = threading.Event()

    def launch(self) -> None:
        """Goes on with what was begun, and takes what waits. To be called outside of an event loop."""
        DBOS(config=self._config)
        event_log.configure()  # it has made a handler of its own

        @DBOS.step(name="work")
        def work(job_id: str) -> Outcome:
            return self._work(job_id)

        @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)
        def carry_out(job_id: str) -> Outcome:
            return work(job_id)

        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=self._limits.jobs_at_once, polling_interval_sec=POLL_S)

    def executors(self) -> set[str]:
        """The machines that have work."""
        known = DBOS.list_workflows(name=WORKFLOW, status="PENDING", load_input=False, load_output=False)
        return {each.executor_id for each in known if each.executor_id}

    def take_over(self, executor: str) -> None:
        """Puts a dead machine's jobs back into the queue; they go on from what it left."""
        known = DBOS.list_workflows(name=WORKFLOW, status="PENDING", executor_id=executor, load_input=False, load_output=False)
        for each in known:
            _log.warning("job %s: %s is gone, another machine goes on with it", each.workflow_id, executor)
            DBOS.resume_workflow(each.workflow_id, queue_name=QUEUE)

    def stop(self) -> None:
        """Takes nothing more; what runs is gone on with at the next start."""
        self._stopping.set()

    def enqueue(self, job_id: str, owner: str) -> None:
        """Accepts a job; when this returns it is in the database. Again: nothing happens."""
        options = {"queue_name": QUEUE, "workflow_name": WORKFLOW, "workflow_id": job_id, "app_version": VERSION}
        DBOS.enqueue_workflow_with_options({**options, "authenticated_user": owner}, job_id)  # type: ignore[typeddict-item]

    def status(self, job_id: str) -> Known | None:
        """What the database knows; None where there is no such job."""
        return DBOS.get_workflow_status(job_id)

    def owned(self, owner: str, limit: int) -> list[Known]:
        """An owner's, newest first."""
        return DBOS.list_workflows(name=WORKFLOW, user=owner, sort_desc=True, limit=limit, load_input=False)

    def waiting(self, owner: str | None = None, *, and_running: bool = False) -> list[str]:
        """IDs of jobs that wait, in their order."""
        states = ["ENQUEUED", "PENDING"] if and_running else ["ENQUEUED"]
        known = DBOS.list_workflows(
            name=WORKFLOW, user=owner, status=states, limit=self._limits.max_queued + 1, load_input=False, load_output=False
        )
        return [each.workflow_id for each in known]

    def oldest_waiting_s(self) -> float:
        """How long the one waits that waits longest."""
        known = DBOS.list_workflows(name=WORKFLOW, status="ENQUEUED", limit=1, load_input=False, load_output=False)
        return max(0.0, time.time() - known[0].created_at / 1000) if known and known[0].created_at else 0.0

    def cancel(self, job_id: str) -> None:
        """Calls a job off, wherever it runs."""
        with suppress(FileNotFoundError):
            (self._store.job(job_id) / CANCELLED).touch()
        DBOS.cancel_workflow(job_id)

    def forget(self, job_id: str) -> None:
        """Takes a job out of the database."""
        DBOS.delete_workflow(job_id)

    def _work(self, job_id: str) -> Outcome:
        """What became of a job."""
        began = time.monotonic()
        with tracer().start_as_current_span("job", attributes={"job": job_id}) as span:
            outcome = self._tried(job_id)
            span.set_attribute("state", outcome["state"])
        prometheus.JOB_SECONDS.labels("all").observe(time.monotonic() - began)
        prometheus.JOB_SECONDS.labels("network").observe(outcome.get("seconds", 0))
        prometheus.JOBS.labels(outcome["state"]).inc()
        if "error" in outcome:
            prometheus.ERRORS.labels(outcome["error"]["code"]).inc()
        return outcome

    def _tried(self, job_id: str) -> Outcome:
        """The same; tried again where the engine crashed."""
        crashes, furthest = 0, -1.0
        while True:
            try:
                return {"state": "done", **self._once(job_id, smaller=max(0, crashes - 1))}
            except EngineCrashed:
                reached = _progress(self._store, job_id)
                crashes = 1 if reached > furthest else crashes + 1  # something was done in between: it isn't this job
                furthest = max(furthest, reached)
            except Cancelled:
                return {"state": "cancelled"}
            except Exception as error:  # noqa: BLE001  (whatever it is, the job has an end, and the client a code)
                return {"state": "failed", "error": failure_of(error)}
            if crashes >= MOST_CRASHES:
                return {"state": "failed", "error": failure_of(EngineCrashed())}
            if crashes > 1:  # what it goes on from has its tiles' size
                shutil.rmtree(self._store.job(job_id) / "work", ignore_errors=True)
            _log.warning("job %s: the engine crashed, attempt %d", job_id, crashes + 1)

    def _once(self, job_id: str, smaller: int) -> Outcome:
        folder = self._store.job(job_id)
        wanted = read_json(folder / "job.json")
        if wanted is None or (folder / CANCELLED).exists():
            raise Cancelled
        while not self._engine.is_ready:
            self._rest(0.1)
        progress = _ProgressFile(folder / PROGRESS)
        words = {key: wanted[key] for key in ("models", "formats", "options")}
        call = self._engine.ask("job", progress.note, folder=str(folder), smaller=smaller, **words)
        return self._answer(call, folder / CANCELLED)

    def _answer(self, call: Call, cancelled: Any) -> Outcome:
        since: float | None = None
        while True:
            try:
                return call.future.result(POLL_S)
            except NotYet:
                self._rest(0)
            if since is None and cancelled.exists():
                since = time.monotonic()
                call.cancel()
            if since is not None and time.monotonic() - since > CANCEL_S:
                self._engine.restart()

    def _rest(self, seconds: float) -> None:
        """Raises where the server is stopping: the step has no end then, and is gone on with."""
        if self._stopping.wait(seconds):
            threading.Event().wait()


class _ProgressFile:
    """How far a job is, for every machine to see; lost in a crash without harm."""

    def __init__(self, path: Any) -> None:
        self._path = path
        self._began = time.monotonic()
        self._first: int | None = None
        self._last = 0

    def note(self, done: int, total: int) -> None:
        """Tiles."""
        self._first = done if self._first is None else self._first
        prometheus.TILES.inc(max(0, done - self._last))
        self._last = done
        left_s = None
        if done > self._first:
            left_s = (time.monotonic() - self._began) / (done - self._first) * (total - done)
        part = self._path.with_suffix(".part")
        with suppress(OSError):
            part.write_text(json.dumps({"done": done, "total": total, "eta_s": left_s}))
            part.replace(self._path)


def _progress(store: Store, job_id: str) -> float:
    known = None
    with suppress(ValueError, OSError):
        known = read_json(store.job(job_id) / PROGRESS)
    return known["done"] / max(1, known["total"]) if known else 0.0


def failure_of(error: Exception) -> dict[str, Any]:
    """Code and message of a job that failed."""
    if isinstance(error, DataError):
        limit = {"limit": error.limit} if isinstance(error, ImageTooLarge) else {}
        return {"code": error.code, "message": error.message, **limit}
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return {"code": "storage_full", "message": "the server's disk is full; send the job again when there is space"}
    if type(error) in FAILURES:
        code, message = FAILURES[type(error)]
        return {"code": code, "message": message}
    _log.error(
        "a job failed: %s %s",
        type(error).__name__,
        os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "",
    )
    return {"code": "internal", "message": "the server failed at this job; send it again, and name the job when you report it"}


FAILURES: dict[type[BaseException], tuple[str, str]] = {
    EngineCrashed: (
        "worker_crashed",
        "the process that worked on the image crashed three times; send a smaller part of the image",
    ),
    OutOfMemory: ("out_of_memory", "the image took more memory than the server has; send a smaller part of it"),
    ModelGone: ("model_unavailable", "the model was unloaded before the job was done; GET /v1/models lists what is loaded"),
}
