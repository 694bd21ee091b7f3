"""Requests and their answers; what may succeed at another time is tried again."""

import ipaddress
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from service.client.errors import ClientError, NotAllowed, error_of, unreachable

FIRST_PATIENCE_S = 3.0  # for a server that never answered: it may not exist
SLOW_S = 330.0  # for answers that the server has to compute: its own deadline is 300
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_FINAL_CODES = ("out_of_memory", "model_unavailable", "worker_crashed")  # 503, but no later try would succeed

Answer = TypeVar("Answer", bound=BaseModel)
OnPause = Callable[[ClientError, float], None]


class Pauses:
    """Pauses between tries: each longer than the one before, and at least as long as the server asks for.

    Args:
        patience_s: returns the seconds after which no other try begins, counted from the last success.
        on_pause: called with the error and the seconds of each pause.
    """

    def __init__(self, patience_s: Callable[[], float], on_pause: OnPause) -> None:
        self._patience_s, self._on_pause = patience_s, on_pause
        self.reset()

    def reset(self) -> None:
        """Start again with a short pause, after a success."""
        self._next_s, self._since_s = _FIRST_PAUSE_S, time.monotonic()

    def wait(self, error: ClientError) -> None:
        """Sleep until the next try.

        Raises:
            ClientError: the error itself, where another try won't help or would come too late.
        """
        if error.retry_s is None or error.code in _FINAL_CODES:
            raise error
        # random, so that many clients don't come back at once
        pause_s = max(error.retry_s, self._next_s * random.uniform(0.5, 1))  # noqa: S311
        self._next_s = min(2 * self._next_s, _LONGEST_PAUSE_S)
        if time.monotonic() + pause_s > self._since_s + self._patience_s():
            raise error
        self._on_pause(error, pause_s)
        time.sleep(pause_s)


class Transport:
    """HTTP connections to one server.

    Args:
        url: address of the server.
        key: key that is sent with every request, or None.
        timeout_s: a connection without a byte for so long is given up.
        patience_s: a request is tried again for so long.
        on_pause: called with the error and the seconds of each pause before another try.
    """

    def __init__(self, url: str, key: str | None, *, timeout_s: float, patience_s: float, on_pause: OnPause) -> None:
        self.url = _server_url(url)
        self._on_pause, self._patience_s, self._timeout_s = on_pause, patience_s, timeout_s
        self._was_reached = False
        if key and not re.fullmatch("[!-~]+", key):  # a header can't hold others
            raise NotAllowed("key_invalid", "the key has characters that no key has; copy it again")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(headers=headers, timeout=timeout_s, trust_env=not _is_loopback(self.url))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def pauses(self) -> Pauses:
        """Return the pauses for the tries of one request."""
        return Pauses(
            lambda: self._patience_s if self._was_reached else min(self._patience_s, FIRST_PATIENCE_S), self._on_pause
        )

    def send(self, method: str, path: str, *, slow: bool = False, **options: Any) -> httpx.Response:
        """Send a request once, and return the successful response with its body.

        Raises:
            ClientError: the server refuses the request, or doesn't answer.
        """
        with self.stream(method, path, timeout_s=SLOW_S if slow else None, **options) as response:
            response.read()
            return response

    def request(
        self, method: str, path: str, *, content: Callable[[], Any] | None = None, final: tuple[str, ...] = (), **options: Any
    ) -> httpx.Response:
        """Send a request, again where that may help, and return the successful response with its body.

        Args:
            method: HTTP method.
            path: path below the server's address.
            content: returns the body, for each try.
            final: codes of errors after which there is no other try.
            options: of `send`, and httpx's.

        Raises:
            ClientError: the server refuses the request, or doesn't answer.
        """
        pauses = self.pauses()
        while True:
            try:
                return self.send(method, path, **({"content": content()} if content else {}), **options)
            except ClientError as error:
                if error.code in final:
                    raise
                pauses.wait(error)

    def answer(self, model: type[Answer], method: str, path: str, **options: Any) -> Answer:
        """Send a request, again where that may help, and return the answer's JSON; `options` are those of `request`.

        Raises:
            ClientError: the server refuses the request or doesn't answer, or the JSON is of another kind.
        """
        response = self.request(method, path, **options)
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            message = "this client doesn't understand the answer; check the address, and that both are of the same version"
            raise ClientError("not_overtile", message, response.status_code) from error

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        **options: Any,
    ) -> Iterator[httpx.Response]:
        """Send a request once, and yield the successful response, whose body is still to be read.

        Raises:
            ClientError: the server refuses the request, doesn't answer, or the connection breaks off.
        """
        timeout = httpx.Timeout(self._timeout_s, read=timeout_s or self._timeout_s)
        try:
            with self._http.stream(method, self.url + path, headers=headers, timeout=timeout, **options) as response:
                self._was_reached = True
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                yield response
        except httpx.RequestError as error:
            raise unreachable(self.url, error) from error


def _server_url(text: str) -> str:
    """Return the address without a slash at its end.

    Raises:
        ClientError: it isn't an HTTP address.
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not re.fullmatch(r"[\w.:-]+", url.host):
        raise ClientError("url_invalid", f"{text!r} isn't an address; give one such as http://127.0.0.1:3000")
    return text.rstrip("/")


def _is_loopback(url: str) -> bool:
    """Return whether the address is that of this machine, which no proxy can reach."""
    host = httpx.URL(url).host
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
