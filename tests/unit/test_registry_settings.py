"""Who we are to a registry and where it is: credentials, helpers, places, proxies, challenges, certificates."""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import RegistryAuthError, RegistryError, UsageError
from rootless.oci import reference
from rootless.registry import credentials, failures, places, proxies, tls, tokens

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "home/.docker").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    return {
        "HOME": str(tmp_path / "home"),
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }


def config(env: dict[str, str], document: Any, name: str = "home/.docker/config.json") -> Path:
    path = Path(env["HOME"]).parent / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def basic(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def found(env: dict[str, str], domain: str, path: str = "a/b") -> tuple[str, str, str]:
    known = credentials.lookup(domain, path, env)
    assert known is not None
    return known.user, known.password, known.identity_token


def test_no_file_means_nobody(env: dict[str, str]) -> None:
    assert credentials.lookup("h.io", "a/b", env) is None
    config(env, {})
    assert credentials.lookup("h.io", "a/b", env) is None
    config(env, {"auths": {"h.io": {}}})
    assert credentials.lookup("h.io", "a/b", env) is None


@pytest.mark.parametrize("key", ["h.io", "https://h.io", "https://h.io/v1/", "h.io/a", "h.io/a/b"])
def test_the_forms_of_a_key(env: dict[str, str], key: str) -> None:
    config(env, {"auths": {key: basic("me", "p:w"), "other": basic("x", "y")}})
    assert found(env, "h.io") == ("me", "p:w", "")


def test_the_most_specific_key_wins(env: dict[str, str]) -> None:
    config(env, {"auths": {"h.io": basic("host", "1"), "h.io/a": basic("team", "2")}})
    assert found(env, "h.io", "a/b")[0] == "team"
    assert found(env, "h.io", "c/b")[0] == "host"


def test_docker_hub_has_a_key_of_its_own(env: dict[str, str]) -> None:
    config(env, {"auths": {"https://index.docker.io/v1/": basic("me", "pw")}})
    assert found(env, "docker.io") == ("me", "pw", "")


def test_tokens_and_plain_fields(env: dict[str, str]) -> None:
    config(env, {"auths": {"h.io": {**basic("me", ""), "identitytoken": "idt"}}})
    assert found(env, "h.io") == ("", "", "idt")
    config(env, {"auths": {"h.io": {"username": "me", "password": "pw"}}})
    assert found(env, "h.io") == ("me", "pw", "")


def test_which_file_wins(env: dict[str, str]) -> None:
    entry = {"auths": {"h.io": basic("podman", "1")}}
    config(env, entry, "home/.config/containers/auth.json")
    assert found(env, "h.io")[0] == "podman"
    config(env, {"auths": {"h.io": basic("runtime", "1")}}, "run/containers/auth.json")
    assert found(env, "h.io")[0] == "runtime"
    config(env, {"auths": {"h.io": basic("docker", "1")}})
    assert found(env, "h.io")[0] == "docker"
    env["DOCKER_CONFIG"] = str(
        config(env, {"auths": {"h.io": basic("dir", "1")}}, "d/config.json").parent
    )
    assert found(env, "h.io")[0] == "dir"
    env["REGISTRY_AUTH_FILE"] = str(config(env, {"auths": {"h.io": basic("file", "1")}}, "f.json"))
    assert found(env, "h.io")[0] == "file"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("\x80" * 3, None),
        ('{"auths": {"h.io": {"auth": "é"}}}', "is not base64"),
    ],
)
def test_files_that_cannot_be_read(env: dict[str, str], text: str, reason: str) -> None:
    path = config(env, text)
    with pytest.raises(RegistryAuthError, match=reason) as caught:
        credentials.lookup("h.io", "a", env)
    assert str(path) in caught.value.message


def helper(env: dict[str, str], script: str) -> None:
    path = Path(env["PATH"].partition(":")[0]) / "docker-credential-test"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)


def test_helpers_are_asked_by_protocol(env: dict[str, str]) -> None:
    helper(env, 'read s; printf \'{"Username": "%s", "Secret": "%s"}\' "$1" "$s"')
    config(env, {"credHelpers": {"h.io": "test"}, "auths": {"other.io": basic("x", "y")}})
    assert found(env, "h.io") == ("get", "h.io", "")
    assert found(env, "other.io")[0] == "x"
    config(env, {"credsStore": "test"})
    assert found(env, "docker.io") == ("get", "https://index.docker.io/v1/", "")
    helper(env, 'echo \'{"Username": "<token>", "Secret": "idt"}\'')
    assert found(env, "h.io") == ("", "", "idt")


