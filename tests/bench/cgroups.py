"""What a control group costs a start, and what a D-Bus message costs: run in the lane of control groups.

    tests/bench/cgroups.py    by an ordinary user, in a group that is delegated (tests/run makes such a lane)

Prints the least and the median of whole processes, in milliseconds, alternating in one run.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP), str(TOP / "tests" / "contract")]

import cgrouprig  # noqa: E402

ROUNDS = 25
OURS = """import sys; sys.path[:0] = [{top!r}]
from rootless.drivers.cgroup import systemd
from rootless.drivers.cgroup.base import Wanted
systemd.start_message(Wanted("a" * 64)); systemd.prologue()
"""
BASE = """import sys; sys.path[:0] = [{top!r}]
from rootless.drivers.cgroup import base
from rootless.errors import UsageError
import struct
"""
THEIRS = """import sys; sys.path += {site!r}
from jeepney import DBusAddress, new_method_call
name = "org.freedesktop.systemd1"
manager = DBusAddress("/org/freedesktop/systemd1", name, name + ".Manager")
properties = [("PIDs", ("au", [1, 2])), ("Description", ("s", "x")), ("Delegate", ("b", True))]
body = "a.scope", "fail", properties, []
new_method_call(manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", body).serialise(1)
"""


def took(argv: list[str], env: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    import site

    bare = [sys.executable, "-I", "-S", "-c"]
    words = {"top": str(TOP), "site": site.getsitepackages()}
    with tempfile.TemporaryDirectory(prefix="rl-", dir="/tmp") as directory:
        world = cgrouprig.World(
            Path(directory), str(TOP / "rootless" / "libexec"), "systemd", "real"
        )
        root = world.busybox()
        run = ["run", "--rm", "--rootfs", root, "true"]
        world.start("kept")
        world(
            "--cgroup-manager",
            "none",
            "run",
            "-d",
            "--name",
            "bare",
            "--rootfs",
            root,
            "sleep",
            "1000",
        )
        name, path = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
        call = [name, path, f"{name}.Manager", "GetUnit", "s", "init.scope"]
        cases = {
            "python, nothing": [*bare, "pass"],
            "python, the driver without messages": [*bare, BASE.format(**words)],
            "python, both messages made by linux/dbus.py": [*bare, OURS.format(**words)],
            "python, one message made by jeepney": [*bare, THEIRS.format(**words)],
            "busctl call": ["busctl", "--user", "call", *call],
            "run, none": world.command("--cgroup-manager", "none", *run),
            "run, cgroupfs": world.command("--cgroup-manager", "cgroupfs", *run),
            "run, systemd": world.command("--cgroup-manager", "systemd", *run),
            "exec, none": world.command("exec", "bare", "true"),
            "exec, systemd": world.command("exec", "kept", "true"),
        }
        times: dict[str, list[float]] = {name: [] for name in cases}
        try:
            for _ in range(ROUNDS):
                for name, argv in cases.items():
                    times[name].append(took(argv, world.env))
        finally:
            world.close()
    for name, found in times.items():
        print(f"{name:45} {min(found):7.1f} {statistics.median(found):7.1f}")


if __name__ == "__main__":
    main()
