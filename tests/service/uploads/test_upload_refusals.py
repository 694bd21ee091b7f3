"""Each request about uploads that is refused: its status, its code, its keys; and that nothing of it is left."""

import base64
import hashlib

import httpx
import pytest
from upload_server import (
    END,
    FORM,
    PIECE,
    TUS,
    UploadServer,
    begin,
    check_error,
    head,
    left,
    offset_of,
    part,
    send,
)

MOST = 3_000_000
SHA = "sha256 " + base64.b64encode(hashlib.sha256(b"").digest()).decode()
NUMBERS = ("-1", "1.5", "1e3", "0x10", "", "9" * 5000, "१")


CREATIONS = {  # headers, body, status, code, further keys
    "no tus": ({"Upload-Length": "5"}, b"", 412, "tus_version", {"field": "Tus-Resumable"}),
    "old tus": ({"Tus-Resumable": "0.2.2", "Upload-Length": "5"}, b"", 412, "tus_version", {"field": "Tus-Resumable"}),
    "no length": (TUS, b"", 400, "upload_length_required", {"field": "Upload-Length"}),
    "deferred": ({**TUS, "Upload-Defer-Length": "1"}, b"", 400, "upload_length_required", {"field": "Upload-Length"}),
    "empty": ({**TUS, "Upload-Length": "0"}, b"", 400, "body_empty", {"field": "Upload-Length"}),
    "H01 too large": ({**TUS, "Upload-Length": f"{MOST + 1}"}, b"", 413, "body_too_large", {"limit": MOST}),
    "body of another type": ({**TUS, "Upload-Length": "5"}, b"hello", 415, "content_type_not_supported", {}),
    "body too long": ({**PIECE, "Upload-Length": "5"}, b"hello!", 413, "upload_length_exceeded", {"limit": 5}),
    "H02 compressed": (
        {**PIECE, "Upload-Length": "5", "Content-Encoding": "gzip"},
        b"hello",
        415,
        "content_encoding_not_supported",
        {},
    ),
    "checksum": (
        {**PIECE, "Upload-Length": "5", "Upload-Checksum": "md5 secret"},
        b"hello",
        400,
        "checksum_unsupported",
        {"field": "Upload-Checksum"},
    ),
    **{
        f"length {text[:9]!r}": (
            {**TUS, "Upload-Length": text.encode()},
            b"",
            400,
            "upload_length_invalid",
            {"field": "Upload-Length"},
        )
        for text in NUMBERS
    },
    **{
        f"metadata {text!r}": (
            {**TUS, "Upload-Length": "5", "Upload-Metadata": text.encode()},
            b"",
            400,
            "upload_metadata_invalid",
            {"field": "Upload-Metadata"},
        )
        for text in ("filename secret!", ",", "filename YQ==,filename YQ==", "a  YQ==", "ä YQ==", "filename /w==")
    },
}


@pytest.mark.parametrize("case", CREATIONS)
def test_refused_creations(client: httpx.Client, server: UploadServer, case: str) -> None:
    headers, body, status, code, more = CREATIONS[case]
    response = client.post("/v1/uploads", content=body, headers=headers)
    check_error(response, status, code, **more)
    assert response.headers["tus-resumable"] == "1.0.0"
    assert response.headers.get("tus-version") == ("1.0.0" if status == 412 else None)
    assert not left(server)


PIECES = {  # headers that replace those of a good one; status, code, further keys
    "no tus": ({"Tus-Resumable": "2.0.0"}, 412, "tus_version", {"field": "Tus-Resumable"}),
    "type": ({"Content-Type": "application/octet-stream"}, 415, "content_type_not_supported", {}),
    "H02 compressed": ({"Content-Encoding": "gzip"}, 415, "content_encoding_not_supported", {}),
    "offset beyond": ({"Upload-Offset": "3"}, 409, "upload_offset_conflict", {"field": "Upload-Offset"}),
    "offset before": ({"Upload-Offset": "1"}, 409, "upload_offset_conflict", {"field": "Upload-Offset"}),
    "checksum's algorithm": ({"Upload-Checksum": "crc32 AAAA"}, 400, "checksum_unsupported", {"field": "Upload-Checksum"}),
    "no checksum": ({"Upload-Checksum": ""}, 400, "checksum_unsupported", {"field": "Upload-Checksum"}),
    "no digest": ({"Upload-Checksum": "sha256"}, 400, "checksum_invalid", {"field": "Upload-Checksum"}),
    "broken digest": ({"Upload-Checksum": "sha1 secret!"}, 400, "checksum_invalid", {"field": "Upload-Checksum"}),
    "short digest": ({"Upload-Checksum": "sha1 AAAA"}, 400, "checksum_invalid", {"field": "Upload-Checksum"}),
    "wrong checksum": ({"Upload-Checksum": SHA}, 460, "checksum_mismatch", {}),
    **{
        f"offset {text[:9]!r}": ({"Upload-Offset": text.encode()}, 400, "upload_offset_invalid", {"field": "Upload-Offset"})
        for text in NUMBERS
    },
}


