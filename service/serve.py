"""A built Bento -> this process becomes its server."""

import ipaddress
import os
import sys
from typing import NoReturn

from service.package import BENTO, bundle_folders


class ServeError(Exception):
    """The server can't be started like this; the message says what to do."""


def serve(bento: str | None = None, host: str = "127.0.0.1", port: int = 3000, *, without_keys: bool = False) -> NoReturn:
    """Replaces this process by the server; it ends on SIGTERM or SIGINT, after the requests that run.

    Args:
        bento: a tag of the Bento store; None takes the newest that was packaged.
        host: an IP address, or localhost.
        port: 1 to 65535.
        without_keys: binds to an address that other machines reach, although everybody there can then use the server.

    Raises:
        ServeError: no such Bento, or a host or port that isn't allowed.
        BundleError: a bundle in the store was changed.
    """
    address = _address(host, without_keys)
    if not 1 <= port <= 65535:
        raise ServeError(f"port is {port}; choose one from 1 to 65535")
    tag = _verified_tag(bento)
    command = [sys.executable, "-P", "-m", "bentoml", "serve", tag, "--host", address, "--port", str(port)]
    # PYTHONSAFEPATH: the Bento's code runs, not what lies in the folder where the command was given
    os.execve(sys.executable, command, {**os.environ, "BENTOML_DO_NOT_TRACK": "True", "PYTHONSAFEPATH": "1"})  # noqa: S606


def _address(host: str, without_keys: bool) -> str:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise ServeError(f"host is {host}; give an IP address, for example 127.0.0.1") from error
    if not (address.is_loopback or without_keys):
        raise ServeError(
            f"{host} can be reached by other machines, and the server has no keys; "
            "leave the host out, or say --without-keys if everybody there may use it"
        )
    return str(address)


def _verified_tag(bento: str | None) -> str:
    """The Bento's full tag; its bundles are whole, which the server checks again, but can only log."""
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    import bentoml
    from bentoml.exceptions import BentoMLException

    from models.bundle import load

    try:
        found = bentoml.bentos.get(bento or BENTO)
        folders = bundle_folders(found)
    except (BentoMLException, ValueError) as error:
        wanted = f"no Bento {bento}" if bento else "no Bento yet"
        raise ServeError(f"{wanted}, or without its models; run overtile package BUNDLE first") from error
    for folder in folders:
        load(folder)
    return str(found.tag)
