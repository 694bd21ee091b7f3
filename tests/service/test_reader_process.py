"""Hostile files over a real socket: each kind of fault is refused by its code, a reader that dies takes nothing with it."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from servers import MAX_BODY_BYTES, Server, png, wait_until

from tests.corpus.nifti_bytes import nifti
from tests.corpus.nifti_files import ROWS
from tests.corpus.rows import Row

SEGMENT = "/v1/segment?model=volume&format=nifti"
VOLUME = nifti()
ONE_OF_EACH_CODE = {row.code: row for row in ROWS if row.code}
STATUS = {
    **dict.fromkeys(("volume_too_large", "decompressed_too_large"), 413),
    "unsupported_format": 415,
    **dict.fromkeys(("dimension_not_supported", "dtype_not_supported", "bad_scaling", "value_range"), 422),
    **dict.fromkeys(("affine_invalid", "affine_sheared", "non_finite_voxels"), 422),
}


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ONE_OF_EACH_CODE.values()])
def test_faults_are_refused_and_the_server_goes_on(client: httpx.Client, tmp_path: Path, row: Row) -> None:
    good = client.post(SEGMENT, content=VOLUME).raise_for_status().content
    content = row.build(tmp_path).read_bytes()
    assert len(content) < MAX_BODY_BYTES
    response = client.post(SEGMENT, content=content)
    assert response.json()["error"]["code"] == row.code
    assert response.status_code == STATUS.get(row.code or "", 400)
    assert client.post(SEGMENT, content=VOLUME).content == good


def test_a_reader_that_dies_is_told_and_the_server_goes_on(client: httpx.Client, server: Server) -> None:
    good = client.post(SEGMENT, content=VOLUME).raise_for_status().content
    noise = np.random.default_rng(0).integers(0, 255, (3, 900, 1000)).astype(np.uint8)  # takes a second
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(client.post, "/v1/segment?model=unet", content=png(noise))
        wait_until(lambda: bool(readers(server)), timeout_s=20)
        for process_id in readers(server):
            os.kill(process_id, signal.SIGKILL)
        response = answer.result()
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "image_reader_crashed"
    assert client.post(SEGMENT, content=VOLUME).content == good
    wait_until(lambda: not readers(server), timeout_s=5)


def readers(server: Server) -> list[int]:
    """The processes that have a file of the server's clients open: those that the waiting one has forked."""
    family = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and is_of(server, entry)]
    return [process_id for process_id in family if parent_of(process_id) in family]


def is_of(server: Server, process: Path) -> bool:
    try:
        command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
    except OSError:  # it has just ended
        return False
    return b"imaging.reader_process" in command and f"TMPDIR={server.folder}\0".encode() in environment


def parent_of(process_id: int) -> int:
    try:
        return int(Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0
