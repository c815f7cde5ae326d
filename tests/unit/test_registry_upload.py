"""Uploads against a server that forgets, breaks off, redirects and lies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fake_registry import Answer, Request, serving

from rootless.errors import RegistryAuthError, RegistryError
from rootless.oci import reference
from rootless.registry import transport, upload
from rootless.registry.places import Place

BLOB = bytes(range(256)) * 4096
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BACKOFF", 0.001)
    monkeypatch.setattr(upload, "BACKOFF", 0.001)


@pytest.fixture
def env(tmp_path: Any) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}


OPEN: list[upload.Upload] = []


@pytest.fixture(autouse=True)
def close_connections() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def to(host: str, env: dict[str, str], *sources: str) -> upload.Upload:
    ref = reference.parse(f"{host}/team/app:1")
    OPEN.append(upload.Upload(ref, env, Place(host, ref.path, frozenset()), sources))
    return OPEN[-1]


def source(start: int) -> Iterator[bytes]:
    for at in range(start, len(BLOB), 100_000):
        yield BLOB[at : at + 100_000]


class Registry:
    """A registry of one blob: sessions, chunks, mounts; ``trouble`` answers first where it wants to."""

    def __init__(self, location: str = "/v2/team/app/blobs/uploads/{}?state=a%20b") -> None:
        self.location = location
        self.sessions: dict[str, bytes] = {}
        self.stored: dict[str, bytes] = {}
        self.trouble: list[Any] = []

    def __call__(self, request: Request) -> Answer:
        path = urlsplit(request.path)
        query = parse_qs(path.query)
        for trouble in list(self.trouble):
            answer = trouble(request)
            if answer is not None:
                self.trouble.remove(trouble)
                return answer  # type: ignore[no-any-return]
        if path.path == "/v2/":
            return Answer(200)
        if request.method == "HEAD":
            return Answer(200 if path.path.rpartition("/")[2] in self.stored else 404)
        if request.method == "POST":
            if query.get("from") == ["team/base"]:
                return Answer(201)
            name = str(len(self.sessions))
            self.sessions[name] = b""
            return Answer(202, Location=self.location.format(name))
        name = path.path.rpartition("/")[2]
        if name not in self.sessions:
            return Answer(404)
        if request.method == "PATCH":
            begin = int(request.headers["Content-Range"].partition("-")[0])
            if begin != len(self.sessions[name]):
                return Answer(416)
        if request.method in ("PATCH", "PUT"):
            self.sessions[name] += request.body
        data = self.sessions[name]
        if request.method == "PUT":
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            if query["digest"] != [digest]:
                return Answer(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"bad"}]}')
            self.stored[digest] = data
            return Answer(201, Docker_Content_Digest=digest)
        where = self.location.format(name)
        status = 204 if request.method == "GET" else 202
        return Answer(status, Location=where, Range=f"0-{max(0, len(data) - 1)}")


@pytest.mark.parametrize("chunk", [1 << 30, 300_000])
@pytest.mark.parametrize(
    "location", ["/v2/team/app/blobs/uploads/{}?state=a%20b", "http://{host}/up/{}", "{}"]
)
def test_a_blob_arrives_whole_or_in_chunks_wherever_the_location_is(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, chunk: int, location: str
) -> None:
    monkeypatch.setattr(upload, "CHUNK", chunk)
    registry = Registry()
    with serving(registry) as fake:
        registry.location = location.replace("{host}", fake.host)
        assert to(fake.host, env).blob(DIGEST, len(BLOB), source) == "pushed"
        assert to(fake.host, env).blob(DIGEST, len(BLOB), source) == "exists"
        methods = [request.method for request in fake.seen]
    assert registry.stored == {DIGEST: BLOB}
    assert methods.count("PATCH") == (4 if chunk == 300_000 else 0)


def test_an_empty_blob(env: dict[str, str]) -> None:
    registry = Registry()
    empty = f"sha256:{hashlib.sha256(b'').hexdigest()}"
    with serving(registry) as fake:
        assert to(fake.host, env).blob(empty, 0, lambda _: iter(())) == "pushed"
    assert registry.stored == {empty: b""}


def test_a_blob_of_another_repository_is_mounted(env: dict[str, str]) -> None:
    with serving(Registry()) as fake:
        found = to(fake.host, env, "team/base").blob(DIGEST, len(BLOB), source, "team/base")
        assert found == "mounted"
        assert not [request for request in fake.seen if request.method in ("PUT", "PATCH")]
        # A registry that will not mount gives an upload instead.
        assert to(fake.host, env).blob(DIGEST, len(BLOB), source, "no/such") == "pushed"


@pytest.mark.parametrize("status", [500, 503, 404])
def test_an_upload_that_failed_begins_again(env: dict[str, str], status: int) -> None:
    registry = Registry()
    registry.trouble.append(lambda request: Answer(status) if request.method == "PUT" else None)
    with serving(registry) as fake:
        assert to(fake.host, env).blob(DIGEST, len(BLOB), source) == "pushed"
    assert registry.stored == {DIGEST: BLOB}
    assert len(registry.sessions) == 2


def test_a_broken_chunk_goes_on_where_the_registry_is(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK", 300_000)
    registry = Registry()
    asked: list[int] = []

    def counted(start: int) -> Iterator[bytes]:
        asked.append(start)
        return source(start)

    def half(request: Request) -> Any:
        if request.method == "PATCH" and request.headers["Content-Range"].startswith("300000-"):
            registry.sessions["0"] += request.body[:1000]
            return Answer(503)
        return None

    registry.trouble.append(half)
    with serving(registry) as fake:
        assert to(fake.host, env).blob(DIGEST, len(BLOB), counted) == "pushed"
    assert registry.stored == {DIGEST: BLOB}
    assert asked == [0, 300_000, 301_000, 601_000, 901_000]


def test_it_gives_up_in_the_end(env: dict[str, str]) -> None:
    def never(request: Request) -> Answer:
        return Answer(503) if request.method == "PUT" else Registry()(request)

    with serving(never) as fake, pytest.raises(RegistryError, match="status 503"):
        to(fake.host, env).blob(DIGEST, len(BLOB), source)


def test_a_refused_push_says_why(env: dict[str, str]) -> None:
    body = b'{"errors":[{"code":"DENIED","message":"requested access is denied"}]}'
    registry = Registry()
    registry.trouble.append(lambda request: Answer(403, body) if request.method == "POST" else None)
    with serving(registry) as fake:
        with pytest.raises(RegistryAuthError, match=r"push access denied for .*requested access"):
            to(fake.host, env).blob(DIGEST, len(BLOB), source)
        registry.trouble.append(
            lambda request: Answer(400, body.replace(b"DENIED", b"MANIFEST_INVALID"))
            if request.method == "PUT"
            else None
        )
        with pytest.raises(RegistryError, match="status 400"):
            to(fake.host, env).manifest(b"{}", "application/json", "1", DIGEST)


def test_credentials_do_not_follow_a_location_to_another_host(env: dict[str, str]) -> None:
    import base64
    import json
    import os

    with serving(lambda _: Answer(201)) as other:
        registry = Registry(f"http://{other.host}/elsewhere/{{}}")

        def guarded(request: Request) -> Answer:
            if "Authorization" not in request.headers:
                return Answer(401, WWW_Authenticate='Basic realm="x"')
            return registry(request)

        with serving(guarded) as fake:
            os.makedirs(f"{env['HOME']}/.docker")
            auth = base64.b64encode(b"me:secret").decode()
            with open(f"{env['HOME']}/.docker/config.json", "w", encoding="utf-8") as file:
                json.dump({"auths": {fake.host: {"auth": auth}}}, file)
            assert to(fake.host, env).blob(DIGEST, len(BLOB), source) == "pushed"
        (put,) = other.seen
        assert put.body == BLOB
        assert "Authorization" not in put.headers


def test_a_location_without_tls_elsewhere_is_refused(env: dict[str, str]) -> None:
    registry = Registry("http://registry.example/upload/{}")
    with (
        serving(registry) as fake,
        pytest.raises(RegistryError, match="not an HTTPS URL"),
    ):
        to(fake.host, env).blob(DIGEST, len(BLOB), source)


def test_tokens_are_asked_for_push_and_for_the_repositories_to_mount_from(
    env: dict[str, str],
) -> None:
    registry = Registry()
    tokens: list[list[str]] = []

    def guarded(request: Request) -> Answer:
        path = urlsplit(request.path)
        if path.path == "/token":
            tokens.append(parse_qs(path.query)["scope"])
            return Answer(200, b'{"token": "good"}')
        if request.headers.get("Authorization") != "Bearer good":
            challenge = f'Bearer realm="http://{fake.host}/token",service="s"'
            return Answer(401, WWW_Authenticate=challenge)
        return registry(request)

    with serving(guarded) as fake:
        found = to(fake.host, env, "team/base").blob(DIGEST, len(BLOB), source, "team/base")
    assert found == "mounted"
    assert tokens == [["repository:team/app:pull,push", "repository:team/base:pull"]]


def test_a_registry_that_stored_something_else(env: dict[str, str]) -> None:
    registry = Registry()
    wrong = "sha256:" + "0" * 64
    registry.trouble.append(
        lambda request: Answer(201, Docker_Content_Digest=wrong)
        if request.method == "PUT"
        else None
    )
    with serving(registry) as fake, pytest.raises(RegistryError, match="stored it as"):
        to(fake.host, env).blob(DIGEST, len(BLOB), source)
