"""Jobs as clients see them: their state, their results, their cancellation, and their deletion when they expire."""

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from dbos import WorkflowStatus

from disk.digest import sha256_of_file
from service.errors import Conflict, Gone, UnknownJob
from service.jobs.queue import JobQueue
from service.jobs.runner import read_progress
from service.jobs.status import OPEN, job_answer, state_of
from service.limits import ServiceLimits
from service.schemas import JobAnswer, ResultAnswer
from service.store import Store, is_id, read_json, write_json

_ORDER_S = 1.0  # for which the queue's order is cached, so that a thousand clients that poll cost one query


class Jobs:
    """Jobs of one store. Its methods block: call them in a worker thread.

    Args:
        store: store with the folders of the jobs.
        queue: queue with the workflows of the jobs.
        limits: time after which results are deleted.
    """

    def __init__(self, store: Store, queue: JobQueue, limits: ServiceLimits) -> None:
        self._store, self._queue, self._limits = store, queue, limits
        self._order: list[str] = []
        self._order_time_s = 0.0

    def answer(self, job_id: str, owner: str) -> JobAnswer:
        """Return the state of a job.

        Raises:
            UnknownJob: the owner has no such job.
        """
        record = self._record(job_id, owner)
        workflow = self._queue.workflow(job_id)
        if workflow is None:
            raise _unknown()
        return self._answer_of(record, workflow)

    def answers(self, owner: str, state: str | None, limit: int) -> list[JobAnswer]:
        """Return the states of an owner's newest `limit` jobs, newest first, without those in another state than `state`."""
        answers = []
        for workflow in self._queue.workflows_of(owner, limit):
            with suppress(UnknownJob):
                answers.append(self._answer_of(self._record(workflow.workflow_id, owner), workflow))
        return [answer for answer in answers if state is None or answer.state == state]

    def end(self, job_id: str, owner: str, *, keep: bool = False) -> bool:
        """Cancel an unfinished job, or delete a finished one; return whether the job was cancelled.

        Args:
            job_id: ID of the job.
            owner: owner of the job.
            keep: keep a finished job, as it may have finished before its client could cancel it.

        Raises:
            UnknownJob: the owner has no such job.
            Conflict: `job_finished`: the job is finished, and is kept.
        """
        if self.answer(job_id, owner).state in OPEN:
            self._queue.cancel(job_id)
            return True
        if keep:
            raise Conflict("job_finished", "the job is finished and was kept; leave keep out to delete it with its results")
        self._delete(job_id)
        return False

    def result(self, job_id: str, owner: str, name: str) -> tuple[Path, ResultAnswer]:
        """Return the path of a result's file, whose content has been checked, and its description.

        Raises:
            UnknownJob: the owner has no such job, or the job no such result.
            Conflict: `job_not_finished`, `job_failed` or `result_damaged`.
            Gone: `result_expired`.
        """
        answer = self.answer(job_id, owner)
        if answer.state in OPEN:
            raise Conflict("job_not_finished", "the job isn't finished; GET /v1/jobs/ID has its progress")
        if answer.state != "done":
            raise Conflict("job_failed", "the job failed or was cancelled, and has no results; GET /v1/jobs/ID has the reason")
        if self._record(job_id, owner).get("expired"):
            raise Gone("result_expired", "the results have expired and were deleted; send the job again")
        result = next((each for each in answer.results if each.name == name), None)
        if result is None:
            raise UnknownJob("result_not_found", "the job has no result of that name; GET /v1/jobs/ID lists them")
        path = self._store.job(job_id) / "results" / result.name
        try:
            stat = path.stat()
            is_intact = stat.st_size == result.bytes and _sha256(path, stat.st_mtime_ns, stat.st_ino) == result.sha256
        except OSError:
            is_intact = False
        if not is_intact:
            raise Conflict("result_damaged", "the result's file was changed on the server; send the job again")
        return path, result

    def sweep(self, now: float, most: int = 1000) -> None:
        """Delete expired results, later their jobs, and folders of jobs that were never accepted.

        Args:
            now: time in seconds since 1970.
            most: most folders to look at, so that the sweep ends soon.
        """
        for folder in list((self._store.folder / "jobs").iterdir())[:most]:
            with suppress(OSError, ValueError):
                self._sweep_one(folder, now)

    def _sweep_one(self, folder: Path, now: float) -> None:
        lifetime_s = self._limits.results_expire_s
        record = read_json(folder / "job.json") if is_id(folder.name) else None
        workflow = self._queue.workflow(folder.name) if record is not None else None
        if record is None or workflow is None:  # a process was killed before it queued the job
            created_s = folder.stat().st_mtime if record is None else record["created_at"]
            if now - created_s > lifetime_s:
                shutil.rmtree(folder, ignore_errors=True)
        elif workflow.completed_at is not None:
            age_s = now - workflow.completed_at / 1000
            if age_s > 2 * lifetime_s:
                self._delete(folder.name)
            elif age_s > lifetime_s and not record.get("expired"):
                write_json(folder / "job.json", {**record, "expired": True})
                for name in ("results", "inputs", "work"):
                    shutil.rmtree(folder / name, ignore_errors=True)

    def _delete(self, job_id: str) -> None:
        self._queue.delete(job_id)
        shutil.rmtree(self._store.job(job_id), ignore_errors=True)

    def _record(self, job_id: str, owner: str) -> dict[str, Any]:
        record = read_json(self._store.job(job_id) / "job.json") if is_id(job_id) else None
        if record is None or record["owner"] != owner:
            raise _unknown()
        return record

    def _answer_of(self, record: Mapping[str, Any], workflow: WorkflowStatus) -> JobAnswer:
        job_id, state = record["id"], state_of(workflow)
        progress = read_progress(self._store.job(job_id)) if state == "running" else {}
        position = None
        if state == "queued":
            if time.monotonic() - self._order_time_s > _ORDER_S:
                self._order, self._order_time_s = self._queue.waiting(), time.monotonic()
            position = self._order.index(job_id) + 1 if job_id in self._order else None
        return job_answer(record, workflow, progress, position, self._limits.results_expire_s)


def _unknown() -> UnknownJob:
    return UnknownJob("job_not_found", "there is no such job; GET /v1/jobs lists yours")


@lru_cache(10_000)
def _sha256(path: Path, modified_ns: int, inode: int) -> str:
    """Return the SHA-256 of a file; computed once for a file that isn't changed, however many ranges of it are requested."""
    return sha256_of_file(path)
