"""Requests and their answers: tried again, with patience, where that may help."""

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

FIRST_PATIENCE_S = 3.0  # for a server that never answered: it may not be there at all
SLOW_S = 330.0  # for answers that the server works on: its own deadline is 300
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_HOPELESS = ("out_of_memory", "model_unavailable", "worker_crashed")  # 503, but of the image rather than of the moment

Answer = TypeVar("Answer", bound=BaseModel)
OnPause = Callable[[ClientError, float], None]


class Pauses:
    """The waits between tries: longer each time, as long as the server asks for, and no more in all than patience lasts."""

    def __init__(self, patience_s: Callable[[], float], on_pause: OnPause) -> None:
        self._patience_s, self._on_pause = patience_s, on_pause
        self.reset()

    def reset(self) -> None:
        """Something went well."""
        self._next_s, self._since_s = _FIRST_PAUSE_S, time.monotonic()

    def wait(self, error: ClientError) -> None:
        """Until the next try.

        Raises:
            ClientError: the error itself, where another try won't help or comes too late.
        """
        if error.retry_s is None or error.code in _HOPELESS:
            raise error
        pause_s = max(error.retry_s, self._next_s * random.uniform(0.5, 1))  # noqa: S311  # so that many don't come at once
        self._next_s = min(2 * self._next_s, _LONGEST_PAUSE_S)
        if time.monotonic() + pause_s > self._since_s + self._patience_s():
            raise error
        self._on_pause(error, pause_s)
        time.sleep(pause_s)


class Wire:
    """One server, as it is talked to.

    Args:
        url: where it is.
        key: sent with every request.
        timeout_s: without a byte, after which a connection is given up.
        patience_s: for which a request is tried again.
        on_pause: is told why, and for how many seconds it waits.
    """

    def __init__(self, url: str, key: str | None, timeout_s: float, patience_s: float, on_pause: OnPause) -> None:
        self.url = _checked(url)
        self._on_pause, self._patience_s, self._timeout_s = on_pause, patience_s, timeout_s
        self._reached = False
        if key and not re.fullmatch("[!-~]+", key):  # no header could hold it
            raise NotAllowed("key_invalid", "the key has letters that no key has; copy it again")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(headers=headers, timeout=timeout_s, trust_env=not _is_loopback(self.url))

    def close(self) -> None:
        """Ends its connections."""
        self._http.close()

    def pauses(self) -> Pauses:
        """For the tries of one request."""
        return Pauses(lambda: self._patience_s if self._reached else min(self._patience_s, FIRST_PATIENCE_S), self._on_pause)

    def once(self, method: str, path: str, *, slow: bool = False, **words: Any) -> httpx.Response:
        """A success, read whole; tried once.

        Raises:
            ClientError: it is none, or no answer came.
        """
        with self.stream(method, path, timeout_s=SLOW_S if slow else None, **words) as response:
            response.read()
            return response

    def ask(
        self, method: str, path: str, *, content: Callable[[], Any] | None = None, final: tuple[str, ...] = (), **words: Any
    ) -> httpx.Response:
        """A success, tried again with patience.

        Args:
            method: of HTTP.
            path: under the server's address.
            content: makes the body, for every try anew.
            final: codes after which there is no other try.
            words: httpx's.

        Raises:
            ClientError: it is none, or no answer came.
        """
        pauses = self.pauses()
        while True:
            try:
                return self.once(method, path, **({"content": content()} if content else {}), **words)
            except ClientError as error:
                if error.code in final:
                    raise
                pauses.wait(error)

    def answer(self, model: type[Answer], method: str, path: str, **words: Any) -> Answer:
        """The answer's JSON.

        Raises:
            ClientError: there is none, or it isn't what this client knows.
        """
        return parsed(model, self.ask(method, path, **words))

    @contextmanager
    def stream(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, timeout_s: float | None = None, **words: Any
    ) -> Iterator[httpx.Response]:
        """A success whose body is still to come; tried once.

        Raises:
            ClientError: it is none, no answer came, or it broke off.
        """
        timeout = httpx.Timeout(self._timeout_s, read=timeout_s or self._timeout_s)
        try:
            with self._http.stream(method, self.url + path, headers=headers, timeout=timeout, **words) as response:
                self._reached = True
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                yield response
        except httpx.RequestError as error:
            raise unreachable(self.url, error) from error


def parsed(model: type[Answer], response: httpx.Response) -> Answer:
    """The JSON of a success.

    Raises:
        ClientError: not what this client knows.
    """
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        message = "the answer isn't what this client knows; check the address, and that both are of one version"
        raise ClientError("not_overtile", message, response.status_code) from error


def _checked(url: str) -> str:
    """An address without what it may end with."""
    try:
        known = httpx.URL(url)
    except httpx.InvalidURL:
        known = httpx.URL("")
    if known.scheme not in ("http", "https") or not re.fullmatch(r"[\w.:-]+", known.host):
        raise ClientError("url_invalid", f"{url!r} is no address; give one such as http://127.0.0.1:3000")
    return url.rstrip("/")


def _is_loopback(url: str) -> bool:
    """Whether it is this machine, to which no proxy leads."""
    host = httpx.URL(url).host
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
