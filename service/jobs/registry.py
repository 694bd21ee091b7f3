"""Jobs as clients see them: accepted when they are on the disk, followed, fetched, called off, forgotten when they expire."""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbos import WorkflowStatus as Known

from disk.digest import sha256_of_file
from disk.publish import sync
from service.engine.errors import EngineCrashed
from service.engine.supervisor import Supervisor
from service.errors import BadRequest, Conflict, Gone, TooMany, UnknownJob, UnknownModel, Unsuitable
from service.jobs.queue import PROGRESS, Flow
from service.jobs.status import OPEN, job_answer, state_of
from service.limits import Limits
from service.schemas import JobAnswer, JobRequest, ModelAnswer, ResultAnswer
from service.store import Store, is_id, new_id, read_json, write_json

_COUNT_S = 1.0  # that the queue's order is kept, so that a thousand who ask for their place cost one look


@dataclass(frozen=True)
class Wanted:
    """A job that is asked for, whose uploads are there.

    Args:
        owner: whose key it is.
        request: what is wanted.
        files: the uploads' data, in order.
        names: that the client gave them.
        key: the client's own, under which the same job is accepted once.
    """

    owner: str
    request: JobRequest
    files: Sequence[Path]
    names: Sequence[str | None]
    key: str | None = None

    @property
    def id(self) -> str:
        """New, or that of the job that the key stands for."""
        return new_id() if self.key is None else hashlib.sha256(f"{self.owner}\n{self.key}".encode()).hexdigest()[:32]

    @property
    def digest(self) -> str:
        """Of what is wanted."""
        return hashlib.sha256(self.request.model_dump_json().encode()).hexdigest()