def test_a_helper_that_knows_nothing_leaves_the_file(env: dict[str, str]) -> None:
    helper(env, "echo credentials not found in native keychain; exit 1")
    config(env, {"credsStore": "test", "auths": {"h.io": basic("me", "pw")}})
    assert found(env, "h.io")[0] == "me"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo locked; exit 1", "locked"),
        ("echo hello", "not what the protocol says"),
        (None, "not in PATH"),
    ],
)
def test_helpers_that_fail(env: dict[str, str], script: Any, reason: str) -> None:
    if script is not None:
        helper(env, script)
    config(env, {"credsStore": "test"})
    with pytest.raises(RegistryAuthError, match=reason):
        credentials.lookup("h.io", "a", env)


# places


def where(name: str, entries: list[dict[str, Any]], **options: Any) -> list[str]:
    ref = reference.parse(name)
    return [f"{p.domain}/{p.path}" for p in places.places(ref, entries, **options)]


def test_mirrors_and_locations() -> None:
    entries: list[dict[str, Any]] = [
        {"prefix": "docker.io", "mirrors": ["m.org:5000", "n.org/hub/"]},
        {"prefix": "docker.io/team", "location": "own.org/team2"},
        {"location": "plain.org", "insecure": True},
    ]
    assert where("debian", entries) == [
        "m.org:5000/library/debian", "n.org/hub/library/debian", "docker.io/library/debian",
    ]  # fmt: skip
    assert where("team/x", entries) == ["own.org/team2/x"]
    assert where("teams/x", entries)[-1] == "docker.io/teams/x"
    assert where("quay.io/a/b", entries) == ["quay.io/a/b"]
    assert where("debian", [], mirrors=["m.org"]) == [
        "m.org/library/debian",
        "docker.io/library/debian",
    ]
    assert where("quay.io/a", [], mirrors=["m.org"]) == ["quay.io/a"]
    place = places.places(reference.parse("plain.org/x"), entries, insecure=["other:1"])[0]
    assert place.insecure == {"plain.org", "other:1"}


def test_the_users_file_comes_first(env: dict[str, str], tmp_path: Path) -> None:
    config(env, '[[registry]]\nprefix = "a.org"\nlocation = "mine.org"\n',
           "home/.config/rootless/registries.toml")  # fmt: skip
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/registries.toml").write_text(
        '[[registry]]\nprefix = "a.org"\nlocation = "theirs.org"\n'
    )
    assert where("a.org/x", places.load(places.files(env, str(tmp_path / "conf")))) == [
        "mine.org/x"
    ]


def test_the_packaged_file_and_its_example() -> None:
    path = ROOT / "conf/registries.toml"
    assert places.load([str(path)]) == []


def test_the_example_in_the_packaged_file_can_be_used(tmp_path: Path) -> None:
    text = (ROOT / "conf/registries.toml").read_text()
    example = [
        line[2:]
        for line in text.splitlines()
        if line.startswith("# ") and ("= " in line or "[[" in line)
    ]
    (tmp_path / "r.toml").write_text("\n".join(example))
    entries = places.load([str(tmp_path / "r.toml")])
    assert where("debian", entries) == [
        "mirror.example.org:5000/library/debian", "registry.example.org/hub/library/debian",
    ]  # fmt: skip
    assert places.places(reference.parse("debian"), entries)[0].insecure == {
        "mirror.example.org:5000"
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[registry]\nprefix = 1", "unknown key"),
        ("x = 1", "unknown key 'x'"),
        ('[[registry]]\nprefx = "a"', "unknown key 'prefx'"),
        ("[[registry]]\nprefix = 1", "prefix has the wrong type: 1"),
        ('[[registry]]\nprefix = "a"\nmirrors = [1]', "mirrors has the wrong type"),
        ("[[registry]]\ninsecure = true", "neither prefix nor location"),
        ("[[registry", "cannot use"),
    ],
)
def test_registries_that_cannot_be_used(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError, match=r"r\.toml") as caught:
        places.load([str(tmp_path / "r.toml")])
    assert reason in caught.value.message


