"""A container whose filesystem server dies: what it sees, what the log says, what can be done with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from rig import World, busybox, until
from test_disk import on_a_small_disk

pytestmark = pytest.mark.requires("ordinary-user", "subid", "fuse", "busybox")


@pytest.fixture(scope="module")
def rl() -> Iterator[World]:
    world = World()
    try:
        busybox(world)
        yield world
    finally:
        world.close()


def server(rl: World) -> int:
    found = [pid for pid, line in rl.processes() if "unionfs/server.py" in line]
    assert len(found) == 1
    return found[0]


def test_a_server_that_dies_leaves_errors_and_a_line(rl: World) -> None:
    words = ["--storage-driver", "fusepy", "run", "-d", "--name", "dying", "busybox"]
    script = "while :; do if ! ls /etc >/dev/null; then sleep 1000; fi; sleep 0.1; done"
    rl(*words, "sh", "-c", f"trap 'exit 3' TERM; {script}")
    os.kill(server(rl), signal.SIGKILL)

    def said() -> str:
        done = rl("logs", "dying")
        return done.stdout + done.stderr

    until(lambda: "server of this container's filesystem has ended (signal 9)" in said())
    done = rl("exec", "dying", "ls", "/", check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    rl("rm", "-f", "dying")
    assert "dying" not in rl.names()
    assert not [line for _, line in rl.processes() if "unionfs" in line]


def test_the_server_ends_with_its_container_and_what_was_written_is_there(rl: World) -> None:
    words = ["--storage-driver", "fusepy", "run", "-d", "--name", "ending", "busybox"]
    rl(*words, "sh", "-c", "echo kept > /f; sleep 1000")
    pid = server(rl)
    until(lambda: rl("exec", "ending", "cat", "/f").stdout == "kept\n")
    rl("kill", "ending")
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    rl("start", "ending")
    assert rl.out("exec", "ending", "cat", "/f") == "kept"
    rl("rm", "-f", "ending")
    until(lambda: not [line for _, line in rl.processes() if "unionfs" in line])


def test_no_room_for_a_copy_up() -> None:
    """The operation fails, nothing half copied stays, the server lives on, and with room it succeeds."""
    on_a_small_disk(
        """
world("run", "--name", "one", "busybox", "sh", "-c", "head -c 3000000 /dev/urandom > /big")
world("commit", "one", "two")
world("rm", "one")
driver = ["--storage-driver", "fusepy"]
script = "cd /dev/shm; exec >out 2>&1; while ! [ -e go ]; do sleep 0.1; done; "
script += "echo + >> /big; echo rc $?; wc -c < /big; while [ -e go ]; do sleep 0.1; done; "
script += "echo + >> /big; echo rc $?; wc -c < /big; touch done; sleep 1000"
world(*driver, "run", "-d", "--name", "cc", "two", "sh", "-c", script)
import time
fill()
world("exec", "cc", "touch", "/dev/shm/go")
def out(word):
    for _ in range(200):
        text = world("exec", "cc", "sh", "-c", "cat /dev/shm/out; ls /dev/shm").stdout
        if word in text:
            return text
        time.sleep(0.1)
    raise AssertionError(text)
out("3000000")
found = [names for where, _, names in os.walk(f"{root}/containers") if where.endswith(("/upper", "/work"))]
assert found == [[], []], found
os.unlink(f"{world.top}/disk/filler")
world("exec", "cc", "rm", "/dev/shm/go")
text = out("done")
assert "No space left" in text, text
assert text.split("\\n")[1:5] == ["rc 1", "3000000", "rc 0", "3000002"], text
world("rm", "-f", "cc")
""",
        size="40m",
    )
