"""Download of results: continued after a break, and moved to its place only when its SHA-256 is right."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import httpx

from disk.digest import sha256_of_file
from service.client.errors import ClientError, Damaged
from service.client.transport import Transport
from service.schemas import ResultAnswer

OnFile = Callable[[str, int, int], None]


class ResultDownload:
    """Download of one result of a job.

    Args:
        transport: connection to the server.
        job_id: ID of the job.
        result: description of the result by the server.
        target: file to write.
        on_file: called with the file's name, the bytes that have arrived, and all bytes.
    """

    def __init__(self, transport: Transport, job_id: str, result: ResultAnswer, *, target: Path, on_file: OnFile) -> None:
        self._transport, self._result, self._target, self._on_file = transport, result, target, on_file
        self._path = f"/v1/jobs/{job_id}/results/{result.name}"
        self._part = target.with_name(f".{target.name}.{result.sha256[:16]}.part")  # a part of exactly these bytes

    def run(self) -> Path:
        """Download the file unless it is complete already, and return its path.

        Raises:
            ClientError: the server refuses it, or can't be reached any longer.
            Damaged: the bytes differ from those that the job wrote.
        """
        if self._target.is_file() and self._is_complete(self._target):
            return self._target
        is_resumed = self._part.exists()
        self._fill()
        if not self._is_complete(self._part) and is_resumed:  # the part of an earlier run may have been wrong
            self._part.unlink()
            self._fill()
        if not self._is_complete(self._part):
            self._part.unlink()
            message = f"{self._target.name}: arrived with other bytes than the job wrote; fetch it again, or send the job again"
            raise Damaged("result_differs", message)
        self._part.replace(self._target)
        return self._target

    def _fill(self) -> None:
        """Download the bytes that the part lacks, in as many requests as that takes."""
        pauses = self._transport.pauses()
        while (offset := self._size()) < self._result.bytes or not self._part.exists():
            try:
                self._receive(offset)
            except ClientError as error:
                if self._size() > offset:
                    pauses.reset()
                pauses.wait(error)

    def _receive(self, offset: int) -> None:
        """Write what one response brings, but no more than one block beyond the result's size."""
        headers = {"Range": f"bytes={offset}-", "If-Range": f'"{self._result.sha256}"'} if offset else {}
        with self._transport.stream("GET", self._path, headers={**headers, "Accept-Encoding": "identity"}) as response:
            is_partial = response.status_code == httpx.codes.PARTIAL_CONTENT
            size = self._size() if is_partial else 0
            with self._part.open("ab" if is_partial else "wb") as file:
                for block in response.iter_raw():
                    file.write(block)
                    size += len(block)
                    self._on_file(self._target.name, size, self._result.bytes)
                    if size > self._result.bytes:
                        break
                file.flush()
                os.fsync(file.fileno())

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _is_complete(self, path: Path) -> bool:
        if path.stat().st_size != self._result.bytes:
            return False
        return sha256_of_file(path) == self._result.sha256


def result_path(result: ResultAnswer, folder: Path, stem: str | None) -> Path:
    """Return the path of a result: mask.png becomes STEM.png as with predict, NAME.png STEM.NAME.png.

    Args:
        result: description of the result by the server.
        folder: folder of the results.
        stem: name of the image without its suffix; None keeps the result's own name.

    Raises:
        ClientError: the name leads out of the folder, which no Overtile server sends.
    """
    name = result.name
    if not name or Path(name).name != name or name.startswith(".") or not name.isprintable() or "\\" in name:
        raise ClientError(
            "name_refused", f"the server calls a result {name[:80]!r}, which isn't the name of a file; it isn't fetched"
        )
    if stem is None:
        return folder / name
    is_mask = re.match("mask[._]", name)
    return folder / (stem + name.removeprefix("mask") if is_mask else f"{stem}.{name}")
