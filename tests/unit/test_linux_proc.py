"""What /proc says, and starting programs with exact descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from rootless.linux import proc, spawn


def test_the_start_time_identifies_a_process() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        start = proc.starttime(child.pid)
        assert start is not None
        assert proc.pid_alive(child.pid, start)
        assert not proc.pid_alive(child.pid, start + 1)
    finally:
        child.kill()
        # Killed and not yet waited for: a zombie is not alive.
        deadline = time.monotonic() + 10
        while proc.starttime(child.pid) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        fields = proc.stat_fields(child.pid)
        assert fields is not None
        assert fields[0] == "Z"
        child.wait()
    assert proc.stat_fields(child.pid) is None
    assert not proc.pid_alive(child.pid, start)
    assert not proc.pid_alive(0, 0)


def test_a_process_name_with_spaces_and_brackets_is_no_trap(tmp_path: os.PathLike[str]) -> None:
    program = os.path.join(tmp_path, ") R 1 2 (x")
    os.symlink("/bin/sleep", program)
    child = subprocess.Popen([program, "60"])
    try:
        fields = proc.stat_fields(child.pid)
        assert fields is not None
        assert int(fields[1]) == os.getpid()
    finally:
        child.kill()
        child.wait()


def test_the_boot_id_is_the_kernels() -> None:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        assert proc.boot_id() == file.read().strip()


def test_the_initial_namespace_is_known_by_its_map(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, wanted in (
        ("         0          0 4294967295\n", True),
        ("0 1000 1\n1 100000 65536\n", False),
        ("", False),
    ):
        monkeypatch.setattr(proc, "_read", lambda path, text=text: text)
        assert proc.in_initial_userns() is wanted
    assert proc.id_map("gid") == ()


def run(fds: dict[int, int], code: str) -> bytes:
    """What Python code printed on descriptor 1 of a spawned child."""
    read, write = os.pipe()
    try:
        argv = [sys.executable, "-I", "-S", "-c", code]
        pid = spawn.spawn(argv, {1: write, **fds}, {"GREETING": "hi"})
    finally:
        os.close(write)
    with open(read, "rb") as file:
        out = file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return out


# What a test runner leaves inheritable comes along, as it would from a shell: only the others count.
OPEN = (
    "import os\nwith os.scandir('/proc/self/fd') as found:\n"
    "    links = {int(e.name): os.readlink(e.path) for e in found}\n"
    "print(sorted(n for n, to in links.items() if 'proc' not in to))"
)


def inheritable() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)):
                found.add(int(name))
        except OSError:
            pass
    return found


def test_the_child_has_the_named_descriptors_and_no_others() -> None:
    null = os.open("/dev/null", os.O_RDWR)
    os.set_inheritable(null, False)
    given = inheritable() | {0, 1, 2}
    try:
        assert run({}, OPEN) == f"{sorted(given)}\n".encode()
        assert run({27: null}, OPEN) == f"{sorted(given | {27})}\n".encode()
    finally:
        os.close(null)


def test_descriptors_may_trade_places() -> None:
    first, second = os.pipe(), os.pipe()
    os.write(first[1], b"first")
    os.write(second[1], b"second")
    try:
        # The child's number of one is our number of the other.
        found = run(
            {first[0]: second[0], second[0]: first[0]},
            f"import os; print(os.read({first[0]}, 9), os.read({second[0]}, 9))",
        )
        assert found == b"b'second' b'first'\n"
    finally:
        for fd in (*first, *second):
            os.close(fd)


def test_the_environment_is_exactly_what_was_given() -> None:
    code = "import os; print({k: v for k, v in os.environ.items() if k != 'LC_CTYPE'})"
    assert run({}, code) == b"{'GREETING': 'hi'}\n"


def test_a_program_that_is_not_there_is_an_error_and_leaks_nothing() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        spawn.spawn(["/nonexistent/program"], {3: 0, 4: 1}, {})
    assert os.listdir("/proc/self/fd") == before
