"""What no request gets past: the 500, the log lines, the table of errors, the limits."""

import asyncio
import errno
import json
import logging
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from service.engine.mask_comparison import MaskComparison
from service.errors import Busy, Stalled
from service.event_log import JsonLines
from service.http.error_responses import error_response
from service.http.request_log import RequestLog, handle_error
from service.limits import ServiceLimits


def failing_api(error: Exception) -> FastAPI:
    api = FastAPI()
    api.add_middleware(RequestLog)
    api.add_exception_handler(OSError, handle_error)

    @api.get("/fails")
    def fails() -> None:
        raise error

    return api


def get(api: FastAPI, path: str) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=api)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(send())


@pytest.mark.parametrize("error", [ValueError("geheim"), OSError(errno.EXDEV, "geheim")])
def test_what_nobody_expected_is_a_500_without_its_text(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        response = get(failing_api(error), "/fails")
    assert response.status_code == 500
    assert response.json() == {
        "error": {
            "code": "internal",
            "message": "the server failed; try again, and name the request_id when you report it",
            "request_id": response.headers["x-request-id"],
        }
    }
    assert f"{type(error).__name__} at http/test_request_log.py:" in caplog.text
    assert response.headers["x-request-id"] in caplog.text
    assert "geheim" not in caplog.text


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.EIO, "storage_failed"), (errno.EROFS, "storage_failed"), (errno.EMFILE, "busy"), (errno.ENOMEM, "busy")],
)
def test_what_the_system_has_none_of_is_a_503(number: int, code: str) -> None:
    response = get(failing_api(OSError(number, "geheim")), "/fails")
    assert (response.status_code, response.json()["error"]["code"]) == (503, code)
    assert int(response.headers["retry-after"]) > 0
    assert "geheim" not in response.text


def test_a_full_disk() -> None:
    with pytest.raises(OSError, match="No space left") as caught, Path("/dev/full").open("wb") as file:
        file.write(bytes(100_000))
    response = get(failing_api(caught.value), "/fails")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "storage_full"
    assert response.headers["retry-after"] == "60"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BrokenImage("code", "text"), 400),
        (ImageTooLarge("code", "text", 7), 413),
        (UnsupportedFormat("code", "text"), 415),
        (UnsuitableImage("code", "text"), 422),
        (DataError("code", "text"), 422),
        (Stalled("code", "text"), 408),
        (Busy("code", "text"), 503),
    ],
)
def test_status(error: Exception, status: int) -> None:
    answer = error_response(error)
    assert (answer.status, answer.code, answer.message) == (status, "code", "text")
    assert answer.limit == (7 if status == 413 else None)
    assert answer.headers == ((("Retry-After", "5"),) if status == 503 else ())


def test_log_lines_are_one_line_without_the_exceptions_text() -> None:
    try:
        raise ValueError("geheim")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("overtile.service", logging.ERROR, "", 0, "failed on %s\n\x1b[31m", ("a\r\nb",), info)
    line = JsonLines().format(record)
    assert "\n" not in line
    assert "\x1b" not in line
    told = json.loads(line)
    assert (told["level"], told["logger"]) == ("ERROR", "overtile.service")
    assert told["message"].startswith("failed on a\r\nb\n\x1b[31m ValueError at http/test_request_log.py:")
    assert "geheim" not in line


def test_others_lines_end_where_their_tracebacks_begin() -> None:
    record = logging.LogRecord("dbos", logging.ERROR, "", 0, "it failed:\nTraceback: geheim", None, None)
    assert json.loads(JsonLines().format(record))["message"] == "it failed:"


def test_log_lines_end() -> None:
    record = logging.LogRecord("overtile", logging.ERROR, "", 0, "x" * 10_000, None, None)
    assert len(json.loads(JsonLines().format(record))["message"]) == 2000


def test_limits_from_the_environment() -> None:
    assert ServiceLimits.from_environment({}) == ServiceLimits()
    assert ServiceLimits.from_environment({"OVERTILE_MAX_WAITING": "3", "OTHER": "x"}) == ServiceLimits(max_waiting=3)
    for wrong in ("0", "-1", "two", "1.5", "", "\u0663"):
        with pytest.raises(ValueError, match=r"OVERTILE_MAX_WAITING is .*; give a whole number above 0"):
            ServiceLimits.from_environment({"OVERTILE_MAX_WAITING": wrong})


def test_compare_by_hand() -> None:
    first = np.array([[0, 1, 1], [2, 0, 0]], np.uint8)
    second = np.array([[0, 1, 0], [1, 0, 0]], np.uint8)
    compared = MaskComparison(["background", "a", "b", "c"])
    disagreement = np.concatenate([compared.add(first[:1], second[:1]), compared.add(first[1:], second[1:])])
    assert compared.agreement == pytest.approx(4 / 6)
    assert compared.dice == {"a": 0.5, "b": 0.0, "c": None}
    assert disagreement.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert compared.shares[0] == pytest.approx({"background": 0.5, "a": 2 / 6, "b": 1 / 6, "c": 0.0})