@pytest.mark.parametrize("case", PIECES)
def test_refused_pieces(client: httpx.Client, case: str) -> None:
    headers, status, code, more = PIECES[case]
    url = begin(client, 9)
    assert send(client, url, 0, b"ab").status_code == 204
    response = client.patch(url, content=b"cdefghi", headers={**PIECE, "Upload-Offset": "2", **headers})
    check_error(response, status, code, **more)
    assert offset_of(client, url) == 2
    assert send(client, url, 2, b"cdefghi").status_code == 204
    assert client.get(url).json()["sha256"] == hashlib.sha256(b"abcdefghi").hexdigest()


@pytest.mark.parametrize("chunked", [False, True])
def test_H01_more_than_was_announced(client: httpx.Client, chunked: bool) -> None:
    url = begin(client, 9)
    send(client, url, 0, b"ab")
    body = b"cdefghij"
    headers = {**PIECE, "Upload-Offset": "2"}
    response = client.patch(url, content=iter([body]) if chunked else body, headers=headers)
    check_error(response, 413, "upload_length_exceeded", limit=7)
    assert offset_of(client, url) == 2


def test_every_route_knows_tus_versions(client: httpx.Client) -> None:
    url = begin(client, 9)
    old = {"Tus-Resumable": "0.1"}
    assert client.head(url).status_code == client.head(url, headers=old).status_code == 412
    for method, place in (("GET", url), ("DELETE", url), ("PUT", "/v1/uploads")):
        check_error(client.request(method, place, headers=old), 412, "tus_version", field="Tus-Resumable")
    form = client.post("/v1/uploads", files={"file": b"x"}, headers=old)
    check_error(form, 412, "tus_version", field="Tus-Resumable")
    assert client.options("/v1/uploads", headers=old).status_code == 204


PUTS = {  # headers, body, status, code, further keys
    "empty": ({}, b"", 400, "body_empty", {}),
    "form": (FORM, b"x", 415, "multipart_not_supported", {}),
    "H02 compressed": ({"Content-Encoding": "gzip"}, b"x", 415, "content_encoding_not_supported", {}),
    "H01 too large": ({}, bytes(MOST + 1), 413, "body_too_large", {"limit": MOST}),
    "digest": ({"Content-Digest": f"sha-256=:{SHA[7:]}:"}, b"x", 400, "digest_mismatch", {}),
    "hexadecimal digest": ({"X-Content-SHA256": "0" * 64}, b"x", 400, "digest_mismatch", {}),
    "no digest": ({"X-Content-SHA256": "secret"}, b"x", 400, "digest_invalid", {"field": "X-Content-SHA256"}),
    "short digest": ({"Content-Digest": "sha-256=:AAAA:"}, b"x", 400, "digest_invalid", {"field": "Content-Digest"}),
    "not as it is written": ({"Content-Digest": "sha-256=secret"}, b"x", 400, "digest_invalid", {"field": "Content-Digest"}),
    "two digests": (
        {"Content-Digest": f"sha-256=:{SHA[7:]}:", "X-Content-SHA256": "0" * 64},
        b"x",
        400,
        "digest_invalid",
        {"field": "X-Content-SHA256"},
    ),
}


@pytest.mark.parametrize("case", PUTS)
def test_refused_puts(client: httpx.Client, server: UploadServer, case: str) -> None:
    headers, body, status, code, more = PUTS[case]
    check_error(client.put("/v1/uploads", content=body, headers=headers), status, code, **more)
    assert not left(server)


