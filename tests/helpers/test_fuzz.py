"""A short run of every fuzz target; a long one is `make -C helpers fuzz` and patience."""

from __future__ import annotations

import glob
import os
import struct
import subprocess
from typing import Any

import pytest
from jeepney import DBusAddress, new_signal

from rootless.drivers.cgroup import systemd
from rootless.drivers.cgroup.base import Wanted
from rootless.plan import fastconnect, tape

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGETS = sorted(os.path.basename(path)[:-2] for path in glob.glob(f"{TOP}/helpers/fuzz/fuzz_*.c"))
FLAGS = [
    "-std=gnu11",
    "-O1",
    "-g",
    "-fsanitize=fuzzer,address,undefined",
    "-fno-sanitize-recover=all",
]

pytestmark = pytest.mark.requires("clang")

MANAGER = DBusAddress("/org/freedesktop/systemd1", interface="org.freedesktop.systemd1.Manager")
JOB_REMOVED = new_signal(MANAGER, "JobRemoved", "uoss", (7, "/job/7", "rootless-x.scope", "done"))


def seeds(target: str, directory: Any) -> None:
    if target == "fuzz_tape":
        for number, (name, _, signature, _, _) in enumerate(tape.OPS):
            values = {"i": 1, "s": "/x", "b": b"12345678", "S": ["a", "bc"]}
            data = tape.encode([(name, tuple(values[kind] for kind in signature))])  # type: ignore[misc]
            (directory / str(number)).write_bytes(data)
    elif target == "fuzz_owner":
        (directory / "0").write_bytes(b"33:44")
        (directory / "1").write_bytes(b"/proc/self/fd/12")
        (directory / "2").write_bytes(b"Name:\tx\nUmask:\t0022\nCapPrm:\t00000000a80425fb\n")
    elif target == "fuzz_connect":
        four = struct.pack("=HH4s8x", 2, 80, b"\x0a\0\0\1")
        rules = [fastconnect.AddressRule(bytes(4), 0, fastconnect.BOUND)]
        (directory / "0").write_bytes(four + bytes(12) + fastconnect.encode_rules(rules))
        (directory / "1").write_bytes(
            struct.pack("=HHI16sI", 10, 80, 0, bytes(10) + b"\xff" * 6, 0)
        )
        (directory / "2").write_bytes(
            b"tfd:        5 events:       19 data: 7  pos:0 ino:4d sdev:8\n"
        )
        (directory / "3").write_bytes(b"pos:\t0\nflags:\t02004002\nmnt_id:\t1\n")
        (directory / "4").write_bytes(fastconnect.table("x86_64"))
    elif target == "fuzz_dbus":
        data = systemd.prologue() + systemd.start_message(Wanted("ab" * 32))
        (directory / "0").write_bytes(data)
        (directory / "1").write_bytes(JOB_REMOVED.serialise(5))
    elif target == "fuzz_events":
        (directory / "0").write_bytes(b'A"image":"x"\nU{"Type":"volume"\nD{"Type":"volume"\nA\n')
    elif target == "fuzz_user":
        (directory / "0").write_bytes(b"\x04root:x:0:0:r:/root:/bin/sh\nextra:x:7:app,root\n")


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_breaks_in_a_short_run(target: str, tmp_path: Any) -> None:
    binary = str(tmp_path / target)
    source = f"{TOP}/helpers/fuzz/{target}.c"
    subprocess.run(["clang", *FLAGS, "-I", f"{TOP}/helpers", "-o", binary, source], check=True)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    seeds(target, corpus)
    # The kernel counts the memory of who executed it as its own, so a shell that is small does.
    done = subprocess.run(
        [
            "sh",
            "-c",
            '"$@"; exit $?',
            "sh",
            binary,
            "-runs=200000",
            "-max_len=4096",
            "-seed=1",
            "-verbosity=0",
            str(corpus),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
