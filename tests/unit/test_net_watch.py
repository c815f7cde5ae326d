"""The end of a process that is not ours is learnt, with a pidfd and without, and no other process is meant."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from rootless.drivers.network.netd.loop import Loop
from rootless.drivers.network.netd.watch import Watch
from rootless.linux import proc


@pytest.fixture(params=["pidfd", "looking"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "looking":

        def refuse(*_: Any) -> int:
            raise OSError(38, "no such call")

        monkeypatch.setattr(os, "pidfd_open", refuse)
    return str(request.param)


def test_its_end_is_told_once(way: str) -> None:
    loop, told = Loop(), []
    with subprocess.Popen(["sleep", "100"]) as process:
        start = proc.starttime(process.pid)
        assert start is not None
        watch = Watch(loop, process.pid, start, lambda: (told.append(way), loop.stop()))
        assert watch.alive()
        loop.call_later(0.3, process.kill)
        loop.call_later(20, loop.stop)
        loop.run()
    assert told == [way]
    watch.close()
    loop.close()


def test_a_pid_that_is_another_process_by_now(way: str) -> None:
    loop, told = Loop(), []
    Watch(loop, os.getpid(), 1, lambda: (told.append(way), loop.stop()))
    loop.call_later(20, loop.stop)
    loop.run()
    assert told == [way]
    loop.close()


def test_a_watch_that_was_closed_tells_nothing(way: str) -> None:
    loop, told = Loop(), []
    with subprocess.Popen(["sleep", "100"]) as process:
        watch = Watch(loop, process.pid, proc.starttime(process.pid) or 0, lambda: told.append(way))
        watch.close()
        process.kill()
    loop.call_later(0.5, loop.stop)
    loop.run()
    assert told == []
    loop.close()
