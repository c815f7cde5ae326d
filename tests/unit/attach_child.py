"""Attaches in a process of its own; see test_attach.py.  Arguments: socket fd, result fd, options, path."""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import _socket

from rootless.runtime import attach, monitor


def main() -> None:
    number, result_fd, text, path = sys.argv[1:5]
    connection = _socket.socket(fileno=int(number))
    options = json.loads(text)
    keys = options.pop("detach_keys", None)
    if keys is not None:
        options["detach_keys"] = attach.parse_detach_keys(keys)
    outcome = {}
    try:
        result = attach.attach(monitor.Client(connection, path), **options)
        outcome = {name: getattr(result, name) for name in result.__slots__}
    except BaseException as error:
        outcome = {"raised": type(error).__name__, "text": str(error)}
    os.write(int(result_fd), json.dumps(outcome).encode())


main()
