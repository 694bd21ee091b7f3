"""A batch of images: each becomes a job whose masks are fetched into a folder, several jobs at a time.

What an earlier run of the same batch left is continued, not repeated.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from service.client.errors import ClientError, NotAllowed, TooManyJobs, Unreachable
from service.client.http_client import OvertileClient, failure
from service.client.inputs import InputImage
from service.schemas import JobAnswer, ModelAnswer

MAX_OPEN_JOBS = 4  # submitted before the first is waited for, so that the server is never idle while a file is sent


@dataclass(frozen=True)
class BatchSettings:
    """Models, formats and options that every image of a batch is segmented with.

    Args:
        models: models of the server.
        formats: formats of the masks; none: each image's own.
        options: options of the jobs.
    """

    models: Sequence[ModelAnswer]
    formats: Sequence[str] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Text that is equal for equal settings; a model that was trained again has another."""
        models = [model.model_dump(mode="json") for model in self.models]
        return json.dumps([models, list(self.formats), self.options], sort_keys=True)

    def of_image(self, image: InputImage) -> "BatchSettings":
        """Return the settings of one image, with the spacing and axes that a table gives it."""
        given = {"spacing_um": image.spacing_um and list(image.spacing_um), "axes": image.axes}
        return replace(self, options=self.options | {name: value for name, value in given.items() if value})


@dataclass(frozen=True)
class BatchOutcome:
    """Files of an image, or the error that prevented them."""

    image: InputImage
    result: list[Path] | ClientError | OSError
    job_id: str | None = None
    warnings: tuple[str, ...] = ()


class BatchObserver(Protocol):
    """Receiver of a batch's progress."""

    def on_bytes(self, image: InputImage, done: int, total: int) -> None:
        """Receive the number of the image's bytes that are on the server."""

    def on_job(self, image: InputImage, job: JobAnswer) -> None:
        """Receive the state of the image's job."""


@dataclass(frozen=True)
class Batch:
    """Images that one server segments.

    Args:
        client: client of the server.
        settings: settings of every image.
        out: folder for the masks, which are named by the images' stems.
        observer: receiver of the progress.
    """

    client: OvertileClient
    settings: BatchSettings
    out: Path
    observer: BatchObserver

    def run(self, images: Sequence[InputImage]) -> Iterator[BatchOutcome]:
        """Yield an outcome for each image; an image that fails doesn't affect the others.

        Raises:
            Unreachable, NotAllowed: all other images would fail, too.
        """
        open_jobs: deque[tuple[InputImage, str]] = deque()
        for image in images:
            while len(open_jobs) >= MAX_OPEN_JOBS:
                yield self._finish(*open_jobs.popleft())
            while True:
                job_id = self._start(image, waits=not open_jobs)
                if not isinstance(job_id, TooManyJobs) or not open_jobs:
                    break
                yield self._finish(*open_jobs.popleft())
            if isinstance(job_id, str):
                open_jobs.append((image, job_id))
            else:
                yield BatchOutcome(image, job_id)
        for image, job_id in open_jobs:
            yield self._finish(image, job_id)

    def _start(self, image: InputImage, *, waits: bool) -> str | ClientError | OSError:
        """Return the ID of the image's job, of an earlier run if that is still useful, or the error of this image."""
        try:
            return self._earlier_job(image) or self._new_job(image, waits=waits)
        except (Unreachable, NotAllowed):
            raise
        except (ClientError, OSError) as error:
            return error

    def _earlier_job(self, image: InputImage) -> str | None:
        """Return the job that an earlier run submitted, or None; one that failed or expired is removed."""
        journal = self.client.journal
        key = journal.key(image.files, self.settings.of_image(image).text)
        if (job_id := journal.read(key)) is None:
            return None
        try:
            if _is_useful(self.client.job(job_id)):
                return job_id
            self.client.forget(job_id)
        except ClientError as error:
            if error.status != 404:
                raise
        journal.remove(key)
        return None

    def _new_job(self, image: InputImage, *, waits: bool) -> str:
        """Upload the image's files, submit a job, and write its ID into the journal."""
        sizes = [file.stat().st_size for file in image.files]

        def on_bytes(number: int, done: int, _: int) -> None:
            self.observer.on_bytes(image, sum(sizes[:number]) + done, sum(sizes))

        journal = self.client.journal
        settings = self.settings.of_image(image)
        key = journal.key(image.files, settings.text)
        uploads = [self.client.upload(file, partial(on_bytes, number)) for number, file in enumerate(image.files)]
        job = self._submit(uploads, settings, waits=waits)
        if not _is_useful(job):  # that of a run which was killed before it could write the ID down
            self.client.forget(job.id)
            job = self._submit(uploads, settings, waits=waits)
        journal.write(key, job.id)
        return job.id

    def _submit(self, uploads: Sequence[str], settings: BatchSettings, *, waits: bool) -> JobAnswer:
        names = [model.name for model in settings.models]
        key = hashlib.sha256(json.dumps([list(uploads), settings.text]).encode()).hexdigest()
        return self.client.submit(uploads, names, settings.formats, settings.options, idempotency_key=key, waits=waits)

    def _finish(self, image: InputImage, job_id: str) -> BatchOutcome:
        """Wait for the job and fetch its results."""
        try:
            job = self.client.wait(job_id, lambda answer: self.observer.on_job(image, answer))
            if job.state != "done":
                return BatchOutcome(image, failure(job), job_id)
            return BatchOutcome(image, self.client.fetch(job_id, self.out, stem=image.stem), job_id, tuple(job.warnings))
        except (Unreachable, NotAllowed):
            raise
        except (ClientError, OSError) as error:
            return BatchOutcome(image, error, job_id)


def _is_useful(job: JobAnswer) -> bool:
    """Return whether the job is under way, or has results that haven't expired."""
    if job.state == "done":
        return job.expires_at is None or job.expires_at > datetime.now(UTC)
    return job.state in ("queued", "running")
