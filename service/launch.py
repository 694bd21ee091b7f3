"""A built Bento -> this process becomes its server."""

import ipaddress
import os
import ssl
import sys
from pathlib import Path
from typing import NoReturn

from service.packaging.model_store import BENTO, bundle_folders


class ServeError(Exception):
    """The server can't be started like this; the message says what to do."""


def serve(
    bento: str | None = None,
    host: str = "127.0.0.1",
    port: int = 3000,
    *,
    without_keys: bool = False,
    tls: tuple[Path, Path] | None = None,
) -> NoReturn:
    """Replaces this process by the server; it ends on SIGTERM or SIGINT, after the requests that run.

    Args:
        bento: a tag of the Bento store; None takes the newest that was packaged.
        host: an IP address, or localhost.
        port: 1 to 65535.
        without_keys: binds to an address that other machines reach, although everybody there can then use the server.
        tls: certificate and key, of `tls_files`; None serves HTTP without TLS.

    Raises:
        ServeError: no such Bento, a host or port that isn't allowed, or damaged keys.
        BundleError: a bundle in the store was changed.
        OSError: the keys can't be read.
    """
    address = _address(host, has_keys=_has_keys(), without_keys=without_keys)
    if not 1 <= port <= 65535:
        raise ServeError(f"port is {port}; choose one from 1 to 65535")
    tag, code = _verified(bento)
    command = [sys.executable, "-P", "-m", "service.server", tag, address, str(port), *map(str, tls or ())]
    # PYTHONSAFEPATH: the Bento's code runs, not what lies in the folder where the command was given
    own = {"BENTOML_DO_NOT_TRACK": "True", "PYTHONSAFEPATH": "1", "PYTHONPATH": code}
    os.execve(sys.executable, command, {**os.environ, **own})  # noqa: S606


def tls_files(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    """Both files, which belong together and can be read; None where neither is given.

    Raises:
        ServeError: one is missing, can't be read or isn't the other's.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ServeError("--tls-certificate and --tls-key go together; give both, or neither")
    for file in (certificate, key):
        if not (file.is_file() and os.access(file, os.R_OK)):
            raise ServeError(f"{file}: no file that can be read; give a PEM file")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise ServeError(
            f"{certificate} and {key}: not a certificate and its key; give PEM files that belong together, without a password"
        ) from error
    return certificate.absolute(), key.absolute()


def _has_keys() -> bool:
    """Whether somebody has a key that is valid."""
    from service.keys import Keys, KeysDamaged
    from service.store import KEYS, store_folder

    try:
        return Keys(store_folder(os.environ) / KEYS).usable
    except KeysDamaged as error:
        raise ServeError(str(error)) from error


def _address(host: str, *, has_keys: bool, without_keys: bool) -> str:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise ServeError(f"host is {host}; give an IP address, for example 127.0.0.1") from error
    if not (address.is_loopback or has_keys or without_keys):
        raise ServeError(
            f"{host} can be reached by other machines, and there is no valid key; add one with: overtile keys add NAME; "
            "or leave the host out, or say --without-keys if everybody there may use it"
        )
    return str(address)


def _verified(bento: str | None) -> tuple[str, str]:
    """The Bento's full tag, and where its code lies; its bundles are whole, which the server checks again."""
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
    for folder in folders.values():
        load(folder)
    return str(found.tag), found.path_of("src")
