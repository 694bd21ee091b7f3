"""Execution of one job by the engine: progress, cancellation, retries after a crash, and the job's outcome."""

import errno
import json
import logging
import os
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from imaging.errors import DataError, ImageTooLarge
from service import telemetry
from service.engine.errors import Cancelled, EngineCrashed, ModelGone, OutOfMemory
from service.engine.supervisor import Supervisor
from service.store import Store, read_json

MAX_CRASHES = 3  # in a row without progress
POLL_S = 0.2
CANCEL_S = 5.0  # for the engine to end a cancelled job; after that it is killed
CANCELLED = "cancelled"  # file in the job's folder, which every machine sees

JobOutcome = dict[str, Any]  # `state`; of a finished job `results`, `warnings` and `seconds`; of a failed one `error`

_PROGRESS = "progress.json"
_log = logging.getLogger("overtile.service")

_FAILURES: dict[type[BaseException], tuple[str, str]] = {
    EngineCrashed: (
        "worker_crashed",
        "the process that worked on the image crashed three times; send a smaller part of the image",
    ),
    OutOfMemory: ("out_of_memory", "the image needs more memory than the server has; send a smaller part of it"),
    ModelGone: ("model_unavailable", "the model was unloaded before the job was done; GET /v1/models lists the loaded models"),
}


class JobRunner:
    """Runs jobs from the store on the engine. Threads may share it.

    Args:
        store: store with the folders of the jobs.
        engine: the engine's supervisor.
    """

    def __init__(self, store: Store, engine: Supervisor) -> None:
        self._store, self._engine = store, engine
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Stop at the next poll of each job; the threads never return, so that the jobs are resumed at the next start."""
        self._stopping.set()

    def run(self, job_id: str) -> JobOutcome:
        """Return the outcome of a job after running it."""
        start_s = time.monotonic()
        with telemetry.tracer().start_as_current_span("job", attributes={"job": job_id}) as span:
            outcome = self._run_with_retries(job_id)
            span.set_attribute("state", outcome["state"])
        telemetry.JOB_SECONDS.labels("all").observe(time.monotonic() - start_s)
        telemetry.JOB_SECONDS.labels("network").observe(outcome.get("seconds", 0))
        telemetry.JOBS.labels(outcome["state"]).inc()
        if "error" in outcome:
            telemetry.ERRORS.labels(outcome["error"]["code"]).inc()
        return outcome

    def _run_with_retries(self, job_id: str) -> JobOutcome:
        """Run a job until it ends, or the engine has crashed too often; the last attempt has smaller tiles."""
        crashes, furthest = 0, -1.0
        while True:
            try:
                return {"state": "done", **self._run_once(job_id, smaller=max(0, crashes - 1))}
            except EngineCrashed:
                progress = read_progress(self._store.job(job_id))
                reached = progress["done"] / max(1, progress["total"]) if progress else 0.0
                crashes = 1 if reached > furthest else crashes + 1  # after progress, another job may be the cause
                furthest = max(furthest, reached)
            except Cancelled:
                return {"state": "cancelled"}
            except Exception as error:  # noqa: BLE001  (every job ends, and the client gets a code)
                return {"state": "failed", "error": failure_of(error)}
            if crashes >= MAX_CRASHES:
                return {"state": "failed", "error": failure_of(EngineCrashed())}
            if crashes > 1:  # smaller tiles can't continue the rows of larger ones
                shutil.rmtree(self._store.job(job_id) / "work", ignore_errors=True)
            _log.warning("job %s: the engine crashed, attempt %d", job_id, crashes + 1)

    def _run_once(self, job_id: str, smaller: int) -> JobOutcome:
        """Return the engine's answer to a job; the tiles' sides are halved `smaller` times."""
        folder = self._store.job(job_id)
        record = read_json(folder / "job.json")
        if record is None or (folder / CANCELLED).exists():
            raise Cancelled
        while not self._engine.is_ready:
            self._wait(0.1)
        request = {key: record[key] for key in ("models", "formats", "options")}
        call = self._engine.ask("job", ProgressFile(folder).write, folder=str(folder), smaller=smaller, **request)
        cancelled_s: float | None = None
        while not call.future.done():
            with suppress(TimeoutError):
                return call.future.result(POLL_S)
            self._wait(0)
            if cancelled_s is None and (folder / CANCELLED).exists():
                cancelled_s = time.monotonic()
                call.cancel()
            if cancelled_s is not None and time.monotonic() - cancelled_s > CANCEL_S:
                self._engine.restart()
        return call.future.result()

    def _wait(self, seconds: float) -> None:
        """Wait; when the server stops, for ever: DBOS resumes a step that hasn't ended at the next start."""
        if self._stopping.wait(seconds):
            threading.Event().wait()


class ProgressFile:
    """File with a job's progress, which every machine can read; a crash may lose it without harm.

    Args:
        folder: folder of the job.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _PROGRESS
        self._start_s = time.monotonic()
        self._first: int | None = None
        self._last = 0

    def write(self, done: int, total: int) -> None:
        """Write the number of finished tiles, of all tiles, and the estimated seconds until the end."""
        self._first = done if self._first is None else self._first
        telemetry.TILES.inc(max(0, done - self._last))
        self._last = done
        eta_s = None
        if done > self._first:
            eta_s = (time.monotonic() - self._start_s) / (done - self._first) * (total - done)
        part = self._path.with_suffix(".part")
        with suppress(OSError):
            part.write_text(json.dumps({"done": done, "total": total, "eta_s": eta_s}))
            part.replace(self._path)


def read_progress(folder: Path) -> dict[str, Any]:
    """Return the progress in a job's folder: `done`, `total` and `eta_s`; empty if there is none."""
    with suppress(OSError, ValueError):
        return read_json(folder / _PROGRESS) or {}
    return {}


def failure_of(error: Exception) -> dict[str, Any]:
    """Return the code and message of a failed job for its client; an unexpected error is logged."""
    if isinstance(error, DataError):
        limit = {"limit": error.limit} if isinstance(error, ImageTooLarge) else {}
        return {"code": error.code, "message": error.message, **limit}
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return {"code": "storage_full", "message": "the server's disk is full; send the job again when there is space"}
    if type(error) in _FAILURES:
        code, message = _FAILURES[type(error)]
        return {"code": code, "message": message}
    cause = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else ""
    _log.error("a job failed: %s %s", type(error).__name__, cause)
    return {
        "code": "internal",
        "message": "the server failed to run the job; send it again, and name the job's ID when you report it",
    }
