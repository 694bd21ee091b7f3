"""Job queue: DBOS workflows in a database, which resume after a kill on this machine or on another one."""

import json
import logging
import time
from contextlib import suppress
from typing import Any

from dbos import DBOS, DBOSConfig, Serializer, WorkflowStatus

from service import event_log
from service.jobs.runner import CANCELLED, JobOutcome, JobRunner
from service.limits import ServiceLimits
from service.store import Store

QUEUE = "overtile"
WORKFLOW = "carry_out"
VERSION = "1"  # of the workflow; a later release runs the jobs that an earlier one accepted
POLL_S = 0.2

_log = logging.getLogger("overtile.service")


class JsonSerializer(Serializer):
    """JSON for everything that DBOS stores, so that nothing that is read from the database is executed, as pickle would be."""

    def serialize(self, data: Any) -> str:
        """Return data as JSON; an error is stored as the name of its class."""
        return json.dumps({"error": type(data).__name__} if isinstance(data, BaseException) else data)

    def deserialize(self, serialized_data: str) -> Any:
        """Return stored data; tuples become lists, and errors the object that was stored for them."""
        return json.loads(serialized_data)

    def name(self) -> str:
        """Return the name that the database stores beside the data."""
        return "overtile_json"


class JobQueue:
    """Queue of jobs in a database, and the workers of this machine.

    Args:
        store: store with the folders of the jobs.
        runner: runs the jobs of this machine.
        limits: number of jobs that run at a time and that may wait.
        database_url: URL as SQLAlchemy takes it, of an SQLite file in the store or a PostgreSQL that machines share.
        executor: name of this machine among those that share the queue.
    """

    def __init__(self, store: Store, runner: JobRunner, limits: ServiceLimits, database_url: str, executor: str) -> None:
        self._store, self._runner, self._limits = store, runner, limits
        self._config: DBOSConfig = {
            "name": "overtile",
            "system_database_url": database_url,
            "application_version": VERSION,
            "executor_id": executor,
            "serializer": JsonSerializer(),
            "log_level": "WARNING",
            "use_listen_notify": False,
        }

    def launch(self) -> None:
        """Resume interrupted jobs and start the workers. Must be called outside of an event loop."""
        DBOS(config=self._config)
        event_log.configure()  # DBOS has added a log handler of its own

        @DBOS.step(name="work")
        def work(job_id: str) -> JobOutcome:
            return self._runner.run(job_id)

        @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)
        def carry_out(job_id: str) -> JobOutcome:
            return work(job_id)

        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=self._limits.jobs_at_once, polling_interval_sec=POLL_S)

    def stop(self) -> None:
        """Start no more jobs; running ones are resumed at the next start."""
        self._runner.stop()

    def executors(self) -> set[str]:
        """Return the names of the machines that have running jobs."""
        workflows = DBOS.list_workflows(name=WORKFLOW, status="PENDING", load_input=False, load_output=False)
        return {each.executor_id for each in workflows if each.executor_id}

    def take_over(self, executor: str) -> None:
        """Put the running jobs of a dead machine back into the queue; they resume from the rows that it finished."""
        workflows = DBOS.list_workflows(
            name=WORKFLOW, status="PENDING", executor_id=executor, load_input=False, load_output=False
        )
        for each in workflows:
            _log.warning("job %s: machine %s has died, another one resumes the job", each.workflow_id, executor)
            DBOS.resume_workflow(each.workflow_id, queue_name=QUEUE)

    def enqueue(self, job_id: str, owner: str) -> None:
        """Add a job, which is in the database when this returns; a job that is there already stays as it is."""
        options = {"queue_name": QUEUE, "workflow_name": WORKFLOW, "workflow_id": job_id, "app_version": VERSION}
        DBOS.enqueue_workflow_with_options({**options, "authenticated_user": owner}, job_id)  # type: ignore[typeddict-item]

    def workflow(self, job_id: str) -> WorkflowStatus | None:
        """Return the workflow of a job; None if there is no such job."""
        return DBOS.get_workflow_status(job_id)

    def workflows_of(self, owner: str, limit: int) -> list[WorkflowStatus]:
        """Return an owner's workflows, newest first."""
        return DBOS.list_workflows(name=WORKFLOW, user=owner, sort_desc=True, limit=limit, load_input=False)

    def waiting(self, owner: str | None = None, *, and_running: bool = False) -> list[str]:
        """Return the IDs of the waiting jobs in their order; None takes those of all owners."""
        statuses = ["ENQUEUED", "PENDING"] if and_running else ["ENQUEUED"]
        workflows = DBOS.list_workflows(
            name=WORKFLOW, user=owner, status=statuses, limit=self._limits.max_queued + 1, load_input=False, load_output=False
        )
        return [each.workflow_id for each in workflows]

    def oldest_waiting_s(self) -> float:
        """Return for how many seconds the oldest waiting job has been waiting; 0 if none waits."""
        workflows = DBOS.list_workflows(name=WORKFLOW, status="ENQUEUED", limit=1, load_input=False, load_output=False)
        created_ms = workflows[0].created_at if workflows else None
        return max(0.0, time.time() - created_ms / 1000) if created_ms else 0.0

    def cancel(self, job_id: str) -> None:
        """Cancel a job, whichever machine runs it."""
        with suppress(FileNotFoundError):
            (self._store.job(job_id) / CANCELLED).touch()
        DBOS.cancel_workflow(job_id)

    def delete(self, job_id: str) -> None:
        """Delete a job from the database."""
        DBOS.delete_workflow(job_id)