@dataclass
class Jobs:
    """The service's jobs. Its methods block: call them in a worker thread."""

    store: Store
    flow: Flow
    engine: Supervisor
    limits: Limits
    _order: list[str] = field(default_factory=list)
    _ordered_at: float = 0.0
    _locks: dict[str, tuple[threading.Lock, int]] = field(default_factory=dict)
    _locks_lock: threading.Lock = field(default_factory=threading.Lock)

    def create(self, wanted: Wanted, max_jobs: int | None = None) -> str:
        """The ID of a job that is on the disk and in the queue.

        Raises:
            Conflict: the key stands for another job.
            TooMany: the queue is full, or the owner's part of it.
            UnknownModel: no such model.
            Unsuitable: models, formats or options that don't go together.
            DataError: the files can't be read, or aren't for these models.
        """
        self.check(wanted.request)
        job_id = wanted.id
        with self._alone(job_id):
            return self._create(job_id, wanted, max_jobs)

    @contextmanager
    def _alone(self, job_id: str) -> Iterator[None]:
        """One at a time of those that come under one key."""
        with self._locks_lock:
            lock, users = self._locks.get(job_id, (threading.Lock(), 0))
            self._locks[job_id] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._locks_lock:
                lock, users = self._locks.pop(job_id)
                if users > 1:
                    self._locks[job_id] = (lock, users - 1)

    def _create(self, job_id: str, wanted: Wanted, max_jobs: int | None) -> str:
        folder = self.store.job(job_id)
        if (known := read_json(folder / "job.json")) is not None:
            if known["digest"] != wanted.digest:
                raise Conflict("idempotency_conflict", "the Idempotency-Key stands for another job; choose a new one")
            self.flow.enqueue(job_id, wanted.owner)
            return job_id
        self._check_room(wanted.owner, max_jobs)
        try:
            self._prepare(folder, wanted)
            self._look(folder, wanted.request)
            write_json(folder / "job.json", self._record(job_id, wanted))
            sync(folder.parent)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.flow.enqueue(job_id, wanted.owner)
        return job_id

    def check(self, request: JobRequest) -> None:
        """Nothing, when models and options go together."""
        models = [self._model(name) for name in request.models]
        if len(set(request.models)) != len(models):
            raise BadRequest("parameter_invalid", "models names one twice; name each once", field="models")
        together = request.options.kind == "compare" or request.options.as_ensemble
        if together and len({tuple(each.name for each in model.classes) for model in models}) > 1:
            raise Unsuitable(
                "classes_differ", "the models know different classes; choose some that know the same", field="models"
            )
        if request.options.kind == "compare" and (len(models) != 2 or not set(request.formats) <= {"png", "tiff", "nifti"}):
            message = "a comparison takes two models, and of formats png, tiff or nifti"
            raise Unsuitable("comparison_not_possible", message, field="options")

    def answer(self, job_id: str, owner: str) -> JobAnswer:
        """How it stands with a job.

        Raises:
            UnknownJob: there is none of that ID, or it is another's.
        """
        record = self._recorded(job_id, owner)
        known = self.flow.status(job_id)
        if known is None:
            raise _unknown()
        return self._answer_of(record, known)

    def owned(self, owner: str, state: str | None, limit: int) -> list[JobAnswer]:
        """An owner's jobs, newest first."""
        answers = []
        for known in self.flow.owned(owner, limit):
            with suppress(UnknownJob):
                answers.append(self._answer_of(self._recorded(known.workflow_id, owner), known))
        return [answer for answer in answers if state is None or answer.state == state]

    def end(self, job_id: str, owner: str, *, keep: bool = False) -> bool:
        """Calls a job off, or forgets one that is finished; whether it was called off.

        Args:
            job_id: of the job.
            owner: whose it has to be.
            keep: of one that is finished nothing is forgotten: it may have ended while it was to be called off.

        Raises:
            UnknownJob: there is none of that ID, or it is another's.
            Conflict: `job_finished`, where it is to be kept.
        """
        answer = self.answer(job_id, owner)
        if answer.state in OPEN:
            self.flow.cancel(job_id)
            return True
        if keep:
            raise Conflict("job_finished", "the job is finished, and stays; leave keep out to forget it with its results")
        self.forget(job_id)
        return False

    def forget(self, job_id: str) -> None:
        """All that there is of a job."""
        self.flow.forget(job_id)
        shutil.rmtree(self.store.job(job_id), ignore_errors=True)

    def result(self, job_id: str, owner: str, name: str) -> tuple[Path, ResultAnswer]:
        """A result's file, whole, and what is known of it.

        Raises:
            UnknownJob: there is no such job, or no such result of it.
            Conflict: `job_not_finished`, `job_failed`, `result_damaged`.
            Gone: `result_expired`.
        """
        answer = self.answer(job_id, owner)
        if answer.state in OPEN:
            raise Conflict("job_not_finished", "the job isn't finished; GET /v1/jobs/ID says how far it is")
        if answer.state != "done":
            raise Conflict("job_failed", "the job has no results; GET /v1/jobs/ID says why")
        if self._recorded(job_id, owner).get("expired"):
            raise Gone("result_expired", "the results were kept as long as results are kept; send the job again")
        found = next((each for each in answer.results if each.name == name), None)
        if found is None:
            raise UnknownJob("result_not_found", "the job has no result of that name; GET /v1/jobs/ID lists them")
        path = self.store.job(job_id) / "results" / found.name
        if not _is_whole(path, found):
            raise Conflict("result_damaged", "the result's file was changed on the server; send the job again")
        return path, found

    def sweep(self, now: float, most: int = 1000) -> None:
        """Drops what is past its time: first the files, later the job; and folders of jobs that were never accepted."""
        for folder in list((self.store.folder / "jobs").iterdir())[:most]:
            with suppress(OSError, ValueError):
                self._sweep_one(folder, now)

    def _sweep_one(self, folder: Path, now: float) -> None:
        record = read_json(folder / "job.json") if is_id(folder.name) else None
        if record is None:
            if now - folder.stat().st_mtime > self.limits.results_expire_s:
                shutil.rmtree(folder, ignore_errors=True)
            return
        known = self.flow.status(folder.name)
        finished_at = known.completed_at if known else None
        if known is None:  # killed between the two: it was never accepted
            if now - record["created_at"] > self.limits.results_expire_s:
                shutil.rmtree(folder, ignore_errors=True)
        elif finished_at is not None and now - finished_at / 1000 > 2 * self.limits.results_expire_s:
            self.forget(folder.name)
        elif finished_at is not None and now - finished_at / 1000 > self.limits.results_expire_s and not record.get("expired"):
            write_json(folder / "job.json", {**record, "expired": True})
            for name in ("results", "inputs", "work"):
                shutil.rmtree(folder / name, ignore_errors=True)

    def _model(self, name: str) -> ModelAnswer:
        if (model := self.engine.models.get(name)) is None:
            raise UnknownModel(
                "model_not_found", "a model of that name isn't loaded; GET /v1/models lists them", field="models"
            )
        return model

    def _check_room(self, owner: str, max_jobs: int | None) -> None:
        if len(self.flow.waiting()) >= self.limits.max_queued:
            raise TooMany("queue_full", "as many jobs wait as may wait; send it again after the seconds in Retry-After")
        if max_jobs is not None and len(self.flow.waiting(owner, and_running=True)) >= max_jobs:
            raise TooMany(
                "quota_exceeded", f"the key may have {max_jobs} jobs at a time; wait for one to finish", limit=max_jobs
            )

    def _prepare(self, folder: Path, wanted: Wanted) -> None:
        """The job's folder, with links to the uploads' data: those may go."""
        shutil.rmtree(folder, ignore_errors=True)  # of a try that was killed
        (folder / "inputs").mkdir(parents=True)
        for number, file in enumerate(wanted.files):
            os.link(file, folder / "inputs" / str(number))
        sync(folder / "inputs")

    def _look(self, folder: Path, request: JobRequest) -> None:
        """Has the files opened in the engine's readers before the job is accepted."""
        words: dict[str, Any] = {"models": request.models, "options": request.options.model_dump()}
        for last in (False, True):  # once more where the engine crashed: it may have been at something else
            self.engine.wait()
            try:
                self.engine.ask("check", inputs=str(folder / "inputs"), **words).future.result(self.limits.direct_timeout_s)
            except EngineCrashed:
                if last:
                    raise
            else:
                return

    def _record(self, job_id: str, wanted: Wanted) -> dict[str, Any]:
        request = wanted.request.model_dump()
        return {
            "id": job_id,
            "owner": wanted.owner,
            "digest": wanted.digest,
            "names": list(wanted.names),
            "created_at": time.time(),
            **request,
        }

    def _recorded(self, job_id: str, owner: str) -> dict[str, Any]:
        record = read_json(self.store.job(job_id) / "job.json") if is_id(job_id) else None
        if record is None or record["owner"] != owner:
            raise _unknown()
        return record

    def _answer_of(self, record: Mapping[str, Any], known: Known) -> JobAnswer:
        state = state_of(known)
        progress = self._progress(record["id"]) if state == "running" else {}
        position = self._position(record["id"]) if state == "queued" else None
        return job_answer(record, known, progress, position, self.limits.results_expire_s)

    def _progress(self, job_id: str) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            return read_json(self.store.job(job_id) / PROGRESS) or {}
        return {}

    def _position(self, job_id: str) -> int | None:
        """How many are to be begun before it, itself included."""
        if time.monotonic() - self._ordered_at > _COUNT_S:
            self._order, self._ordered_at = self.flow.waiting(), time.monotonic()
        return self._order.index(job_id) + 1 if job_id in self._order else None


def _unknown() -> UnknownJob:
    return UnknownJob("job_not_found", "there is no such job; GET /v1/jobs lists yours")


_whole: dict[tuple[str, int, int], bool] = {}  # what was hashed, by path, time and size: not again for every range


def _is_whole(path: Path, known: ResultAnswer) -> bool:
    """Whether the file is what the job made."""
    try:
        stat = path.stat()
        if stat.st_size != known.bytes:
            return False
        key = (str(path), stat.st_mtime_ns, stat.st_ino)
        if key not in _whole:
            if len(_whole) > 10_000:
                _whole.clear()
            _whole[key] = sha256_of_file(path) == known.sha256
        return _whole[key]
    except OSError:
        return False
