"""What stands around a server: a collector of traces, TLS, models that come and go."""

import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from servers import CHECKOUT, free_port, is_ready, start, stop, wait_until


class Collector:
    """Takes OTLP over HTTP, and keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, dict[str, str]]] = []
        self.bytes = b""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    def take(self, body: bytes) -> None:
        self.bytes += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    facts = {fact.key: str(fact.value.string_value or fact.value.int_value) for fact in span.attributes}
                    self.spans.append((span.name, facts))


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        collector.server.server_close()
        thread.join(5)


def test_traces_say_what_was_asked_and_nothing_of_it(
    bento: str, environment: dict[str, str], picture: bytes, tmp_path: Path
) -> None:
    with collecting() as collector:
        settings = {
            "OVERTILE_STORE": str(tmp_path / "store"),
            "OVERTILE_TRACES_URL": collector.url,
            "OVERTILE_STORAGE_RESERVE_BYTES": "1",
        }
        process, url = start(bento, {**environment, **settings}, tmp_path / "log")
        try:
            with httpx.Client(base_url=url, timeout=60) as client:
                answered = client.post("/v1/segment?model=unet", content=picture)
                client.post("/v1/segment?model=geheim", content=picture)
                upload = client.put("/v1/uploads", content=picture).json()["id"]
                job = client.post("/v1/jobs", json={"uploads": [upload], "models": ["unet"]}).json()["id"]
                wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "done", timeout_s=60)
                wait_until(lambda: "job" in [name for name, _ in collector.spans], timeout_s=20)
        finally:
            stop(process)
    spans = dict(reversed(collector.spans))
    assert spans["POST /v1/segment"]["request_id"] == answered.headers["x-request-id"]
    assert spans["POST /v1/segment"]["http.response.status_code"] == "200"
    assert spans["job"] == {"job": job, "state": "done"}
    assert b"geheim" not in collector.bytes


def test_tls_by_files(bento: str, environment: dict[str, str], tmp_path: Path) -> None:
    key, certificate, port = tmp_path / "key.pem", tmp_path / "certificate.pem", free_port()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    words = ["serve", bento, "--port", str(port), "--tls-certificate", str(certificate), "--tls-key", str(key)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "overtile", *words],
            cwd=CHECKOUT,
            env={**environment, "OVERTILE_STORE": str(tmp_path / "store")},
            stdout=log,
            stderr=log,
        )
    try:
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusted, timeout=30) as client:
            wait_until(lambda: process.poll() is not None or _answers(client), timeout_s=60)
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert client.get("/v1/models").status_code == 200
        assert not is_ready(f"http://127.0.0.1:{port}")
    finally:
        stop(process)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_models_come_and_go_while_the_server_serves(client: httpx.Client, bento_home: Path, picture: bytes) -> None:
    version = (bento_home / "models" / "fine" / "latest").read_text().strip()
    assert client.delete("/v1/models/fine").status_code == 204
    assert "fine" not in [model["name"] for model in client.get("/v1/models").json()["models"]]
    assert client.post("/v1/segment?model=fine&spacing_um=0.25", content=picture).status_code == 404
    assert client.post("/v1/segment?model=unet", content=picture).status_code == 200
    loaded = client.post("/v1/models", json={"tag": f"fine:{version}"})
    assert loaded.status_code == 200, loaded.text
    assert client.post("/v1/segment?model=fine&spacing_um=0.25", content=picture).status_code == 200


@pytest.mark.parametrize(
    ("tag", "status", "code"),
    [("fine:0000", 404, "model_not_found"), ("../x", 400, "parameter_invalid"), ("/etc/passwd:1", 400, "parameter_invalid")],
)
def test_models_that_arent_in_the_store(client: httpx.Client, tag: str, status: int, code: str) -> None:
    response = client.post("/v1/models", json={"tag": tag})
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert client.delete("/v1/models/nothing").json()["error"]["code"] == "model_not_found"
