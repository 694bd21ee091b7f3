"""The HTTP interface as a Python object: images and jobs go to a server, masks come back, whatever breaks in between.

with OvertileClient("http://127.0.0.1:3000") as client:
    job = client.submit([client.upload(Path("slide.svs"))], ["unet"])
    client.wait(job.id)
    client.fetch(job.id, Path("masks"))
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from service.client.errors import ClientError, JobFailed
from service.client.inputs import stem_of
from service.client.journal import Memory, default_folder
from service.client.results import Fetching, OnFile, place_of
from service.client.transport import OnPause, Wire
from service.client.upload_transfer import PIECE_BYTES, OnBytes, upload
from service.media_types import MEDIA_TYPES
from service.schemas import JobAnswer, JobRequest, JobsAnswer, ModelsAnswer

FINISHED = ("done", "failed", "cancelled")
POLL_S = 1.0
_SILENT_S = 30.0  # the server says something every 10


def _ignore(*_: object) -> None:
    """For those who don't want to be told."""


class OvertileClient:
    """A server, from another program.

    Requests are tried again when the connection breaks, the server is busy or being restarted; a server that never answered is
    given up after seconds. What was begun is remembered in a folder, so that another run of the same program goes on with it.

    Args:
        url: such as http://127.0.0.1:3000.
        key: as overtile keys add printed it; None where the server asks for none.
        timeout_s: without a byte, after which a connection is given up.
        patience_s: for which a request is tried again.
        memory: the folder; None: overtile/client in the user's cache.
        on_pause: is told why it waits, and for how many seconds.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        patience_s: float = 300.0,
        memory: Path | None = None,
        on_pause: OnPause = _ignore,
    ) -> None:
        self._wire = Wire(url, key, timeout_s, patience_s, on_pause)
        self.memory = Memory(memory or default_folder(os.environ), self._wire.url)
        self.memory.sweep()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections."""
        self._wire.close()

    def models(self) -> ModelsAnswer:
        """What is loaded, and what couldn't be."""
        return self._wire.answer(ModelsAnswer, "GET", "/v1/models")

    def segment(
        self,
        path: Path,
        model: str | None,
        out: Path,
        *,
        mask_format: str | None = None,
        spacing_um: Sequence[float] | None = None,
    ) -> Path:
        """A small image's mask, as a file in the folder `out`; large ones are jobs.

        Raises:
            ClientError: the server refuses the image.
        """
        spacing = ",".join(map(str, spacing_um)) if spacing_um else None
        words = {"model": model, "format": mask_format, "spacing_um": spacing}
        params = {name: value for name, value in words.items() if value}
        headers = {"Content-Length": str(path.stat().st_size)}
        answer = self._wire.ask("POST", "/v1/segment", content=lambda: _blocks(path), headers=headers, params=params, slow=True)
        media_type = answer.headers.get("content-type", "").partition(";")[0]
        ending = next((ending for ending, known in MEDIA_TYPES.items() if known == media_type), "")
        out.mkdir(parents=True, exist_ok=True)
        target = out / f"{stem_of(path)}{ending}"
        target.write_bytes(answer.content)
        return target

    def upload(self, path: Path, on_progress: OnBytes = _ignore, piece_bytes: int = PIECE_BYTES) -> str:
        """The ID of a file that is on the server; what an earlier run sent of it isn't sent again.

        Args:
            path: the file.
            on_progress: is told the bytes that were sent, and those of the file.
            piece_bytes: most that is sent in one request, and so most that is sent twice.

        Raises:
            ClientError: the server refuses it.
            Damaged: the file was changed meanwhile, or other bytes arrived.
        """
        return upload(self._wire, self.memory, path, piece_bytes, on_progress)

    def submit(
        self,
        upload_ids: Sequence[str],
        models: Sequence[str],
        formats: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        waits: bool = True,
    ) -> JobAnswer:
        """A job that the server has accepted; the same uploads and wishes are the same job, however often they are sent.

        Args:
            upload_ids: one file; or the channels of one image; or the files of one DICOM series.
            models: names of `models()`.
            formats: of the masks; none: the image's own.
            options: kind, spacing_um, tissue, uncertainty, probabilities, as_ensemble, disagreement.
            idempotency_key: None: made of what is wanted.
            waits: while the queue is full.

        Raises:
            ClientError: the server refuses it.
            TooManyJobs: the queue is full, or the key's part of it.
        """
        wanted = {"uploads": list(upload_ids), "models": list(models), "formats": list(formats), "options": options or {}}
        try:
            text = JobRequest.model_validate(wanted).model_dump_json()
        except ValidationError as error:
            name = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise ClientError("parameter_invalid", f"{name}: {error.errors()[0]['msg']}; correct it") from error
        key = idempotency_key or hashlib.sha256(text.encode()).hexdigest()
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        final = () if waits else ("queue_full", "quota_exceeded")
        return self._wire.answer(JobAnswer, "POST", "/v1/jobs", content=text.encode, headers=headers, final=final, slow=True)

    def job(self, job_id: str) -> JobAnswer:
        """How it stands with a job."""
        return self._wire.answer(JobAnswer, "GET", f"/v1/jobs/{job_id}")

    def jobs(self, state: str | None = None, limit: int = 100) -> list[JobAnswer]:
        """The key's jobs, newest first."""
        params = {"limit": str(limit)} | ({"state": state} if state else {})
        return self._wire.answer(JobsAnswer, "GET", "/v1/jobs", params=params).jobs

    def wait(self, job_id: str, on_progress: Callable[[JobAnswer], object] = _ignore) -> JobAnswer:
        """The job once it is finished, however that went; a server that is restarted meanwhile is waited for.

        Raises:
            ClientError: there is no such job, or the server can't be reached any longer.
        """
        streams = True
        while True:
            told = 0
            for answer in self._events(job_id) if streams else ():
                told += 1
                on_progress(answer)
                if answer.state in FINISHED:
                    return answer
            streams = streams and told > 0  # something on the way keeps the stream back: ask instead
            on_progress(answer := self.job(job_id))
            if answer.state in FINISHED:
                return answer
            time.sleep(POLL_S)

    def fetch(self, job_id: str, folder: Path, *, stem: str | None = None, on_progress: OnFile = _ignore) -> list[Path]:
        """A finished job's results as files, each compared with its SHA-256; those that are there aren't fetched again.

        Args:
            job_id: of the job.
            folder: made where it is missing.
            stem: mask.png becomes STEM.png, every other STEM.NAME; None: names as the server gives them.
            on_progress: is told a file's name, its bytes that came, and those in all.

        Raises:
            JobFailed: it has no results.
            ClientError: the server refuses them, or they aren't there yet.
            Damaged: other bytes came than the job made.
        """
        job = self.job(job_id)
        if job.state in ("failed", "cancelled"):
            raise failure(job)
        if job.state != "done":
            raise ClientError("job_not_finished", f"job {job_id} is {job.state}; fetch its results when it is done")
        places = [place_of(result, folder, stem) for result in job.results]
        folder.mkdir(parents=True, exist_ok=True)
        pairs = zip(job.results, places, strict=True)
        return [Fetching(self._wire, job_id, result, place, on_progress).run() for result, place in pairs]

    def cancel(self, job_id: str) -> JobAnswer:
        """Calls a job off; one that is finished stays as it is."""
        try:
            self._wire.ask("DELETE", f"/v1/jobs/{job_id}", params={"keep": "true"})
        except ClientError as error:
            if error.code != "job_finished":
                raise
        return self.job(job_id)

    def forget(self, job_id: str) -> None:
        """Drops a finished job on the server, with its results; one that isn't finished is called off first."""
        self.cancel(job_id)
        self.wait(job_id)
        try:
            self._wire.ask("DELETE", f"/v1/jobs/{job_id}")
        except ClientError as error:
            if error.status != 404:  # an earlier try did it
                raise

    def _events(self, job_id: str) -> Iterator[JobAnswer]:
        """What the server tells, until the stream ends or breaks."""
        try:
            with self._wire.stream("GET", f"/v1/jobs/{job_id}/events", timeout_s=_SILENT_S) as response:
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        yield JobAnswer.model_validate_json(line.removeprefix("data:"))
        except (ClientError, ValidationError):  # the job itself is asked next, and says what is wrong
            return


def failure(job: JobAnswer) -> JobFailed:
    """Why a job has no results."""
    if job.state == "cancelled":
        return JobFailed("cancelled", f"job {job.id} was called off; the same command hands it over again")
    code, message = (job.error.code, job.error.message) if job.error else ("internal", "the server failed at this job")
    return JobFailed(code, message)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(2**20):
            yield block
