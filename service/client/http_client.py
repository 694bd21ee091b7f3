"""Python client of the HTTP interface: it sends images and fetches masks, and continues after broken connections.

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
from service.client.journal import ClientJournal, default_folder
from service.client.results import OnFile, ResultDownload, result_path
from service.client.transport import OnPause, Transport
from service.client.upload_transfer import PIECE_BYTES, OnBytes, upload
from service.schemas import MEDIA_TYPES, JobAnswer, JobRequest, JobsAnswer, ModelsAnswer

FINISHED = ("done", "failed", "cancelled")
POLL_S = 1.0
_DOUBLE_SUFFIXES = (".nii", ".ome")
_SILENT_S = 30.0  # the server sends something every 10 s


def _ignore(*_: object) -> None:
    """Accept and ignore any progress."""


def stem_of(path: Path) -> str:
    """Return the name up to the suffix; .nii.gz, .ome.tif and the like are one suffix."""
    return next((path.stem.removesuffix(each) for each in _DOUBLE_SUFFIXES if path.stem.endswith(each)), path.stem)


class OvertileClient:
    """Client of one server.

    Requests are tried again when the connection breaks, or while the server is busy or restarts; a server that never answered
    is given up after a few seconds. A journal holds the IDs of uploads and jobs, with which another run of the same program
    continues.

    Args:
        url: address of the server, for example http://127.0.0.1:3000.
        key: key as `overtile keys add` printed it; None where the server needs none.
        timeout_s: a connection without a byte for so long is given up.
        patience_s: a request is tried again for so long.
        journal_folder: folder of the journal; None: overtile/client in the user's cache.
        on_pause: called with the error and the seconds of each pause before another try.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        patience_s: float = 300.0,
        journal_folder: Path | None = None,
        on_pause: OnPause = _ignore,
    ) -> None:
        self._transport = Transport(url, key, timeout_s=timeout_s, patience_s=patience_s, on_pause=on_pause)
        self.journal = ClientJournal(journal_folder or default_folder(os.environ), self._transport.url)
        self.journal.remove_old()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def models(self) -> ModelsAnswer:
        """Return the models that are loaded, and those that couldn't be."""
        return self._transport.answer(ModelsAnswer, "GET", "/v1/models")

    def segment(
        self,
        path: Path,
        model: str | None,
        out: Path,
        *,
        mask_format: str | None = None,
        spacing_um: Sequence[float] | None = None,
    ) -> Path:
        """Segment a small image, write its mask into the folder `out`, and return the mask's path; large images need jobs.

        Args:
            path: image in one file.
            model: name from `models()`; None where only one is loaded.
            out: is created where it doesn't exist.
            mask_format: format of the mask; None: the image's own.
            spacing_um: micrometres between pixels, for an image that doesn't state it.

        Raises:
            ClientError: the server refuses the image.
        """
        spacing = ",".join(map(str, spacing_um)) if spacing_um else None
        values = {"model": model, "format": mask_format, "spacing_um": spacing}
        params = {name: value for name, value in values.items() if value}
        headers = {"Content-Length": str(path.stat().st_size)}

        def blocks() -> Iterator[bytes]:
            with path.open("rb") as file:
                while block := file.read(2**20):
                    yield block

        response = self._transport.request("POST", "/v1/segment", content=blocks, headers=headers, params=params, slow=True)
        media_type = response.headers.get("content-type", "").partition(";")[0]
        suffix = next((suffix for suffix, each in MEDIA_TYPES.items() if each == media_type), "")
        out.mkdir(parents=True, exist_ok=True)
        target = out / f"{stem_of(path)}{suffix}"
        target.write_bytes(response.content)
        return target

    def upload(self, path: Path, on_progress: OnBytes = _ignore, piece_bytes: int = PIECE_BYTES) -> str:
        """Upload a file, or the rest of it where an earlier run began, and return the upload's ID.

        Args:
            path: the file.
            on_progress: called with the bytes that were sent, and those of the file.
            piece_bytes: most bytes of one request, which are also the most that are sent twice.

        Raises:
            ClientError: the server refuses it.
            Damaged: the file was changed meanwhile, or other bytes arrived.
        """
        return upload(self._transport, self.journal, path, piece_bytes=piece_bytes, on_bytes=on_progress)

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
        """Submit a job and return it; the same arguments give the same job, however often they are sent.

        Args:
            upload_ids: one file; or the channels of one image; or the files of one DICOM series.
            models: names from `models()`.
            formats: formats of the masks; none: the image's own.
            options: kind, spacing_um, tissue, uncertainty, probabilities, as_ensemble, disagreement.
            idempotency_key: requests with the same key are one job; None takes a digest of the other arguments.
            waits: waits while the queue is full, instead of raising TooManyJobs.

        Raises:
            ClientError: the server refuses it.
            TooManyJobs: the queue is full, or the key's share of it.
        """
        fields = {"uploads": list(upload_ids), "models": list(models), "formats": list(formats), "options": options or {}}
        try:
            text = JobRequest.model_validate(fields).model_dump_json()
        except ValidationError as error:
            name = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise ClientError("parameter_invalid", f"{name}: {error.errors()[0]['msg']}; correct it") from error
        key = idempotency_key or hashlib.sha256(text.encode()).hexdigest()
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        final = () if waits else ("queue_full", "quota_exceeded")
        return self._transport.answer(
            JobAnswer, "POST", "/v1/jobs", content=text.encode, headers=headers, final=final, slow=True
        )

    def job(self, job_id: str) -> JobAnswer:
        """Return a job with its state and results."""
        return self._transport.answer(JobAnswer, "GET", f"/v1/jobs/{job_id}")

    def jobs(self, state: str | None = None, limit: int = 100) -> list[JobAnswer]:
        """Return the jobs of the key, newest first; `state` restricts them to one state."""
        params = {"limit": str(limit)} | ({"state": state} if state else {})
        return self._transport.answer(JobsAnswer, "GET", "/v1/jobs", params=params).jobs

    def wait(self, job_id: str, on_progress: Callable[[JobAnswer], object] = _ignore) -> JobAnswer:
        """Wait until a job is done, failed or cancelled, and return it; the server may restart meanwhile.

        Args:
            job_id: ID of the job.
            on_progress: called with each state of the job.

        Raises:
            ClientError: there is no such job, or the server can't be reached any longer.
        """
        streams = True
        while True:
            event_count = 0
            for answer in self._events(job_id) if streams else ():
                event_count += 1
                on_progress(answer)
                if answer.state in FINISHED:
                    return answer
            streams = streams and event_count > 0  # a proxy may hold the stream back: ask for the job instead
            on_progress(answer := self.job(job_id))
            if answer.state in FINISHED:
                return answer
            time.sleep(POLL_S)

    def fetch(self, job_id: str, folder: Path, *, stem: str | None = None, on_progress: OnFile = _ignore) -> list[Path]:
        """Download a finished job's results and verify their SHA-256; files that are complete aren't downloaded again.

        Args:
            job_id: ID of the job.
            folder: is created where it doesn't exist.
            stem: mask.png becomes STEM.png, any other NAME STEM.NAME; None: the server's names.
            on_progress: called with a file's name, the bytes that have arrived, and all bytes.

        Returns:
            Paths of the files.

        Raises:
            JobFailed: the job has no results.
            ClientError: the server refuses them, or the job isn't finished.
            Damaged: the bytes differ from those that the job wrote.
        """
        job = self.job(job_id)
        if job.state in ("failed", "cancelled"):
            raise failure(job)
        if job.state != "done":
            raise ClientError("job_not_finished", f"job {job_id} is {job.state}; fetch its results when it is done")
        paths = [result_path(result, folder, stem) for result in job.results]
        folder.mkdir(parents=True, exist_ok=True)
        return [
            ResultDownload(self._transport, job_id, result, target=path, on_file=on_progress).run()
            for result, path in zip(job.results, paths, strict=True)
        ]

    def cancel(self, job_id: str) -> JobAnswer:
        """Cancel a job and return it; one that is finished stays as it is."""
        try:
            self._transport.request("DELETE", f"/v1/jobs/{job_id}", params={"keep": "true"})
        except ClientError as error:
            if error.code != "job_finished":
                raise
        return self.job(job_id)

    def forget(self, job_id: str) -> None:
        """Delete a job and its results from the server; one that isn't finished is cancelled first."""
        self.cancel(job_id)
        self.wait(job_id)
        try:
            self._transport.request("DELETE", f"/v1/jobs/{job_id}")
        except ClientError as error:
            if error.status != 404:  # an earlier try has deleted it
                raise

    def _events(self, job_id: str) -> Iterator[JobAnswer]:
        """Yield the job's states as the server sends them, until the stream ends or breaks."""
        try:
            with self._transport.stream("GET", f"/v1/jobs/{job_id}/events", timeout_s=_SILENT_S) as response:
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        yield JobAnswer.model_validate_json(line.removeprefix("data:"))
        except (ClientError, ValidationError):  # the next request, for the job itself, reports what is wrong
            return


def failure(job: JobAnswer) -> JobFailed:
    """Return the error for a job that has no results."""
    if job.state == "cancelled":
        return JobFailed("cancelled", f"job {job.id} was cancelled; the same command submits it again")
    code, message = (job.error.code, job.error.message) if job.error else ("internal", "the server failed to run the job")
    return JobFailed(code, message)
