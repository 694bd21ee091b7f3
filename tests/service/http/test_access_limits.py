"""How often a key may come; whose pages may use a server without keys; the settings of both."""

import time
from pathlib import Path

import pytest
from guarded import bearer, client_of, error_of

from service.http.access import Buckets
from service.keys import Keys
from service.limits import AccessSettings


def test_too_many_requests(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = Keys(path)
    few, many = keys.add("few", requests_per_minute=3)[1], keys.add("many")[1]
    with client_of(path, AccessSettings(requests_per_minute=5)) as client:
        for token, allowed in ((few, 3), (many, 5)):
            statuses = [client.get("/v1/models", headers=bearer(token)).status_code for _ in range(allowed + 2)]
            assert statuses == [200] * allowed + [429] * 2
            refused = client.get("/v1/models", headers=bearer(token))
            message = "too many requests in a minute; wait for the seconds in Retry-After"
            assert error_of(refused) == {"code": "rate_limited", "message": message, "limit": allowed}
            assert 1 <= int(refused.headers["retry-after"]) <= 60 // allowed
        assert [client.get(route).status_code for route in ("/livez", "/readyz") * 10] == [200] * 20
        assert client.get("/v1/models", headers=bearer("wrong")).status_code == 401


def test_too_many_requests_without_keys(tmp_path: Path) -> None:
    with client_of(tmp_path / "keys.json", AccessSettings(requests_per_minute=2)) as client:
        assert [client.get("/v1/models").status_code for _ in range(3)] == [200, 200, 429]
        assert client.get("/livez").status_code == 200


def test_after_retry_after_the_next_is_taken() -> None:
    buckets = Buckets()
    taken = [buckets.take("a", 600) for _ in range(600)]
    assert not any(taken)
    wait_s = buckets.take("a", 600)
    assert 0 < wait_s <= 0.1
    assert buckets.take("b", 600) == 0
    time.sleep(wait_s + 0.001)
    assert buckets.take("a", 600) == 0


FOREIGN = "without keys, pages of other sites can't use the server; its operator can allow them in OVERTILE_CORS_ORIGINS"


def test_without_keys_other_sites_pages_are_kept_out(tmp_path: Path) -> None:
    settings = AccessSettings(cors_origins=("https://viewer.example.org",))
    with client_of(tmp_path / "keys.json", settings) as client:
        own = str(client.base_url).rstrip("/")
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": own + "0"},
            {"Host": "evil.example"},
            {"Host": "127.0.0.1.evil.example:3000"},
            {"Host": "evil.example:3000", "Origin": "http://evil.example:3000"},
        ):
            refused = client.post("/v1/jobs", headers=headers)
            assert refused.status_code == 403
            assert error_of(refused) == {"code": "page_not_allowed", "message": FOREIGN}
        for headers in (
            {},
            {"Origin": own},
            {"Origin": "https://viewer.example.org"},
            {"Host": "localhost:3000"},
            {"Host": "[::1]:3000"},
            {"Host": "overtile"},
            {"Host": "viewer.example.org"},
        ):
            assert client.post("/v1/jobs", headers=headers).status_code == 200
        assert client.get("/v1/jobs", headers={"Origin": "https://evil.example"}).status_code == 200  # which it can't read


def test_settings_from_the_environment() -> None:
    assert AccessSettings.from_environment({}) == AccessSettings()
    known = {"OVERTILE_REQUESTS_PER_MINUTE": "7", "OVERTILE_CORS_ORIGINS": "https://a.example, http://[::1]:80,"}
    assert AccessSettings.from_environment(known) == AccessSettings(7, ("https://a.example", "http://[::1]:80"))
    with pytest.raises(ValueError, match=r"OVERTILE_REQUESTS_PER_MINUTE is '0'; give a whole number above 0"):
        AccessSettings.from_environment({"OVERTILE_REQUESTS_PER_MINUTE": "0"})
    for wrong in ("*", "null", "a.example", "https://a.example/", "https://A.example", "https://*.example", "file://x"):
        with pytest.raises(
            ValueError, match=r"OVERTILE_CORS_ORIGINS has .*; give origins separated by commas, for example https"
        ):
            AccessSettings.from_environment({"OVERTILE_CORS_ORIGINS": wrong})
