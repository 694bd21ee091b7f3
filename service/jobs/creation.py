"""Creation of jobs: a submission is checked, written to the disk and queued before its client gets an answer."""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from disk.publish import sync
from service.engine.errors import EngineCrashed
from service.engine.supervisor import Supervisor
from service.errors import BadRequest, Conflict, TooMany, UnknownModel, Unsuitable
from service.jobs.queue import JobQueue
from service.limits import ServiceLimits
from service.schemas import JobRequest, ModelAnswer
from service.store import Store, new_id, read_json, write_json


@dataclass(frozen=True)
class Submission:
    """Job as a client submits it, with the files of its uploads.

    Args:
        owner: owner of the uploads and of the job.
        request: body of the request.
        files: data files of the uploads, in order.
        names: the client's names of the files.
        key: the client's Idempotency-Key; submissions under the same key create one job.
    """

    owner: str
    request: JobRequest
    files: Sequence[Path]
    names: Sequence[str | None]
    key: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the request; another request under the same key has another one."""
        return hashlib.sha256(self.request.model_dump_json().encode()).hexdigest()

    def job_id(self) -> str:
        """Return the ID of the job with this owner and key, or a new ID without a key."""
        return new_id() if self.key is None else hashlib.sha256(f"{self.owner}\n{self.key}".encode()).hexdigest()[:32]


class JobCreator:
    """Creates jobs from submissions. Threads may share it.

    Args:
        store: store with the folders of the jobs.
        queue: queue that the jobs are added to.
        engine: checks the files, and knows the loaded models.
        limits: number of jobs that may wait, and the deadline of a request.
    """

    def __init__(self, store: Store, queue: JobQueue, engine: Supervisor, limits: ServiceLimits) -> None:
        self._store, self._queue, self._engine, self._limits = store, queue, engine, limits
        self._locks = KeyedLocks()

    def create(self, submission: Submission, max_jobs: int | None = None) -> str:
        """Return the ID of a new job, which is on the disk and in the queue; `max_jobs` limits the owner's unfinished jobs.

        Raises:
            BadRequest: a model is named twice.
            Conflict: the key belongs to another request.
            TooMany: the queue is full, or the owner has `max_jobs` jobs.
            UnknownModel: a model isn't loaded.
            Unsuitable: models, formats or options can't be combined.
            DataError: the files can't be read, or don't suit the models.
        """
        check_request(submission.request, self._engine.models)
        job_id = submission.job_id()
        with self._locks.hold(job_id):
            record = read_json(self._store.job(job_id) / "job.json")
            if record is None:
                if len(self._queue.waiting()) >= self._limits.max_queued:
                    raise TooMany(
                        "queue_full", "the queue of jobs is full; send the job again after the seconds in Retry-After"
                    )
                if max_jobs is not None and len(self._queue.waiting(submission.owner, and_running=True)) >= max_jobs:
                    message = f"the key may have {max_jobs} jobs at a time; wait for one to finish, or cancel one"
                    raise TooMany("quota_exceeded", message, limit=max_jobs)
                self._write(job_id, submission)
            elif record["digest"] != submission.digest:
                raise Conflict("idempotency_conflict", "the Idempotency-Key stands for another job; choose a new one")
            self._queue.enqueue(job_id, submission.owner)
        return job_id

    def _write(self, job_id: str, submission: Submission) -> None:
        """Write a job's folder: links to the files, so that the uploads may be deleted, and last the record."""
        folder = self._store.job(job_id)
        try:
            shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed here
            inputs = folder / "inputs"
            inputs.mkdir(parents=True)
            for number, file in enumerate(submission.files):
                os.link(file, inputs / str(number))
            sync(inputs)
            self._check_files(inputs, submission.request)
            record = {
                "id": job_id,
                "owner": submission.owner,
                "digest": submission.digest,
                "names": list(submission.names),
                "created_at": time.time(),
                **submission.request.model_dump(),
            }
            write_json(folder / "job.json", record)
            sync(folder.parent)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _check_files(self, inputs: Path, request: JobRequest) -> None:
        """Let the engine's readers open the files; repeated once if the engine crashes, as another image may be the cause."""
        options = request.options.model_dump()
        for is_last in (False, True):
            self._engine.wait()
            call = self._engine.ask("check", inputs=str(inputs), models=request.models, options=options)
            try:
                call.future.result(self._limits.direct_timeout_s)
            except EngineCrashed:
                if is_last:
                    raise
            else:
                return


class KeyedLocks:
    """Locks by key, each of which exists only while it is in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}  # the lock, and the number of threads that use it

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Hold the lock of a key."""
        with self._lock:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = (lock, users - 1)


def check_request(request: JobRequest, models: Mapping[str, ModelAnswer]) -> None:
    """Check that the models are loaded, and that models, formats and options can be combined.

    Args:
        request: body of the request.
        models: the loaded models by name.

    Raises:
        BadRequest: a model is named twice.
        UnknownModel: a model isn't loaded.
        Unsuitable: the models have different classes, or the comparison can't be done.
    """
    if not set(request.models) <= set(models):
        message = "a model of that name isn't loaded; GET /v1/models lists them"
        raise UnknownModel("model_not_found", message, field="models")
    if len(set(request.models)) < len(request.models):
        raise BadRequest("parameter_invalid", "models has a name twice; give each name once", field="models")
    is_comparison = request.options.kind == "compare"
    classes = {tuple(each.name for each in models[name].classes) for name in request.models}
    if len(classes) > 1 and (is_comparison or request.options.as_ensemble):
        message = "the models have different classes; choose models that were trained on the same classes"
        raise Unsuitable("classes_differ", message, field="models")
    if is_comparison and (len(request.models) != 2 or not set(request.formats) <= {"png", "tiff", "nifti"}):
        message = "a comparison takes two models, and the formats png, tiff and nifti"
        raise Unsuitable("comparison_not_possible", message, field="options")
