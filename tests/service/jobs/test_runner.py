"""One job on an engine that answers at once: its outcome, also where the engine's error is a timeout of the system."""

import errno
from pathlib import Path
from typing import Any, cast

import pytest

from service.engine.supervisor import Call, Supervisor
from service.jobs.runner import JobRunner
from service.store import Store, new_id, write_json


class AnsweringEngine:
    is_ready = True

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def ask(self, what: str, on_progress: Any, **parameters: Any) -> Call:
        call = Call({"do": what, **parameters}, on_progress)
        if self.error:
            call.future.set_exception(self.error)
        else:
            call.future.set_result({"results": [], "seconds": 1.0})
        return call


@pytest.mark.timeout(20)
@pytest.mark.parametrize("error", [None, OSError(errno.ETIMEDOUT, "in the engine"), OSError(errno.EIO, "in the engine")])
def test_a_job_ends_with_the_answer_or_the_error(error: Exception | None, tmp_path: Path) -> None:
    store, job_id = Store(tmp_path / "store"), new_id()
    store.job(job_id).mkdir()
    write_json(store.job(job_id) / "job.json", {"models": ["unet"], "formats": [], "options": {}})
    outcome = JobRunner(store, cast(Supervisor, AnsweringEngine(error))).run(job_id)
    if error is None:
        assert outcome == {"state": "done", "results": [], "seconds": 1.0}
    else:
        assert (outcome["state"], outcome["error"]["code"]) == ("failed", "internal")
