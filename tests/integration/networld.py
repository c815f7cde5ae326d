"""A world whose host is a network namespace of its own, with an outside beyond one wire.

A holder process keeps a user namespace with the caller's subordinate IDs and two network namespaces; rootless
runs in the first, as it would inside a container or a batch job, so that its network service, its published
ports and its way out are all in there.  Servers of the outside are started in the second.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from netrig import until_wired
from rig import World

HOST, OUTSIDE = "10.9.0.1", "10.9.0.2"
HOST6, OUTSIDE6 = "fd09::1", "fd09::2"
_HOLDER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def unshare(flags):
    if libc.unshare(flags) < 0:
        raise OSError(ctypes.get_errno(), "unshare")
unshare(0x10000000 | 0x40000000 | 0x20000)
print("made", flush=True)
sys.stdin.readline()
read, write = os.pipe()
child = os.fork()
if child == 0:
    unshare(0x40000000)
    os.write(write, b"x")
    os.execvp("sleep", ["sleep", "infinity"])
os.read(read, 1)
print(child, flush=True)
sys.stdin.read()
os.kill(child, 9)
"""
_WIRE = f"""
set -e
mount -t sysfs none /sys
ip link set lo up
ip link add out0 type veth peer name out1 netns $1
ip addr add {HOST}/24 dev out0
ip -6 addr add {HOST6}/64 dev out0 nodad
ip link set out0 up
ip route add default via {OUTSIDE}
ip -6 route add default via {OUTSIDE6}
"""
_FAR = f"""
set -e
ip link set lo up
ip addr add {OUTSIDE}/24 dev out1
ip -6 addr add {OUTSIDE6}/64 dev out1 nodad
ip link set out1 up
"""


def _ranges(path: str) -> str:
    import pwd

    name = pwd.getpwuid(os.getuid()).pw_name
    with open(path, encoding="utf-8") as file:
        for line in file:
            owner, first, _ = line.split(":")
            if owner == name:
                return first
    raise AssertionError(f"{path} has nothing for {name}")


class NetWorld(World):
    """A world in which containers are on networks."""

    def __init__(self) -> None:
        super().__init__()
        self.env.pop("ROOTLESS_NETWORK_DEFAULT")
        self.env["ROOTLESS_NETWORK_IDLE"] = "1"
        self.holder = subprocess.Popen(
            [sys.executable, "-c", _HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.holder.stdout is not None and self.holder.stdin is not None
        assert self.holder.stdout.readline() == "made\n"
        pid = str(self.holder.pid)
        for program, own, file in (
            ("newuidmap", os.getuid(), "/etc/subuid"),
            ("newgidmap", os.getgid(), "/etc/subgid"),
        ):
            words = [program, pid, "0", str(own), "1", "1", _ranges(file), "65536"]
            subprocess.run(words, check=True)
        self.holder.stdin.write("\n")
        self.holder.stdin.flush()
        self.far = self.holder.stdout.readline().strip()
        enter = ["nsenter", "-t", pid, "-U", "-n", "-m", "--"]
        self.near_argv = enter
        self.far_argv = [
            "nsenter",
            "-t",
            pid,
            "-U",
            "-m",
            "--",
            "nsenter",
            "-t",
            self.far,
            "-n",
            "--",
        ]
        self.near("sh", "-c", _WIRE, "sh", self.far)
        self.outside("sh", "-c", _FAR)
        until_wired(lambda: self.near("ip", "addr").stdout + self.outside("ip", "addr").stdout)
        self.argv = [*enter, *self.argv]

    def near(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program on the host."""
        return self._run([*self.near_argv, *argv], check)

    def outside(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program outside."""
        return self._run([*self.far_argv, *argv], check)

    def start(self, *argv: str, far: bool = True, **options: Any) -> subprocess.Popen[str]:
        """Start a program outside (or on the host)."""
        before = self.far_argv if far else self.near_argv
        return subprocess.Popen([*before, *argv], text=True, env=self.env, **options)

    def _run(self, argv: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=self.env)
        assert not check or done.returncode == 0, (argv, done.stdout, done.stderr)
        return done

    def close(self) -> None:
        """End the network service, then the namespaces."""
        self("system", "reset", "-f")
        super().close()
        assert self.holder.stdin is not None and self.holder.stdout is not None
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.wait(10)
        if self.holder.stdout is not None:
            self.holder.stdout.close()
