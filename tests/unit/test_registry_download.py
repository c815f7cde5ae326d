"""URLs of builds fetched: proxies, redirects, whom a password is told, and bodies that break off."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from fake_registry import Answer, serving

from rootless.errors import RegistryError
from rootless.registry import download, transport


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BACKOFF", 0.001)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}


def body(url: str, env: dict[str, str]) -> bytes:
    answer = download.get(url, env)
    try:
        return b"".join(answer.chunks())
    finally:
        answer.close()


def test_a_password_is_told_to_its_own_host_alone(env: dict[str, str]) -> None:
    with serving(lambda _: Answer(body=b"there")) as other:
        target = f"http://{other.host}/y"
        with serving(lambda _: Answer(302, Location=target)) as first:
            assert body(f"http://me:pass%20word@{first.host}/x?q=1#part", env) == b"there"
            assert first.paths == ["/x?q=1"]
            assert first.seen[0].headers["Authorization"] == "Basic bWU6cGFzcyB3b3Jk"
        assert other.seen[0].headers["Authorization"] is None


def test_through_a_proxy(env: dict[str, str]) -> None:
    with serving(lambda _: Answer(body=b"proxied")) as proxy:
        env["http_proxy"] = f"http://{proxy.host}"
        assert body("http://files.invalid/x", env) == b"proxied"
        assert proxy.paths == ["http://files.invalid/x"]


@pytest.mark.requires("openssl")
def test_https_leads_to_nothing_less(env: dict[str, str], tmp_path: Path) -> None:
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"]
    words += ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "crt")]
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    with serving(lambda _: Answer(body=b"plain")) as plain:
        target = f"http://{plain.host}/y"
        with serving(lambda _: Answer(302, Location=target), context) as fake:
            with pytest.raises(RegistryError, match="cannot be trusted"):
                body(f"https://{fake.host}/x", env)
            env["SSL_CERT_FILE"] = str(tmp_path / "crt")
            with pytest.raises(RegistryError, match="not an HTTPS URL"):
                body(f"https://{fake.host}/x", env)
        assert plain.seen == []


def test_a_body_that_breaks_off_is_none(env: dict[str, str]) -> None:
    cut = Answer(body=b"0123456789", cut=4)
    with serving(lambda _: cut) as fake, pytest.raises(RegistryError, match="cannot fetch http"):
        body(f"http://{fake.host}/x", env)


@pytest.mark.parametrize("url", ["ftp://h/x", "http:///x", "http://[::1/x", "x"])
def test_what_is_no_url(env: dict[str, str], url: str) -> None:
    with pytest.raises(RegistryError, match="no URL"):
        download.get(url, env)
