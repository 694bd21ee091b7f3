"""State of a job as clients see it, from its record, its workflow in DBOS and its progress."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from dbos import WorkflowStatus

from service.schemas import JobAnswer, JobFailure, ResultAnswer

State = Literal["queued", "running", "done", "failed", "cancelled"]
OPEN = ("queued", "running")

_STATES: dict[str, State] = {"ENQUEUED": "queued", "DELAYED": "queued", "PENDING": "running", "CANCELLED": "cancelled"}
_UNEXPECTED = {"code": "internal", "message": "the server failed to run the job"}


def state_of(workflow: WorkflowStatus) -> State:
    """Return the state of a job; for a finished one, its outcome contains the state."""
    state: State = _STATES.get(workflow.status) or _outcome(workflow).get("state", "failed")
    return state


def job_answer(
    record: Mapping[str, Any],
    workflow: WorkflowStatus,
    progress: Mapping[str, Any],
    position: int | None,
    results_expire_s: float,
) -> JobAnswer:
    """Return the state of a job for its client.

    Args:
        record: content of job.json.
        workflow: workflow of the job.
        progress: `done` and `total` tiles, and `eta_s`; empty unless the job is running.
        position: position in the queue; None unless the job is queued.
        results_expire_s: time after which results are deleted.
    """
    state, outcome = state_of(workflow), _outcome(workflow)
    error = outcome.get("error") or (_UNEXPECTED if state == "failed" else None)
    created_at = datetime.fromtimestamp(record["created_at"], UTC)
    started_at = _time(workflow.dequeued_at, created_at)
    finished_ms = workflow.completed_at or (workflow.updated_at if state not in OPEN else None)
    finished_at = _time(finished_ms, started_at or created_at)
    return JobAnswer(
        id=record["id"],
        kind=record["options"]["kind"],
        state=state,
        models=record["models"],
        names=record["names"],
        progress=1.0 if state == "done" else progress.get("done", 0) / max(1, progress.get("total", 1)),
        position=position,
        eta_s=progress.get("eta_s"),
        warnings=outcome.get("warnings", []),
        error=JobFailure.model_validate(error) if error else None,
        results=[ResultAnswer.model_validate(each) for each in outcome.get("results", [])],
        created_at=created_at,
        started_at=started_at,
        finished_at=finished_at,
        expires_at=finished_at and finished_at + timedelta(seconds=results_expire_s),
    )


def _outcome(workflow: WorkflowStatus) -> Mapping[str, Any]:
    return workflow.output if isinstance(workflow.output, dict) else {}


def _time(milliseconds: int | None, earliest: datetime) -> datetime | None:
    """Return the time of an event; at least `earliest`, as the clock may have been set back since."""
    return None if milliseconds is None else max(earliest, datetime.fromtimestamp(milliseconds / 1000, UTC))