def test_H01_a_chunked_put_is_refused_at_the_cap(client: httpx.Client, server: UploadServer) -> None:
    response = client.put("/v1/uploads", content=(bytes(2**16) for _ in range(MOST // 2**16 + 2)))
    check_error(response, 413, "body_too_large", limit=MOST)
    assert not left(server)


def test_H01_a_large_put_is_refused_before_it_is_sent(client: httpx.Client, server: UploadServer) -> None:
    with server.connect() as connection:
        connection.sendall(head("PUT", "/v1/uploads", MOST + 1))
        assert b" 413 " in connection.recv(1000)


FORMS = {  # body, further headers, code
    "H07 no boundary": (part(b"x") + END, {"Content-Type": "multipart/form-data"}, "bad_multipart"),
    "H07 empty boundary": (part(b"x") + END, {"Content-Type": 'multipart/form-data; boundary=""'}, "bad_multipart"),
    "H07 long boundary": (part(b"x") + END, {"Content-Type": f"multipart/form-data; boundary={'x' * 5000}"}, "bad_multipart"),
    "H07 another boundary": (part(b"x") + END, {"Content-Type": "multipart/form-data; boundary=other"}, "bad_multipart"),
    "H07 boundary beyond ASCII": (
        part(b"x") + END,
        {"Content-Type": "multipart/form-data; boundary=ä".encode()},
        "bad_multipart",
    ),
    "H07 another form": (part(b"x") + END, {"Content-Type": "multipart/mixed; boundary=edge"}, "bad_multipart"),
    "H07 no final boundary": (part(b"x"), {}, "bad_multipart"),
    "H07 cut in the head": (part(b"x")[:30], {}, "bad_multipart"),
    "H07 nothing": (b"", {}, "bad_multipart"),
    "H07 something else": (b"\x89PNG", {}, "bad_multipart"),
    "H07 many parts": (part(b"x") * 30_000, {}, "bad_multipart"),
    "H07 two files": (part(b"x") + part(b"y", 'name="other"; filename="y"') + END, {}, "bad_multipart"),
    "H07 a field behind": (part(b"x") + part(b"y", 'name="note"') + END, {}, "bad_multipart"),
    "H07 huge header": (part(b"x", more=b"X-A: " + b"a" * 2**20 + b"\r\n") + END, {}, "bad_multipart"),
    "H07 many headers": (part(b"x", more=b"X-A: a\r\n" * 10_000) + END, {}, "bad_multipart"),
    "H07 two dispositions": (part(b"x", more=b"content-disposition: form-data\r\n") + END, {}, "bad_multipart"),
    "H07 not form-data": (part(b"x").replace(b"form-data", b"attachment") + END, {}, "bad_multipart"),
    "H07 no disposition": (b"--edge\r\n\r\nx\r\n" + END, {}, "bad_multipart"),
    "H07 nested": (part(part(b"x") + END, more=b"Content-Type: multipart/mixed; boundary=edge\r\n"), {}, "bad_multipart"),
    "H07 base64": (part(b"eA==", more=b"Content-Transfer-Encoding: base64\r\n") + END, {}, "bad_multipart"),
    "H07 broken head": (part(b"x", more=b"no colon\r\n") + END, {}, "bad_multipart"),
    "H07 bare LF": (part(b"x").replace(b"\r\n", b"\n") + END, {}, "bad_multipart"),
    "H08 text": (part(b"http://169.254.169.254/secret", 'name="file"') + END, {}, "file_required"),
    "H08 path": (part(b"file:///etc/passwd", 'name="file"') + END, {}, "file_required"),
    "H08 no part": (END, {}, "file_required"),
    "empty file": (part(b"") + END, {}, "body_empty"),
    "digest": (part(b"x") + END, {"X-Content-SHA256": "0" * 64}, "digest_mismatch"),
}


@pytest.mark.parametrize("case", FORMS)
def test_refused_forms(client: httpx.Client, server: UploadServer, case: str) -> None:
    body, headers, code = FORMS[case]
    check_error(client.post("/v1/uploads", content=body, headers={**FORM, **headers}), 400, code)
    assert not left(server)


@pytest.mark.parametrize(
    "name",
    ["", "\x00", "a\x00b", "a\nb", "../../x", "x" * 300, "‮gpj.exe", "😀", "a\\", 'a"b', "a;b", "C:\\x\\y", "%00", "\udcff"],
)
def test_H07_names_are_no_paths(client: httpx.Client, server: UploadServer, name: str) -> None:
    disposition = b'name="file"; filename="' + name.encode("utf-8", "surrogateescape") + b'"'
    body = part(b"x", "DISPOSITION").replace(b"DISPOSITION", disposition) + END
    response = client.post("/v1/uploads", content=body, headers=FORM)
    if response.status_code != 201:
        check_error(response, 400, "bad_multipart")
        return
    shown = response.json()["filename"] or ""
    assert len(shown) <= 255
    assert shown.isprintable()
    folder = server.store / "uploads" / response.json()["id"]
    assert sorted(path.name for path in folder.iterdir()) == ["data", "upload.json"]


def test_H01_the_file_in_a_form_has_the_limit_of_a_file(client: httpx.Client, server: UploadServer) -> None:
    check_error(
        client.post("/v1/uploads", content=part(bytes(MOST + 1)) + END, headers=FORM), 413, "body_too_large", limit=MOST
    )
    assert client.post("/v1/uploads", content=part(bytes(MOST)) + END, headers=FORM).status_code == 201


def test_a_parameter_that_nobody_knows(client: httpx.Client) -> None:
    check_error(client.put("/v1/uploads?secret=1", content=b"x"), 400, "parameter_unknown")
    check_error(client.get(begin(client, 5) + "?x=1"), 400, "parameter_unknown")


PLACES = {
    "H13 no such": (f"/v1/uploads/{'0' * 32}", "upload_not_found"),
    "H13 no ID": ("/v1/uploads/secret", "upload_not_found"),
    "H13 upper case": (f"/v1/uploads/{'A' * 32}", "upload_not_found"),
    "H13 above": ("/v1/uploads/%2e%2e%2fkeys.json", "not_found"),
    "H13 encoded twice": ("/v1/uploads/%252e%252e%252fkeys.json", "upload_not_found"),
    "H13 NUL": ("/v1/uploads/%00", "upload_not_found"),
    "H13 semicolon": (f"/v1/uploads/{'0' * 32};a=b", "upload_not_found"),
    "H13 line": (f"/v1/uploads/{'0' * 32}%0a", "upload_not_found"),
    "H13 long": (f"/v1/uploads/{'0' * 60_000}", "upload_not_found"),
    "H13 below": (f"/v1/uploads/{'0' * 32}/data", "not_found"),
}


@pytest.mark.parametrize("case", PLACES)
def test_places_where_nothing_is(client: httpx.Client, case: str) -> None:
    place, code = PLACES[case]
    for method in ("GET", "PATCH", "DELETE"):
        check_error(client.request(method, place, headers={**PIECE, "Upload-Offset": "0"}), 404, code)


def test_H13_wrong_methods_and_slashes(client: httpx.Client) -> None:
    for method, place, allowed in (
        ("GET", "/v1/uploads", "OPTIONS, POST, PUT"),
        ("PUT", begin(client, 5), "DELETE, GET, HEAD, PATCH"),
        ("SECRET", begin(client, 5), "DELETE, GET, HEAD, PATCH"),
    ):
        response = client.request(method, place, content=b"x")
        check_error(response, 405, "method_not_allowed")
        assert response.headers["allow"] == allowed
    check_error(client.put("/v1/uploads/", content=b"x"), 404, "not_found")


def test_H14_another_owners_upload_is_unknown(client: httpx.Client, server: UploadServer) -> None:
    url = begin(client, 9, **{"X-Owner": "a"})
    known = {"X-Owner": "a"}
    assert client.get(url, headers=known).status_code == 200
    messages = set()
    for owner in ({"X-Owner": "b"}, {}):
        for response in (
            client.get(url, headers=owner),
            client.delete(url, headers=owner),
            send(client, url, 0, b"x", **owner),
            client.get(f"/v1/uploads/{'0' * 32}", headers=known),
        ):
            check_error(response, 404, "upload_not_found")
            messages.add(response.json()["error"]["message"])
    assert len(messages) == 1
    assert client.head(url, headers={**TUS, "X-Owner": "b"}).status_code == 404
    assert client.delete(url, headers=known).status_code == 204
