"""The distribution client against a server that does what no good registry does."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any, Optional
from urllib.parse import parse_qs, urlsplit

import pytest
from fake_registry import Answer, Request, serving

from rootless.errors import (
    DigestMismatchError,
    ImageError,
    ImageNotFoundError,
    RegistryAuthError,
    RegistryError,
)
from rootless.oci import manifest as manifests
from rootless.oci import media_types, reference
from rootless.registry import client, transport
from rootless.registry.places import Place

BLOB = bytes(range(256)) * 4096
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
DESCRIPTOR = {"digest": DIGEST, "size": len(BLOB)}
DOCUMENT = {
    "schemaVersion": 2,
    "mediaType": media_types.OCI_MANIFEST,
    "config": {"mediaType": media_types.OCI_CONFIG, "digest": DIGEST, "size": 1},
    "layers": [],
}
MANIFEST = json.dumps(DOCUMENT).encode()
MANIFEST_DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BACKOFF", 0.001)
    monkeypatch.setattr(client, "BACKOFF", 0.001)


@pytest.fixture
def env(tmp_path: Any) -> dict[str, str]:
    (tmp_path / "home").mkdir()
    return {"HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}


def log_in(env: dict[str, str], host: str, user: str, password: str) -> None:
    import os

    os.makedirs(f"{env['HOME']}/.docker")
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    with open(f"{env['HOME']}/.docker/config.json", "w", encoding="utf-8") as file:
        json.dump({"auths": {host: {"auth": auth}}}, file)


OPEN: list[client.Repository] = []


@pytest.fixture(autouse=True)
def close_connections() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def repository(
    host: str, env: dict[str, str], insecure: Optional[set[str]] = None
) -> client.Repository:
    ref = reference.parse(f"{host}/team/app:1")
    OPEN.append(client.Repository(ref, env, Place(host, ref.path, frozenset(insecure or ()))))
    return OPEN[-1]


def manifest_answer(**headers: Any) -> Answer:
    return Answer(200, MANIFEST, Content_Type=media_types.OCI_MANIFEST, **headers)


def error(status: int, code: str, message: str, **headers: Any) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, body, **headers)


# manifests


def test_a_manifest_is_asked_for_by_tag_and_by_digest(env: dict[str, str]) -> None:
    with serving(lambda _: manifest_answer(Docker_Content_Digest=MANIFEST_DIGEST)) as fake:
        for name in ("1", MANIFEST_DIGEST):
            found = repository(fake.host, env).manifest(name)
            assert (found.data, found.digest) == (MANIFEST, MANIFEST_DIGEST)
            assert found.media_type == media_types.OCI_MANIFEST
            assert fake.paths[-1] == f"/v2/team/app/manifests/{name}"
        accepted = fake.seen[-1].headers["Accept"]
        assert all(kind in accepted for kind in media_types.ACCEPTED)
        assert fake.seen[-1].headers["User-Agent"].startswith("rootless/")


def test_a_manifest_by_digest_must_have_it(env: dict[str, str]) -> None:
    with (
        serving(lambda _: manifest_answer()) as fake,
        pytest.raises(DigestMismatchError, match="cannot verify manifest"),
    ):
        repository(fake.host, env).manifest("sha256:" + "0" * 64)


def test_the_promised_digest_must_be_right(env: dict[str, str]) -> None:
    with (
        serving(lambda _: manifest_answer(Docker_Content_Digest="sha256:" + "0" * 64)) as fake,
        pytest.raises(DigestMismatchError, match="the registry promised"),
    ):
        repository(fake.host, env).manifest("1")


def test_a_manifest_that_does_not_end(env: dict[str, str]) -> None:
    with (
        serving(lambda _: Answer(200, b" " * (manifests.MAX_SIZE + 10))) as fake,
        pytest.raises(ImageError, match="are too many"),
    ):
        repository(fake.host, env).manifest("1")


def test_a_web_page_is_no_manifest(env: dict[str, str]) -> None:
    with (
        serving(lambda _: Answer(200, b"<html>", Content_Type="text/html")) as fake,
        pytest.raises(ImageError, match="it is not JSON"),
    ):
        repository(fake.host, env).manifest("1")


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (
            error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            ImageNotFoundError,
            "manifest for {host}/team/app:1 not found: manifest unknown",
        ),
        (
            error(404, "NAME_UNKNOWN", "repository name not known to registry"),
            ImageNotFoundError,
            "pull access denied for {host}/team/app, repository does not exist or may require "
            "authorization",
        ),
        (
            error(403, "DENIED", "Requested access to the resource is denied."),
            ImageNotFoundError,
            "pull access denied for {host}/team/app, repository does not exist or may require "
            "authorization: requested access to the resource is denied",
        ),
        (
            error(429, "TOOMANYREQUESTS", "slow down", Retry_After="3600"),
            RegistryError,
            "cannot pull manifest for {host}/team/app:1: too many requests to {host} (slow down)",
        ),
        (
            Answer(418, b"\x00\xff"),
            RegistryError,
            "cannot pull manifest for {host}/team/app:1: {host} answered with status 418",
        ),
    ],
)
def test_answers_that_are_errors(
    env: dict[str, str], answer: Answer, kind: type[Exception], text: str
) -> None:
    with serving(lambda _: answer) as fake:
        with pytest.raises(kind) as caught:
            repository(fake.host, env).manifest("1")
        assert str(caught.value) == text.format(host=fake.host)


def test_a_busy_server_is_asked_again(env: dict[str, str]) -> None:
    answers = iter([Answer(503), Answer(500, b"x"), Answer(429), manifest_answer()])
    with serving(lambda _: next(answers)) as fake:
        assert repository(fake.host, env).manifest("1").digest == MANIFEST_DIGEST
        assert len(fake.seen) == 4


def test_but_not_for_ever(env: dict[str, str]) -> None:
    with serving(lambda _: Answer(502)) as fake, pytest.raises(RegistryError, match="status 502"):
        repository(fake.host, env).manifest("1")
        assert len(fake.seen) == transport.RETRIES + 1


# tokens


def token_server(request: Request, token: str = "t0ken") -> Answer:
    return Answer(200, json.dumps({"token": token}).encode())


def test_an_anonymous_token_is_fetched_once_per_scope(env: dict[str, str]) -> None:
    def respond(request: Request) -> Answer:
        if request.path.startswith("/token"):
            return token_server(request)
        if request.headers.get("Authorization") == "Bearer t0ken":
            return manifest_answer()
        realm = f'Bearer realm="http://{request.headers["Host"]}/token",service="a,b",scope="x"'
        return error(401, "UNAUTHORIZED", "no", WWW_Authenticate=realm)

    with serving(respond) as fake:
        found = repository(fake.host, env)
        found.manifest("1")
        found.manifest("1")
        asked = [path for path in fake.paths if path.startswith("/token")]
        assert len(asked) == 1
        query = parse_qs(urlsplit(asked[0]).query)
        assert query == {"service": ["a,b"], "scope": ["repository:team/app:pull"]}
        assert "Authorization" not in fake.seen[1].headers


def test_a_token_that_expired_is_fetched_anew(env: dict[str, str]) -> None:
    valid = ["one"]

    def respond(request: Request) -> Answer:
        if request.path.startswith("/token"):
            return token_server(request, valid[0])
        if request.headers.get("Authorization") == f"Bearer {valid[0]}":
            return manifest_answer()
        realm = f'Bearer realm="http://{request.headers["Host"]}/token"'
        return Answer(401, WWW_Authenticate=realm)

    with serving(respond) as fake:
        found = repository(fake.host, env)
        found.manifest("1")
        valid[0] = "two"
        assert found.manifest("1").digest == MANIFEST_DIGEST


def test_the_password_goes_to_the_token_server(env: dict[str, str]) -> None:
    def respond(request: Request) -> Answer:
        if request.path.startswith("/token"):
            wanted = "Basic " + base64.b64encode(b"me:p:w").decode()
            if request.headers.get("Authorization") != wanted:
                return Answer(401, b'{"details": "incorrect username or password"}')
            return Answer(200, b'{"access_token": "t"}')
        if request.headers.get("Authorization") == "Bearer t":
            return manifest_answer()
        return Answer(
            401, WWW_Authenticate=f'Bearer realm="http://{request.headers["Host"]}/token"'
        )

    with serving(respond) as fake:
        log_in(env, fake.host, "me", "p:w")
        assert repository(fake.host, env).manifest("1").digest == MANIFEST_DIGEST
        env["DOCKER_CONFIG"] = f"{env['HOME']}/.docker"
        with open(f"{env['DOCKER_CONFIG']}/config.json", "w", encoding="utf-8") as file:
            json.dump({"auths": {fake.host: {"username": "me", "password": "bad"}}}, file)
        with pytest.raises(RegistryAuthError) as caught:
            repository(fake.host, env).manifest("1")
        assert caught.value.message == (
            f"cannot log in to {fake.host} as me: incorrect username or password"
        )
        assert "bad" not in caught.value.message + caught.value.hint


def test_an_identity_token_is_exchanged(env: dict[str, str]) -> None:
    def respond(request: Request) -> Answer:
        if request.path.startswith("/token"):
            fields = parse_qs(request.body.decode())
            assert request.method == "POST"
            assert fields["grant_type"] == ["refresh_token"]
            assert fields["refresh_token"] == ["idt"]
            return Answer(200, b'{"access_token": "t"}')
        if request.headers.get("Authorization") == "Bearer t":
            return manifest_answer()
        return Answer(
            401, WWW_Authenticate=f'Bearer realm="http://{request.headers["Host"]}/token"'
        )

    with serving(respond) as fake:
        log_in(env, fake.host, "me", "x")
        with open(f"{env['HOME']}/.docker/config.json", "w", encoding="utf-8") as file:
            json.dump({"auths": {fake.host: {"identitytoken": "idt"}}}, file)
        assert repository(fake.host, env).manifest("1").digest == MANIFEST_DIGEST


@pytest.mark.parametrize(
    ("challenge", "body", "text"),
    [
        ('Bearer realm="http://{host}/token"', b"{}", "its answer holds none"),
        ('Bearer realm="http://{host}/token"', b"[", "its answer holds none"),
        (
            'Bearer realm="http://{host}/token"',
            b'{"token": "a\\r\\nX: y"}',
            "its answer holds none",
        ),
        ('Bearer realm="http://example.org/token"', b"", "is not an HTTPS URL"),
        ('Bearer realm="file:///etc/passwd"', b"", "is not an HTTPS URL"),
        ("Bearer service=x", b"", "is not an HTTPS URL"),
        ("Basic realm=x", b"", "it wants a user name and a password"),
    ],
)
def test_challenges_that_lead_nowhere(
    env: dict[str, str], challenge: str, body: bytes, text: str
) -> None:
    def respond(request: Request) -> Answer:
        if request.path.startswith("/token"):
            return Answer(200, body)
        return Answer(401, WWW_Authenticate=challenge.format(host=request.headers["Host"]))

    with serving(respond) as fake, pytest.raises(RegistryAuthError, match=text):
        repository(fake.host, env).manifest("1")


def test_a_wrong_password_is_not_tried_twice(env: dict[str, str]) -> None:
    with serving(lambda _: Answer(401, WWW_Authenticate="Basic realm=x")) as fake:
        log_in(env, fake.host, "me", "no")
        with pytest.raises(RegistryAuthError, match="pull access denied"):
            repository(fake.host, env).manifest("1")
        assert [r.headers.get("Authorization") is not None for r in fake.seen] == [False, True]


# redirects


def test_a_redirect_to_another_host_gets_no_authorization(env: dict[str, str]) -> None:
    with serving(lambda _: Answer(200, BLOB)) as storage:

        def respond(request: Request) -> Answer:
            if request.headers.get("Authorization") is None:
                return Answer(401, WWW_Authenticate="Basic realm=x")
            return Answer(307, Location=f"http://{storage.host}/data")

        with serving(respond) as fake:
            log_in(env, fake.host, "me", "pw")
            data = b"".join(repository(fake.host, env).blob(DESCRIPTOR))
            assert data == BLOB
            assert "Authorization" not in storage.seen[0].headers
            assert fake.seen[-1].headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("/v2/again", "more than 5 redirects"),
        ("http://example.org/x", "it is not an HTTPS URL"),
        ("file:///etc/passwd", "it is not an HTTPS URL"),
        ("http://[/", "is no URL"),
    ],
)
def test_redirects_that_are_not_followed(env: dict[str, str], location: str, text: str) -> None:
    with (
        serving(lambda _: Answer(302, Location=location)) as fake,
        pytest.raises(RegistryError, match=text),
    ):
        repository(fake.host, env).manifest("1")


# blobs


def ranges(request: Request) -> int:
    return int(request.headers.get("Range", "bytes=0-")[6:-1])


def test_a_broken_blob_is_taken_up_where_it_broke(env: dict[str, str]) -> None:
    def respond(request: Request) -> Answer:
        start = ranges(request)
        cut = 300_000 if start < 600_000 else None
        if not start:
            return Answer(200, BLOB, cut=cut)
        told = f"bytes {start}-{len(BLOB) - 1}/{len(BLOB)}"
        return Answer(206, BLOB[start:], cut=cut, Content_Range=told)

    with serving(respond) as fake:
        assert b"".join(repository(fake.host, env).blob(DESCRIPTOR)) == BLOB
        assert [ranges(request) for request in fake.seen] == [0, 300_000, 600_000]


def test_a_server_without_ranges_sends_it_all_again(env: dict[str, str]) -> None:
    cuts: Iterator[Optional[int]] = iter([1000, 700_000, None])
    with serving(lambda _: Answer(200, BLOB, cut=next(cuts))) as fake:
        assert b"".join(repository(fake.host, env).blob(DESCRIPTOR)) == BLOB
        assert [ranges(request) for request in fake.seen] == [0, 1000, 700_000]


def test_a_blob_that_never_gets_on(env: dict[str, str]) -> None:
    def respond(request: Request) -> Answer:
        start = ranges(request)
        told = f"bytes {start}-{len(BLOB) - 1}/{len(BLOB)}"
        return Answer(206 if start else 200, BLOB, cut=0 if start else 10, Content_Range=told)

    with (
        serving(respond) as fake,
        pytest.raises(RegistryError, match=f"cannot fetch blob {DIGEST}"),
    ):
        list(repository(fake.host, env).blob(DESCRIPTOR))
        assert len(fake.seen) == transport.RETRIES + 1


def test_a_blob_that_is_shorter_than_promised(env: dict[str, str]) -> None:
    def respond(request: Request) -> Answer:
        return Answer(416) if ranges(request) else Answer(200, BLOB[:-1])

    with serving(respond) as fake, pytest.raises(RegistryError, match="answered with status 416"):
        list(repository(fake.host, env).blob(DESCRIPTOR))


def test_a_blob_that_is_longer_than_promised(env: dict[str, str]) -> None:
    with (
        serving(lambda _: Answer(200, BLOB + b"x")) as fake,
        pytest.raises(DigestMismatchError, match="it has more than"),
    ):
        list(repository(fake.host, env).blob(DESCRIPTOR))


def test_a_part_that_was_not_asked_for(env: dict[str, str]) -> None:
    def respond(request: Request) -> Answer:
        if not ranges(request):
            return Answer(200, BLOB, cut=5)
        return Answer(206, BLOB[9:], Content_Range=f"bytes 9-{len(BLOB) - 1}/{len(BLOB)}")

    with serving(respond) as fake, pytest.raises(RegistryError, match="asked for bytes from 5"):
        list(repository(fake.host, env).blob(DESCRIPTOR))


def test_a_blob_that_is_missing(env: dict[str, str]) -> None:
    with (
        serving(lambda _: error(404, "BLOB_UNKNOWN", "blob unknown to registry")) as fake,
        pytest.raises(ImageError, match="the registry does not have it"),
    ):
        list(repository(fake.host, env).blob(DESCRIPTOR))


def test_a_transfer_can_be_given_up_from_another_thread(env: dict[str, str]) -> None:
    release = threading.Event()

    def respond(request: Request) -> Answer:
        if request.headers.get("Range"):
            release.wait(20)
        return Answer(200, BLOB, Content_Length=str(len(BLOB) * 2))

    with serving(respond) as fake:
        found = repository(fake.host, env)
        stream = found.blob({**DESCRIPTOR, "size": len(BLOB) * 2})
        got = next(stream)
        timer = threading.Timer(0.2, found.abort)
        timer.start()
        before = time.monotonic()
        with pytest.raises(RegistryError):
            for chunk in stream:
                got += chunk
        assert time.monotonic() - before < 10
        timer.join()
        release.set()


# reaching


def test_a_closed_port(env: dict[str, str]) -> None:
    with serving(lambda _: Answer()) as fake:
        host = fake.host
    with pytest.raises(RegistryError) as caught:
        repository(host, env).manifest("1")
    assert caught.value.message == (
        f"cannot reach registry {host}: ECONNREFUSED (connection refused)"
    )


def test_a_name_that_does_not_exist(env: dict[str, str]) -> None:
    with pytest.raises(RegistryError, match=r"its name cannot be resolved|ETIMEDOUT"):
        repository("no-such-host.invalid", env).manifest("1")


def test_plain_http_elsewhere_needs_permission(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lambda _: manifest_answer()) as fake:
        monkeypatch.setattr(transport, "is_loopback", lambda _: False)
        with pytest.raises(RegistryError, match="it does not speak HTTPS") as caught:
            repository(fake.host, env).manifest("1")
        assert "registry.insecure" in caught.value.hint
        assert fake.seen == []
        found = repository(fake.host, env, {fake.host}).manifest("1")
        assert found.digest == MANIFEST_DIGEST


def test_through_a_proxy(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda _: manifest_answer()) as proxy:
        env["http_proxy"] = f"http://me:secret@{proxy.host}"
        host = "registry.invalid:5000"
        connection = transport.Transport(host, env, None, {host})
        connection._scheme = "http"
        response = connection.get("/v2/x/manifests/1", "s")
        assert response.status == 200
        connection.release(response)
        connection.close()
        assert proxy.paths == [f"http://{host}/v2/x/manifests/1"]
        assert proxy.seen[0].headers["Proxy-Authorization"].startswith("Basic ")
        env["no_proxy"] = "other.org,.invalid"
        with pytest.raises(RegistryError, match=r"its name cannot be resolved|ETIMEDOUT"):
            transport.Transport(host, env, None, {host})._follow(f"http://{host}/v2/", {})


@pytest.mark.requires("openssl")
def test_a_certificate_for_another_name(env: dict[str, str], tmp_path: Any) -> None:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True)

    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-keyout", "key", "-out", "crt", "-subj", "/CN=x", "-addext", "subjectAltName=DNS:other.org",
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    env["SSL_CERT_FILE"] = str(tmp_path / "crt")
    with serving(lambda _: manifest_answer(), context) as fake:
        with pytest.raises(RegistryError, match="its certificate cannot be trusted"):
            repository(fake.host, env).manifest("1")
        assert fake.seen == []
