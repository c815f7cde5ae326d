"""What network.py starts in containers and outside: a server that accepts, and clients that connect to it.

    network_work.py serve ADDRESS PORT
    network_work.py latency ADDRESS PORT COUNT     one connect() after the other
    network_work.py rate ADDRESS PORT COUNT        64 under way at a time

Prints one JSON object.  Needs nothing but Python.
"""

from __future__ import annotations

import json
import select
import socket
import statistics
import sys
import time

WINDOW = 64


def serve(address: str, port: int) -> None:
    """Accept all, and close each when its client has."""
    listener = socket.create_server((address, port), backlog=1024)
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    open_ones: dict[int, socket.socket] = {}
    while True:
        for fd, _ in epoll.poll():
            if fd != listener.fileno():
                open_ones.pop(fd).close()
                continue
            for _ in range(WINDOW):
                try:
                    client, _ = listener.accept()
                except BlockingIOError:
                    break
                open_ones[client.fileno()] = client
                epoll.register(client, select.EPOLLIN)


def latency(address: str, port: int, count: int) -> dict[str, float]:
    """Microseconds of connect()."""
    found = []
    for _ in range(count):
        client = socket.socket()
        start = time.perf_counter()
        client.connect((address, port))
        found.append((time.perf_counter() - start) * 1e6)
        client.close()
    found.sort()
    return {"median_us": statistics.median(found), "p99_us": found[len(found) * 99 // 100]}


def rate(address: str, port: int, count: int) -> dict[str, float]:
    """Connections per second, each closed as soon as it is there."""
    epoll = select.epoll()
    waiting: dict[int, socket.socket] = {}
    begun = failed = 0
    start = time.perf_counter()
    while begun < count or waiting:
        while begun < count and len(waiting) < WINDOW:
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            client.connect_ex((address, port))
            epoll.register(client, select.EPOLLOUT)
            waiting[client.fileno()] = client
            begun += 1
        for fd, _ in epoll.poll():
            client = waiting.pop(fd)
            failed += client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
            client.close()
    return {"per_second": count / (time.perf_counter() - start), "failed": failed}


if __name__ == "__main__":
    what, where, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if what == "serve":
        serve(where, number)
    else:
        case = {"latency": latency, "rate": rate}[what]
        print(json.dumps(case(where, number, int(sys.argv[4]))))
