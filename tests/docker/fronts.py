"""The real nginx with docker/nginx.conf, of which nothing but addresses and places is changed, before real servers."""

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
HOST = "overtile.example"


@dataclass(frozen=True)
class Front:
    """A running nginx; `folder` is where the engines look for what a test tells them."""

    tls_port: int
    plain_port: int
    certificate: Path
    folder: Path

    def tls(self, server_name: str = HOST) -> ssl.SSLSocket:
        """A connection on which nothing was sent yet."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        plain = socket.create_connection(("127.0.0.1", self.tls_port), timeout=20)
        return context.wrap_socket(plain, server_hostname=server_name)

    def plain(self) -> socket.socket:
        """The same without TLS."""
        return socket.create_connection(("127.0.0.1", self.plain_port), timeout=20)

    def connection(self) -> http.client.HTTPConnection:
        """The same for whole requests."""
        connection = http.client.HTTPConnection(HOST)
        connection.sock = self.tls()
        return connection

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> tuple[http.client.HTTPResponse, bytes]:
        """The answer to a request without a body, and the answer's own."""
        connection = self.connection()
        try:
            connection.request(method, path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_secrets(folder: Path) -> Path:
    """What docker/secrets.sh makes, in a copy of docker/."""
    shutil.copy(CHECKOUT / "docker" / "secrets.sh", folder)
    subprocess.run([str(folder / "secrets.sh"), HOST], check=True)
    return folder / "secrets"


def configuration(folder: Path, changes: Mapping[str, str]) -> Path:
    """docker/nginx.conf with other addresses and places; each of these has to be there."""
    text = (CHECKOUT / "docker" / "nginx.conf").read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


@contextmanager
def running(command: list[str], port: int, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """A process, from when it listens on the port until the end of the block."""
    process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nothing listens: {process.args!r}")


@contextmanager
def engine(folder: Path, name: str) -> Iterator[int]:
    """A server behind nginx; its port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "engine:app", "--app-dir", str(Path(__file__).parent), "--port", str(port)]
    with running([*command, "--log-level", "warning"], port, {"ENGINE_NAME": name, "ENGINE_FOLDER": str(folder)}):
        yield port


@contextmanager
def front(folder: Path, engine_ports: tuple[int, int], binary: str) -> Iterator[Front]:
    """nginx before two engines."""
    secrets = make_secrets(folder)
    tls_port, plain_port = free_port(), free_port()
    changes = {
        " /tmp/": f" {folder}/",
        "listen 8443": f"listen 127.0.0.1:{tls_port}",
        "listen 8080": f"listen 127.0.0.1:{plain_port}",
        "overtile:3000": f"127.0.0.1:{engine_ports[0]}",
        "overtile-2:3000": f"127.0.0.1:{engine_ports[1]}",
        "/run/secrets/tls_certificate": str(secrets / "tls_certificate.pem"),
        "/run/secrets/tls_key": str(secrets / "tls_key.pem"),
        "worker_processes auto": "worker_processes 1",
    }
    command = [binary, "-c", str(configuration(folder, changes)), "-p", str(folder), "-g", "daemon off;"]
    subprocess.run([*command, "-t", "-q"], check=True)
    with running(command, tls_port):
        yield Front(tls_port, plain_port, secrets / "tls_certificate.pem", folder)
