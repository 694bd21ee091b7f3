"""A job's results -> files here: gone on with after a break, compared with their SHA-256, and only then in their place."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import httpx

from disk.digest import sha256_of_file
from service.client.errors import ClientError, Damaged
from service.client.transport import Wire
from service.schemas import ResultAnswer

OnFile = Callable[[str, int, int], None]


class Fetching:
    """One result on its way.

    Args:
        wire: to the server.
        job_id: whose result it is.
        result: what the server says of it.
        target: its place here.
        on_file: is told the place's name, its bytes that came, and those in all.
    """

    def __init__(self, wire: Wire, job_id: str, result: ResultAnswer, target: Path, on_file: OnFile) -> None:
        self._wire, self._result, self._target, self._on_file = wire, result, target, on_file
        self._path = f"/v1/jobs/{job_id}/results/{result.name}"
        self._part = target.with_name(f".{target.name}.{result.sha256[:16]}.part")  # only of these bytes

    def run(self) -> Path:
        """The file, whole, on the disk; one that is there isn't fetched again.

        Raises:
            ClientError: the server refuses it, or can't be reached any longer.
            Damaged: other bytes came than the job made.
        """
        if self._target.is_file() and self._is_whole(self._target):
            return self._target
        resumed = self._part.exists()
        self._fill()
        if not self._is_whole(self._part) and resumed:  # what was there from before may have been wrong
            self._part.unlink()
            self._fill()
        if not self._is_whole(self._part):
            self._part.unlink()
            message = f"{self._target.name}: other bytes came than the job made; fetch it again, or send the job again"
            raise Damaged("result_differs", message)
        self._part.replace(self._target)
        return self._target

    def _fill(self) -> None:
        pauses = self._wire.pauses()
        while (had := self._size()) < self._result.bytes or not self._part.exists():
            try:
                self._receive(had)
            except ClientError as error:
                if self._size() > had:
                    pauses.reset()
                pauses.wait(error)

    def _receive(self, had: int) -> None:
        headers = {"Range": f"bytes={had}-", "If-Range": f'"{self._result.sha256}"'} if had else {}
        with self._wire.stream("GET", self._path, headers={**headers, "Accept-Encoding": "identity"}) as response:
            whole = response.status_code != httpx.codes.PARTIAL_CONTENT
            with self._part.open("wb" if whole else "ab") as file:
                self._write(response, file.write)
                file.flush()
                os.fsync(file.fileno())

    def _write(self, response: httpx.Response, write: Callable[[bytes], int]) -> None:
        """What comes, as long as it isn't more than there is; what came before a break is in the file."""
        came = self._size() if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
        for block in response.iter_raw():
            write(block)
            came += len(block)
            self._on_file(self._target.name, came, self._result.bytes)
            if came > self._result.bytes:
                return

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _is_whole(self, path: Path) -> bool:
        if path.stat().st_size != self._result.bytes:
            return False
        return sha256_of_file(path) == self._result.sha256


def place_of(result: ResultAnswer, folder: Path, stem: str | None) -> Path:
    """Where it belongs: mask.png becomes STEM.png, as predict has it, NAME.png STEM.NAME.png; without a stem it keeps its name.

    Raises:
        ClientError: a name that leads elsewhere; a server of ours gives none.
    """
    name = result.name
    if not name or Path(name).name != name or name.startswith(".") or not name.isprintable() or "\\" in name:
        raise ClientError("name_refused", f"the server calls a result {name[:80]!r}, which is no file's name; it isn't fetched")
    if stem is None:
        return folder / name
    own = re.match("mask[._]", name)
    return folder / (stem + name.removeprefix("mask") if own else f"{stem}.{name}")
