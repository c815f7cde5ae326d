"""Runs all cases in one tree and reports: ``runner.py ROOT PLAIN``, as root of a container's namespaces.

Each case gets a process of its own and, for each origin of its objects, the directory ROOT/ORIGIN/CASE, where
the objects of layers are already.  If PLAIN is "plain" there are no layers, and all objects are made.
Descriptor 3 gets one line of JSON: case -> origin -> "" or what went wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from posix_cases import harness, registry

PLAIN = "plain"
LIMIT = 60  # seconds for one case with one origin


def _objects(one: harness.Case, origin: str) -> None:
    """Make in the current directory what ORIGIN does not bring along."""
    wanted = harness.entries_of(one)
    if origin == "remade":
        for name in os.listdir():
            if os.path.isdir(name) and not os.path.islink(name):
                shutil.rmtree(name)
            else:
                os.unlink(name)
    if origin in (PLAIN, "fresh", "remade"):
        for path, entry in wanted.items():
            harness.make(path, entry)


def _late(_number: int, _frame: object) -> None:
    raise AssertionError(f"no end after {LIMIT} s")


def attempt(one: harness.Case, origin: str) -> str:
    """Run one case in its directory; "" or what went wrong."""
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(LIMIT)
    try:
        os.umask(0o022)
        _objects(one, origin)
        one.run(*one.arguments)
    except Exception as error:
        at = error.__traceback__
        while at and at.tb_next and "/harness.py" not in at.tb_next.tb_frame.f_code.co_filename:
            at = at.tb_next
        line = at.tb_lineno if at else 0
        return f"line {line}: {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    return ""


def isolated(one: harness.Case, origin: str, path: str) -> str:
    """attempt() in a process of its own, so that nothing of it is left."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.makedirs(path, exist_ok=True)
            os.chdir(path)
            os.write(send, b"=" + attempt(one, origin).encode("utf-8", "replace"))
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as stream:
        text = stream.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return text[1:] if text else f"its process ended with {status}"


def main(root: str, plain: bool) -> None:
    """Run everything and report to descriptor 3."""
    found = {
        name: {
            origin: isolated(one, origin, f"{root}/{origin}/{registry.number(name)}")
            for origin in ([PLAIN] if plain else registry.origins(one))
        }
        for name, one in harness.CASES.items()
    }
    data = json.dumps(found).encode() + b"\n"
    while data:
        data = data[os.write(3, data) :]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == PLAIN)
