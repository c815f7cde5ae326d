"""A user's world for one test session: home, runtime directory, store with images, and the command line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SITE = os.path.dirname(os.path.dirname(__import__("click").__file__))
SHIM = (
    "import sys; sys.path[:0] = []; sys.path += [{top!r}, {site!r}]; "
    "from rootless.__main__ import script; script()"
)
Done = subprocess.CompletedProcess


class World:
    """Everything a rootless of its own needs; nothing of the caller's is touched."""

    def __init__(self) -> None:
        # Unix socket paths are short, so is this.
        self.top = tempfile.mkdtemp(prefix="rl-", dir="/tmp")
        self.home = f"{self.top}/home"
        self.runtime = f"{self.top}/run"
        for path in (self.home, self.runtime):
            os.mkdir(path, 0o700)
        self.env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": self.home,
            "XDG_RUNTIME_DIR": self.runtime,
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "PYTHONDONTWRITEBYTECODE": "1",
            "ROOTLESS_NETWORK_DEFAULT": "host",  # tests of networks say otherwise
        }
        if os.environ.get("ROOTLESS_LIBEXEC"):
            self.env["ROOTLESS_LIBEXEC"] = os.environ["ROOTLESS_LIBEXEC"]
        self.argv = [sys.executable, "-I", "-S", "-c", SHIM.format(top=TOP, site=SITE)]

    def __call__(
        self,
        *words: str,
        check: bool = True,
        code: int | None = None,
        input: str | None = None,  # noqa: A002
        env: dict[str, str] | None = None,
        cwd: str = "/",
    ) -> Done[str]:
        """Run one rootless command; CODE is the exit code it must have (0 unless CHECK is false)."""
        done = subprocess.run(
            [*self.argv, *words],
            env={**self.env, **(env or {})},
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            cwd=cwd,
            timeout=120,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert "internal error" not in done.stderr, done.stderr
        if code is not None or check:
            assert done.returncode == (code or 0), (
                words,
                done.returncode,
                done.stdout,
                done.stderr,
            )
        return done

    def out(self, *words: str, **options: object) -> str:
        """The standard output of a command that must succeed, without the last newline."""
        return self(*words, **options).stdout.rstrip("\n")  # type: ignore[arg-type]

    def spawn(self, *words: str, **options: object) -> subprocess.Popen[bytes]:
        """Start a command and leave it running."""
        return subprocess.Popen([*self.argv, *words], env=self.env, **options)  # type: ignore[call-overload,no-any-return]

    def names(self) -> list[str]:
        """Names of all containers."""
        return self.out("ps", "-a", "--format", "{{.Names}}").split()

    def processes(self) -> list[tuple[int, str]]:
        """(pid, command line) of every process that works for this world."""
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    line = file.read().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if self.top in line:
                found.append((int(name), line))
        return found

    def close(self) -> None:
        """Remove every container, end the realm, and take everything away."""
        for name in self.names():
            self("rm", "-f", name, check=False)
        images = self("images", "-q", check=False).stdout.split()
        if images:
            self("rmi", "-f", *images, check=False)
        for root, _, files in os.walk(f"{self.runtime}/rootless"):
            for name in files:
                if os.path.basename(root) == "realm" and "." not in name:
                    with open(f"{root}/{name}", encoding="ascii") as file:
                        os.kill(int(file.read().split()[0]), signal.SIGTERM)
        shutil.rmtree(self.top, ignore_errors=True)
        assert not os.path.exists(
            f"{self.home}/.local/share/rootless/containers"
        ) or not os.listdir(f"{self.home}/.local/share/rootless/containers")


def until(condition: Callable[[], object], seconds: float = 15) -> object:
    """Wait until CONDITION gives something true, and give that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def busybox(world: World) -> None:
    """Load the busybox image."""
    layout = f"{world.top}/busybox"
    subprocess.run([sys.executable, f"{TOP}/tests/images/busybox.py", layout], check=True)
    world("load", "-i", layout)
    shutil.rmtree(layout)


def lines(text: str) -> Sequence[str]:
    """Lines of TEXT."""
    return text.splitlines()
