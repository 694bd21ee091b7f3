"""What is told of a job: what was wanted, how far it is, what came of it, and when."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from dbos import WorkflowStatus as Known

from service.schemas import JobAnswer, JobFailure, ResultAnswer

State = Literal["queued", "running", "done", "failed", "cancelled"]
OPEN = ("queued", "running")

_STATES: dict[str, State] = {"ENQUEUED": "queued", "DELAYED": "queued", "PENDING": "running", "CANCELLED": "cancelled"}
_UNEXPECTED = {"code": "internal", "message": "the server failed at this job"}


def state_of(known: Known) -> State:
    """As clients know it; a workflow that ended says itself how."""
    state: State = _STATES.get(known.status) or _outcome(known).get("state", "failed")
    return state


def job_answer(
    record: Mapping[str, Any], known: Known, progress: Mapping[str, Any], position: int | None, results_expire_s: float
) -> JobAnswer:
    """What a client is told.

    Args:
        record: what was accepted.
        known: the workflow.
        progress: `done` and `total` tiles, and `eta_s`, where it runs.
        position: in the queue.
        results_expire_s: that results are kept.
    """
    state, outcome = state_of(known), _outcome(known)
    error = outcome.get("error") or (_UNEXPECTED if state == "failed" else None)
    created_at = datetime.fromtimestamp(record["created_at"], UTC)
    started_at = _time(known.dequeued_at, created_at)
    finished_at = _time(known.completed_at or (known.updated_at if state not in OPEN else None), started_at or created_at)
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


def _outcome(known: Known) -> Mapping[str, Any]:
    return known.output if isinstance(known.output, dict) else {}


def _time(milliseconds: int | None, least: datetime) -> datetime | None:
    """Not before what came first, though the clock was set back in between."""
    return None if milliseconds is None else max(least, datetime.fromtimestamp(milliseconds / 1000, UTC))
