"""Start of the server for `overtile serve`: checks of the address, the keys and the Bento."""

import ipaddress
import os
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from configs.errors import OvertileError
from disk.user_folders import choosable_by
from service.packaging.model_store import BENTO, STORE_VARIABLE, bundle_folders, choose_model_store


class ServeError(OvertileError):
    """The server can't be started; the message says what to do."""


def serve(
    bento: str | None = None,
    host: str = "127.0.0.1",
    port: int = 3000,
    *,
    without_keys: bool = False,
    tls: tuple[Path, Path] | None = None,
    on_start: Callable[[str], object] | None = None,
) -> NoReturn:
    """Replace this process by the server, which finishes running requests and ends on SIGTERM or SIGINT.

    Args:
        bento: tag in the Bento store; None takes the newest.
        host: IP address, or localhost.
        port: port from 1 to 65535.
        without_keys: allow an address that other machines can reach without any valid key.
        tls: certificate and key from `tls_files`; None serves HTTP without TLS.
        on_start: called before the start with a message that says where the server listens.

    Raises:
        ServeError: there is no such Bento, the host or port isn't allowed, or the keys are damaged.
        BundleError: a bundle in the store was changed.
        OSError: the keys or the model store can't be read, or the user has no home for them.
    """
    from service.keys import Keys, KeysDamaged
    from service.store import KEYS, store_folder

    try:
        has_keys = Keys(store_folder(os.environ) / KEYS).usable
    except KeysDamaged as error:
        raise ServeError(str(error)) from error
    address = _address(host, has_keys=has_keys, without_keys=without_keys)
    if not 1 <= port <= 65535:
        raise ServeError(f"port is {port}; choose one from 1 to 65535")
    tag, code = _verify_bento(bento)
    if on_start:
        on_start(f"{tag}: {_address_text(address, port, 'https' if tls else 'http')}; Ctrl-C stops the server")
    command = [sys.executable, "-P", "-m", "service.server", tag, address, str(port), *map(str, tls or ())]
    # PYTHONSAFEPATH: the Bento's code runs, not the files of the current folder
    settings = {"BENTOML_DO_NOT_TRACK": "True", "PYTHONSAFEPATH": "1", "PYTHONPATH": code}
    os.execve(sys.executable, command, {**os.environ, **settings})  # noqa: S606


def tls_files(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    """Return the absolute paths of a certificate and its key; None if neither is given.

    Raises:
        ServeError: one is missing or can't be read, or they don't belong together.
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


def _address(host: str, *, has_keys: bool, without_keys: bool) -> str:
    """Return the address to listen on; one that other machines can reach needs a valid key, or `without_keys`."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise ServeError(f"host is {host}; give an IP address, for example 127.0.0.1") from error
    if not (address.is_loopback or has_keys or without_keys):
        raise ServeError(
            f"{host} can be reached by other machines, and there is no valid key; add one with: overtile keys add NAME; "
            "or leave the host out, or give --without-keys if everybody there may use it"
        )
    return str(address)


def _address_text(host: str, port: int, scheme: str) -> str:
    """Say where the server listens and what to open there."""
    address = ipaddress.ip_address(host)
    everywhere = ""
    if address.is_unspecified:
        address = ipaddress.ip_address("::1" if address.version == 6 else "127.0.0.1")
        everywhere = ", and at all other addresses of this machine"
    url = f"{scheme}://{f'[{address}]' if address.version == 6 else address}:{port}"
    return f"serving at {url}{everywhere}, once the models are loaded; open {url}/docs in a browser"


def _verify_bento(bento: str | None) -> tuple[str, str]:
    """Return the Bento's full tag and the folder of its code, after checking its bundles."""
    store = choose_model_store()
    import bentoml
    from bentoml.exceptions import BentoMLException

    from models.bundle import load

    try:
        with choosable_by(STORE_VARIABLE, store):  # BentoML creates what its store lacks
            match = bentoml.bentos.get(bento or BENTO)
            folders = bundle_folders(match)
    except (BentoMLException, ValueError) as error:
        problem = f"no Bento {bento}" if bento else "no Bento yet"
        raise ServeError(f"{problem}, or without its models; run overtile package BUNDLE first") from error
    for folder in folders.values():
        load(folder)
    return str(match.tag), match.path_of("src")
