"""A real registry for tests: Debian's docker-registry on a free port of the loopback."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Optional, Union

PROGRAM = "docker-registry"
START_SECONDS = 30.0
_CONFIG = """\
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http:
  addr: {host}
  secret: for-tests-only
{http}{auth}"""


class RegistryServer:
    """A running registry; ``ca_file`` is "" where it speaks plain HTTP."""

    def __init__(
        self,
        host: str,
        directory: Path,
        process: subprocess.Popen[bytes],
        ca_file: str,
        auth: Optional[tuple[str, str]],
    ) -> None:
        self.host = host
        self.directory = directory
        self.ca_file = ca_file
        self.auth = auth
        self._process = process

    @property
    def storage(self) -> Path:
        """Where the registry keeps its data."""
        return self.directory / "data"

    def blob_file(self, digest: str) -> Path:
        """The file that holds a blob or manifest, for tests that damage it."""
        algorithm, _, value = digest.partition(":")
        blobs = self.storage / "docker/registry/v2/blobs"
        return blobs / algorithm / value[:2] / value / "data"

    def stop(self) -> None:
        """End the registry; harmless when it has ended."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def push(self, source: str, name: str, *options: str) -> None:
        """Copy SOURCE (in skopeo's words, such as oci:DIR) to the repository NAME with skopeo."""
        command = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]
        if self.auth:
            command += ["--dest-creds", ":".join(self.auth)]
        # The default authentication file lies in a directory that not every test user has.
        environment = {**os.environ, "REGISTRY_AUTH_FILE": str(self.directory / "auth.json")}
        done = subprocess.run(
            [*command, *options, source, f"docker://{self.host}/{name}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=environment,
        )
        assert done.returncode == 0, done.stderr

    def __enter__(self) -> RegistryServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def available() -> bool:
    """Whether the programs are there that this needs."""
    return all(shutil.which(name) for name in (PROGRAM, "skopeo", "openssl"))


def start_registry(
    tmpdir: Union[str, os.PathLike[str]],
    auth: Optional[tuple[str, str]] = None,
    tls: bool = False,
) -> RegistryServer:
    """Start a registry whose files lie in TMPDIR, and wait until it answers.

    AUTH is the one user and password (basic) that may use it; TLS gives it a certificate by a CA of its
    own.
    """
    directory = Path(tmpdir).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    ca_file = make_certificates(directory) if tls else ""
    for _ in range(5):
        host = f"127.0.0.1:{_free_port()}"
        config = _write_config(directory, host, auth, tls=tls)
        with open(directory / "registry.log", "ab") as log:
            process = subprocess.Popen(
                [PROGRAM, "serve", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                    "OTEL_TRACES_EXPORTER": "none",
                },
            )
        server = RegistryServer(host, directory, process, ca_file, auth)
        if _wait(process, host, ca_file):
            return server
        server.stop()  # somebody else was quicker to take the port
    raise AssertionError((directory / "registry.log").read_text(errors="replace"))


def _write_config(
    directory: Path, host: str, auth: Optional[tuple[str, str]], *, tls: bool
) -> Path:
    lines_http = ""
    if tls:
        lines_http = (
            f"  tls:\n    certificate: {directory}/server.crt\n    key: {directory}/server.key\n"
        )
    lines_auth = ""
    if auth:
        hashed = subprocess.run(["htpasswd", "-Bbn", *auth], capture_output=True, check=True).stdout
        (directory / "htpasswd").write_bytes(hashed)
        lines_auth = f"auth:\n  htpasswd:\n    realm: test\n    path: {directory}/htpasswd\n"
    config = directory / "config.yml"
    config.write_text(
        _CONFIG.format(root=directory / "data", host=host, http=lines_http, auth=lines_auth)
    )
    return config


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], host: str, ca_file: str) -> bool:
    """Whether the registry answers before it ends or the time is up."""
    name, _, port = host.partition(":")
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        connection: http.client.HTTPConnection
        if ca_file:
            context = ssl.create_default_context(cafile=ca_file)
            connection = http.client.HTTPSConnection(name, int(port), timeout=5, context=context)
        else:
            connection = http.client.HTTPConnection(name, int(port), timeout=5)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status in (200, 401) and process.poll() is None
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    return False


def make_certificates(directory: Path) -> str:
    """A CA (ca.crt) and a certificate by it for 127.0.0.1 and localhost (server.crt, server.key)."""
    (directory / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for words in (
        ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "30"]
        + ["-subj", "/CN=rootless test CA"],
        ["req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "30"]
        + ["-CAcreateserial", "-out", "server.crt", "-extfile", "san"],
    ):
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)
    return str(directory / "ca.crt")
