"""Worlds with control groups: a group of one's own to start from, and a systemd that may be there.

The lane (tests/run) has made user@UID.service the user's.  Each world gets a group of its own below it, as a
session of a login or a job of a batch system would be.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHIM = """import sys
sys.path[:0] = [{root!r}]
sys.path += {site!r}
from rootless.__main__ import script
script()
"""
ENTER = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
KEEPERS = ("rootless-realm-", "rootless-network-")  # scopes of what all containers share
HERE = Path(__file__).parent


def manager_group() -> str:
    uid = os.getuid()
    return f"/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service"


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen")


class World:
    """A command line in a group of its own, with a systemd of the kind MANAGER.

    It is "" for none, "real", or what stands in for one, reached by a "bus" or as a "peer".
    """

    def __init__(self, top: Path, libexec: str, driver: str = "auto", manager: str = "") -> None:
        import site

        self.top = top
        self.runtime = top / "r"
        self.home = top / "h"
        for path in (self.runtime, self.home):
            path.mkdir(mode=0o700, exist_ok=True)
        self.log = top / "calls"
        self.group = f"{manager_group()}/t{os.getpid()}-{time.monotonic_ns()}.scope"
        self.units = f"{manager_group()}/u{os.getpid()}-{time.monotonic_ns()}"
        os.mkdir(self.group)
        (top / "shim").write_text(SHIM.format(root=str(ROOT), site=site.getsitepackages()))
        self.env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "ROOTLESS_LIBEXEC": libexec,
            "ROOTLESS_NETWORK_DEFAULT": "none",
            "ROOTLESS_CGROUP_DRIVER": driver,
        }
        self.children: list[subprocess.Popen[bytes]] = []
        self.rootfs = top / "root"
        if manager:
            self.start_manager(manager)

    def start_manager(self, kind: str, mode: str = "") -> None:
        os.makedirs(self.units, exist_ok=True)
        if kind == "real":
            words = ["/bin/sh", "-c", ENTER, self.units, "/usr/bin/systemd", "--user"]
            self.children.append(subprocess.Popen(words, env=self.env, stderr=subprocess.DEVNULL))
            until(lambda: self._answers(f"{self.runtime}/systemd/private"))
            until(lambda: self._answers(f"{self.runtime}/bus"))
            return
        if kind == "bus":
            self.start_bus()
        words = [
            sys.executable,
            str(HERE / "standin.py"),
            str(self.runtime),
            self.units,
            str(self.log),
        ]
        self.children.append(subprocess.Popen([*words, *([mode] if mode else [])]))
        until(lambda: self._answers(f"{self.runtime}/systemd/private"))

    def start_bus(self) -> None:
        config = self.top / "bus.conf"
        config.write_text(BUS.format(path=f"{self.runtime}/bus"))
        self.children.append(
            subprocess.Popen(["dbus-daemon", f"--config-file={config}", "--nofork"])
        )
        until(lambda: self._answers(f"{self.runtime}/bus"))

    def _answers(self, path: str) -> bool:
        import socket

        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except OSError:
                return False
        return True

    def stop_manager(self) -> None:
        while self.children:
            child = self.children.pop()
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def busybox(self) -> str:
        """A root filesystem to run."""
        if not self.rootfs.exists():
            (self.rootfs / "bin").mkdir(parents=True)
            shutil.copy("/bin/busybox", self.rootfs / "bin" / "busybox")
            for name in (
                "sh",
                "cat",
                "sleep",
                "echo",
                "ls",
                "true",
                "mkdir",
                "kill",
                "rmdir",
                "head",
                "test",
            ):
                (self.rootfs / "bin" / name).symlink_to("busybox")
            for name in ("proc", "sys", "dev", "etc", "tmp", "run"):
                (self.rootfs / name).mkdir()
        return str(self.rootfs)

    def command(self, *words: str, group: str = "") -> list[str]:
        python = [sys.executable, "-I", "-S", str(self.top / "shim")]
        return ["/bin/sh", "-c", ENTER, group or self.group, *python, *words]

    def __call__(
        self, *words: str, code: int | None = 0, group: str = "", **env: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words, group=group),
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert code is None or done.returncode == code, (
            words,
            done.returncode,
            done.stdout,
            done.stderr,
        )
        return done

    def out(self, *words: str, **options: Any) -> str:
        return self(*words, **options).stdout.rstrip("\n")

    def run(self, *words: str, flags: tuple[str, ...] = (), **options: Any) -> str:
        """The output of a container that is removed."""
        return self.out("run", "--rm", *flags, "--rootfs", self.busybox(), *words, **options)

    def start(self, name: str, *words: str, flags: tuple[str, ...] = ()) -> str:
        """A container in the background; its ID."""
        command = words or ("sleep", "1000")
        return self.out("run", "-d", "--name", name, *flags, "--rootfs", self.busybox(), *command)

    def state(self, name: str) -> dict[str, Any]:
        container = self.out("inspect", "--format", "{{.Id}}", name)
        path = self.home / f".local/share/rootless/containers/{container}/state.json"
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def calls(self) -> list[Any]:
        """What the stand-in was asked about containers."""
        if not self.log.exists():
            return []
        calls = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [call for call in calls if not str(call[1][0]).startswith(KEEPERS)]

    def processes(self) -> list[int]:
        """Everything of ours that works for a container: commands, launchers, monitors, what they run."""
        kept = {child.pid for child in self.children} | {os.getpid()}
        lines, parents = {}, {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.stat(f"/proc/{name}").st_uid == os.getuid() and int(name) not in kept:
                    lines[int(name)] = Path(f"/proc/{name}/cmdline").read_bytes()
                    stat = Path(f"/proc/{name}/stat").read_text()
                    parents[int(name)] = int(stat.rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
        ours = {pid for pid, line in lines.items() if os.fsencode(str(self.top)) in line}
        ours |= {pid for pid, parent in parents.items() if parent in ours}
        return [pid for pid in ours if b"standin" not in lines[pid] and b"dbus" not in lines[pid]]

    def groups(self) -> list[str]:
        """Every control group that a container has, or has left."""
        found = []
        for top in (self.group, self.units):
            for path, _, _ in os.walk(top):
                name = path.rpartition("/")[2]
                if name.startswith("rootless-") and not name.startswith(
                    (*KEEPERS, "rootless-inner")
                ):
                    found.append(path)
        return found

    def close(self) -> None:
        for name in self("ps", "-aq", code=None).stdout.split():
            self("rm", "-f", name, code=None)
        for record in self.runtime.glob("rootless/*/realm/*"):
            words = record.read_text().split() if record.suffix != ".lock" else []
            if len(words) == 2:
                os.kill(int(words[0]), signal.SIGKILL)
        for pid in self.processes():
            if b"/netguard" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)
        self.stop_manager()
        until(lambda: self._removed(self.group) and self._removed(self.units), 10)

    def _removed(self, top: str) -> bool:
        for path, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(path)
            except OSError:
                return False
        return True


def pids(group: str) -> list[int]:
    """The processes of a group and of those below it."""
    found = []
    for path, _, _ in os.walk(group):
        with open(f"{path}/cgroup.procs", encoding="ascii") as file:
            found += [int(line) for line in file]
    return found


def group_of(pid: int) -> str:
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
        for line in file:
            if line.startswith("0::"):
                return "/sys/fs/cgroup" + line[3:].rstrip("\n")
    raise AssertionError("no group")


BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""
