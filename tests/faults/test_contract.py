"""Contract of the service: its answers are those that its OpenAPI schema describes, for all requests."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from requests import Session
from schemathesis import Case, GenerationMode, Response
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from servers import Server, wait_until

OPERATIONS = [
    ("GET", "/v1/models"),
    ("POST", "/v1/models"),
    ("DELETE", "/v1/models/{name}"),
    ("POST", "/v1/segment"),
    ("POST", "/v1/compare"),
    ("OPTIONS", "/v1/uploads"),
    ("POST", "/v1/uploads"),
    ("PUT", "/v1/uploads"),
    ("HEAD", "/v1/uploads/{upload_id}"),
    ("PATCH", "/v1/uploads/{upload_id}"),
    ("GET", "/v1/uploads/{upload_id}"),
    ("DELETE", "/v1/uploads/{upload_id}"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/{job_id}"),
    ("DELETE", "/v1/jobs/{job_id}"),
    ("GET", "/v1/jobs/{job_id}/events"),
    ("GET", "/v1/jobs/{job_id}/results/{name}"),
]
BARE = [("GET", "/v1/models"), ("OPTIONS", "/v1/uploads")]  # nothing can be sent with them: there is but one case
FEW = 300 // (len(OPERATIONS) - len(BARE)) + 1
MANY = 2000 // (len(OPERATIONS) - len(BARE)) + 1
TWO_WAYS = ("POST /v1/uploads",)  # a form, or tus: what the one has no use for is wrong in the other alone
MODELS = {"unet", "window", "volume", "fine", "three"}
TUS = {"Tus-Resumable": "1.0.0"}

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")


@dataclass(frozen=True)
class Known:
    """Resources that exist on the server, so that some cases refer to them."""

    client: httpx.Client
    picture: bytes
    upload: str
    job: str

    def fresh_upload(self) -> str:
        response = self.client.post("/v1/uploads", headers={**TUS, "Upload-Length": "10"})
        return str(response.raise_for_status().headers["location"].rsplit("/", 1)[1])

    def fresh_job(self) -> str:
        response = self.client.post("/v1/jobs", json={"uploads": [self.upload], "models": ["unet"]})
        return str(response.raise_for_status().json()["id"])


@pytest.fixture(scope="module")
def schema(server: Server) -> Any:
    loaded = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    loaded.config.checks.negative_data_rejection.expected_statuses.append("412")  # tus's, for another version
    return loaded


@pytest.fixture(scope="module")
def known(client: httpx.Client, picture: bytes) -> Known:
    upload = client.put("/v1/uploads", content=picture).raise_for_status().json()["id"]
    job = Known(client, picture, upload, "").fresh_job()
    wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "done", timeout_s=60)
    return Known(client, picture, upload, job)


@pytest.fixture
def session() -> Iterator[Session]:
    with Session() as opened:
        yield opened


def test_every_operation_is_tried(schema: Any) -> None:
    assert {(result.ok().method.upper(), result.ok().path) for result in schema.get_all_operations()} == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_a_few_cases(schema: Any, known: Known, session: Session, method: str, path: str) -> None:
    tried = try_out(schema[path][method], known, session, FEW)
    assert tried.total() >= (1 if (method, path) in BARE else FEW)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_many_cases(schema: Any, known: Known, session: Session, method: str, path: str) -> None:
    tried = try_out(schema[path][method], known, session, MANY)
    assert tried.total() >= (1 if (method, path) in BARE else MANY)


def try_out(operation: Any, known: Known, session: Session, cases: int) -> Counter[int]:
    """Send a number of reproducible cases, and return how often each status was answered."""
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=cases,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases_of(operation), is_real=st.booleans())
    def check(case: Case, is_real: bool) -> None:
        if is_real:
            make_real(case, known)
        unload = operation.label.startswith("DELETE /v1/models") and case.path_parameters["name"] in MODELS
        if not unload:
            statuses[sent(case, session, is_real)] += 1

    check()
    return statuses


def cases_of(operation: Any) -> st.SearchStrategy[Case]:
    """Return a strategy for requests that the schema allows, and for those that it doesn't if they can be sent."""
    allowed: st.SearchStrategy[Case] = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    places = {each["in"] for each in operation.definition.raw.get("parameters", [])}
    if places <= {"path"} and not operation.body:
        return allowed
    return st.one_of(allowed, operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))


def make_real(case: Case, known: Known) -> None:
    """Make a case refer to resources that exist: ids, models, the body of a job, an image."""
    is_removed, path = case.method == "DELETE", case.path_parameters or {}
    if "upload_id" in path:
        path["upload_id"] = known.fresh_upload() if is_removed or case.method == "PATCH" else known.upload
    if "job_id" in path:
        path["job_id"] = known.fresh_job() if is_removed else known.job
    if "results" in case.path:
        path["name"] = "mask.png"
    if case.method == "PATCH":
        case.headers.update({**TUS, "Upload-Offset": "0"})
    if case.path in ("/v1/segment", "/v1/compare"):
        case.query.update({"model": "unet"} if case.path == "/v1/segment" else {"models": "unet,window"})
        case.body = known.picture
    if case.operation.label == "POST /v1/jobs" and isinstance(case.body, dict):
        case.body = {**case.body, "uploads": [known.upload], "models": ["unet"]}


def sent(case: Case, session: Session, is_real: bool) -> int:
    """Send a case, check the answer against the schema, and return its status."""
    response = case.call(session=session)
    unsaid = [positive_data_acceptance]  # that models have to be there, for example, no schema says
    if is_real or case.operation.label in TWO_WAYS:
        unsaid.append(negative_data_rejection)
    case.validate_response(response, excluded_checks=unsaid)
    assert response.status_code < 500 or response.status_code == 503, response.text
    if response.status_code >= 400:
        check_error(case, response)
    return response.status_code


def check_error(case: Case, response: Response) -> None:
    (request_id,) = response.headers["x-request-id"]
    assert response.headers["content-type"] == ["application/json"]
    assert ("retry-after" in response.headers) == (response.status_code in (429, 503))
    if case.method != "HEAD":
        assert response.json()["error"]["request_id"] == request_id