# proxies


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True), ("localhost:5000", True), ("127.0.0.1:5000", True), ("127.9.9.9", True),
        ("[::1]:5000", True), ("x.localhost", True), ("127.0.0.1.example.org", False), ("127.evil.org", False),
        ("10.0.0.1", False), ("localhost.example.org", False),
    ],
)  # fmt: skip
def test_loopback(host: str, local: bool) -> None:
    assert proxies.is_loopback(host) is local


@pytest.mark.parametrize(
    ("url", "env", "proxy"),
    [
        ("https://a.org/", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.org/", {"https_proxy": "p:1", "HTTPS_PROXY": "q:1"}, "http://p:1"),
        ("https://a.org/", {"HTTP_PROXY": "http://p:1"}, ""),
        ("http://a.org/", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("http://a.org/", {"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, ""),
        ("https://a.org/", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https://127.0.0.1:5000/", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://a.org/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, ""),
        ("https://x.a.org/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "b.org, .a.org"}, ""),
        ("https://x.a.org/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*.a.org"}, ""),
        ("https://xa.org/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.org"}, "http://p:1"),
        ("https://a.org:5/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.org:6"}, "http://p:1"),
        ("https://a.org:5/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.org:5"}, ""),
        ("https://10.1.2.3/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, ""),
        (
            "https://11.1.2.3/",
            {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8,x/y"},
            "http://p:1",
        ),
    ],
)
def test_which_proxy(url: str, env: dict[str, str], proxy: str) -> None:
    assert proxies.proxy_for(url, env) == proxy


# challenges


def test_challenges() -> None:
    bearer = 'Bearer realm="https://a/t?x=1,2",service=reg.org , scope="a:b\\"c"'
    asked = tokens.challenge(['Basic realm="x"', bearer])
    assert asked is not None
    assert asked.kind == "bearer"
    assert asked.parameters == {
        "realm": "https://a/t?x=1,2", "service": "reg.org", "scope": 'a:b"c',
    }  # fmt: skip
    assert tokens.challenge(["Negotiate"]) is None
    basic_asked = tokens.challenge(["BASIC"])
    assert basic_asked is not None
    assert basic_asked.kind == "basic"
    for odd in ("a=", '="', 'a="b', ",,,", 'a="\\'):
        tokens.parameters(odd)


def test_error_documents() -> None:
    assert failures.error_of(b'{"errors": [{"code": "denied", "message": "No\\nway."}]}') == (
        "DENIED",
        "no way",
    )
    for odd in (b"", b"[]", b'{"errors": 1}', b'{"errors": [1]}', b"\xff", b"[" * 100_000):
        assert failures.error_of(odd) == ("", "")


# certificates


def test_the_first_directory_that_knows_the_host_wins(env: dict[str, str]) -> None:
    bad = config(env, "nonsense", "home/.config/rootless/certs.d/h.io:5000/ca.crt")
    with pytest.raises(RegistryError, match="it holds no PEM certificate") as caught:
        tls.context("h.io:5000", env)
    assert str(bad) in caught.value.message
    (bad.parent / "ca.crt").unlink()
    config(env, "nonsense", "home/.docker/certs.d/h.io:5000/ca.crt")
    tls.context("h.io:5000", env)  # the first one is empty, but it is there
    tls.context("h.io", env)


@pytest.mark.requires("ordinary-user")
def test_a_certificate_that_may_not_be_read(env: dict[str, str]) -> None:
    path = config(env, "x", "home/.config/rootless/certs.d/h.io/ca.crt")
    path.chmod(0)
    with pytest.raises(RegistryError, match="permission denied"):
        tls.context("h.io", env)
    path.parent.chmod(0)
    with pytest.raises(RegistryError, match="permission denied"):
        tls.context("h.io", env)
    path.parent.chmod(0o700)


def test_a_client_certificate_without_its_key(env: dict[str, str]) -> None:
    config(env, "x", "home/.config/rootless/certs.d/h.io/me.cert")
    with pytest.raises(RegistryError, match=r"me\.cert with .*me\.key: no such file"):
        tls.context("h.io", env)


def test_a_bundle_by_environment(env: dict[str, str], tmp_path: Path) -> None:
    env["SSL_CERT_FILE"] = str(tmp_path / "none.pem")
    with pytest.raises(RegistryError, match=r"none\.pem: no such file"):
        tls.context("h.io", env)
    made = tls.context("h.io", env, verify=False)
    assert made.verify_mode == ssl.CERT_NONE
