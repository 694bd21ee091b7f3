"""Images -> jobs -> masks in a folder: several on their way at a time, each gone on with where an earlier run left it."""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from service.client.errors import ClientError, NotAllowed, TooManyJobs, Unreachable
from service.client.http_client import OvertileClient, failure
from service.client.inputs import Image
from service.schemas import JobAnswer, ModelAnswer

AHEAD = 4  # jobs that the server may have before the first is waited for: it is never idle while a file is sent


@dataclass(frozen=True)
class Wishes:
    """What is wanted of every image.

    Args:
        models: that the server has.
        formats: of the masks; none: the image's own.
        options: of the job.
    """

    models: Sequence[ModelAnswer]
    formats: Sequence[str] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The same for the same wishes to the same models: one that was trained again is another."""
        models = [model.model_dump(mode="json") for model in self.models]
        return json.dumps([models, list(self.formats), self.options], sort_keys=True)


@dataclass(frozen=True)
class Outcome:
    """What became of an image: its files, or why there are none."""

    image: Image
    result: list[Path] | ClientError | OSError
    job_id: str | None = None


class Told(Protocol):
    """Who is told how it goes."""

    def bytes(self, image: Image, done: int, total: int) -> None:
        """So many bytes of the image are on the server."""

    def job(self, image: Image, job: JobAnswer) -> None:
        """How it stands with its job."""


@dataclass(frozen=True)
class Works:
    """Images that are to be segmented by one server.

    Args:
        client: to it.
        wishes: what is wanted of each.
        out: where the masks go, by the images' stems.
        told: how it goes.
    """

    client: OvertileClient
    wishes: Wishes
    out: Path
    told: Told

    def run(self, images: Sequence[Image]) -> Iterator[Outcome]:
        """An outcome an image; one that fails doesn't keep the others from theirs.

        Raises:
            Unreachable, NotAllowed: so would all others.
        """
        waiting: deque[tuple[Image, str]] = deque()
        for image in images:
            while len(waiting) >= AHEAD:
                yield self._settled(*waiting.popleft())
            while True:
                handed = self._handed_over(image, waits=not waiting)
                if not isinstance(handed, TooManyJobs) or not waiting:
                    break
                yield self._settled(*waiting.popleft())
            if isinstance(handed, str):
                waiting.append((image, handed))
            else:
                yield Outcome(image, handed)
        for image, job_id in waiting:
            yield self._settled(image, job_id)

    def _handed_over(self, image: Image, *, waits: bool) -> str | ClientError | OSError:
        """A job's ID."""
        try:
            return self._known_job(image) or self._new_job(image, waits=waits)
        except (Unreachable, NotAllowed):
            raise
        except (ClientError, OSError) as error:
            return error

    def _known_job(self, image: Image) -> str | None:
        """That an earlier run handed over, if it is still of use."""
        memory = self.client.memory
        key = memory.key(image.files, self.wishes.text)
        if (job_id := memory.recall(key)) is None:
            return None
        try:
            if _is_of_use(self.client.job(job_id)):
                return job_id
            self.client.forget(job_id)
        except ClientError as error:
            if error.status != 404:
                raise
        memory.forget(key)
        return None

    def _new_job(self, image: Image, *, waits: bool) -> str:
        memory = self.client.memory
        key = memory.key(image.files, self.wishes.text)
        uploads = self._uploaded(image)
        job = self._submitted(uploads, waits=waits)
        if not _is_of_use(job):  # of a run that was killed before it could remember it
            self.client.forget(job.id)
            job = self._submitted(uploads, waits=waits)
        memory.remember(key, job.id)
        return job.id

    def _uploaded(self, image: Image) -> list[str]:
        sizes = [file.stat().st_size for file in image.files]

        def told(number: int, done: int, _: int) -> None:
            self.told.bytes(image, sum(sizes[:number]) + done, sum(sizes))

        return [self.client.upload(file, partial(told, number)) for number, file in enumerate(image.files)]

    def _submitted(self, uploads: Sequence[str], *, waits: bool) -> JobAnswer:
        wishes = self.wishes
        names = [model.name for model in wishes.models]
        key = _digest(uploads, wishes.text)
        return self.client.submit(uploads, names, wishes.formats, wishes.options, idempotency_key=key, waits=waits)

    def _settled(self, image: Image, job_id: str) -> Outcome:
        try:
            job = self.client.wait(job_id, lambda answer: self.told.job(image, answer))
            if job.state != "done":
                return Outcome(image, failure(job), job_id)
            return Outcome(image, self.client.fetch(job_id, self.out, stem=image.stem), job_id)
        except (Unreachable, NotAllowed):
            raise
        except (ClientError, OSError) as error:
            return Outcome(image, error, job_id)


def _digest(uploads: Sequence[str], wishes: str) -> str:
    return hashlib.sha256(json.dumps([list(uploads), wishes]).encode()).hexdigest()


def _is_of_use(job: JobAnswer) -> bool:
    """Whether it is under way, or has results that are still kept."""
    if job.state == "done":
        return job.expires_at is None or job.expires_at > datetime.now(UTC)
    return job.state in ("queued", "running")
