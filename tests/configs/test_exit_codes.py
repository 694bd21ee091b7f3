"""What a command prints and returns after an expected error."""

import errno
import os

import pytest
import typer

from configs.command_line import exit_codes
from configs.errors import OvertileError


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "; get the right to use it, or give another path"),
        (errno.EROFS, "; give a path on a disk that can be written"),
        (errno.ENOSPC, "; free space there, or give a path on another disk"),
        (errno.EDQUOT, "; free space there, or give a path on another disk"),
        (errno.EIO, ""),
    ],
)
def test_an_error_of_the_system_says_what_to_do(capsys: pytest.CaptureFixture[str], number: int, advice: str) -> None:
    with pytest.raises(typer.Exit) as ended, exit_codes():
        raise OSError(number, os.strerror(number), "/srv/masks")
    assert ended.value.exit_code == 6
    assert capsys.readouterr().err == f"[Errno {number}] {os.strerror(number)}: '/srv/masks'{advice}\n"


def test_our_own_errors_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, exit_codes():
        raise OvertileError("give another name")
    assert (ended.value.exit_code, capsys.readouterr().err) == (2, "give another name\n")
