"""What tests of whole networks start: small servers and clients in Python, and looks at the network service."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from networld import NetWorld

SERVERS = "servers:latest"  # Debian with PostgreSQL, nginx and tools of networks

# CONNECT KIND,ADDRESS,PORT...: what becomes of connections, tried all at once, each in the errno's name.
CONNECT = """
import errno, socket, sys, threading
def attempt(kind, address, port):
    six = ':' in address
    family = socket.AF_INET6 if six else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM) as sock:
        sock.settimeout(30 if kind == 'tcp' else 5)
        if kind == 'tcp':
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 2)
        else:  # every error is told, as to a connecting TCP
            sock.setsockopt(*((socket.IPPROTO_IPV6, 25, 1) if six else (socket.IPPROTO_IP, 11, 1)))
        try:
            sock.connect((address, int(port)))
            if kind == 'udp':
                sock.send(b'x')
                sock.recv(9)
            return 'connected'
        except OSError as error:
            return errno.errorcode[error.errno] if error.errno else 'silence'
def show(word):
    print(word, attempt(*word.split(',')), flush=True)
threads = [threading.Thread(target=show, args=(word,)) for word in sys.argv[1:]]
for thread in threads:
    thread.start()
"""

# crowd ADDRESS PORT: answers what it is sent, on as many connections as come.
CROWD = """
import selectors, socket, sys
address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ':' in address else socket.AF_INET
both = {'dualstack_ipv6': True} if address == '::' else {}
listener = socket.create_server((address, port), family=family, backlog=4096, **both)
listener.setblocking(False)
selector = selectors.DefaultSelector()
selector.register(listener, selectors.EVENT_READ)
print('ready', flush=True)
while True:
    for key, _ in selector.select():
        sock = key.fileobj
        if sock is listener:
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                continue
            selector.register(client, selectors.EVENT_READ)
            continue
        try:
            data = sock.recv(4096)
            if data:
                sock.send(data)
        except OSError:
            data = b''
        if not data:
            selector.unregister(sock)
            sock.close()
"""

# many ADDRESS PORT COUNT: COUNT connections at a time, each of which carries something; waits for a line, then
# has each carry something once more.
MANY = """
import socket, sys
address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
socks = [socket.create_connection((address, port), 60) for _ in range(count)]
def round():
    for number, sock in enumerate(socks):
        sock.sendall(b'%d' % number)
    return sum(sock.recv(99) == b'%d' % number for number, sock in enumerate(socks))
print('open', round(), flush=True)
sys.stdin.readline()
print('open', round(), flush=True)
"""

# hold ADDRESS PORT COUNT: COUNT connections that carry something all the time, until they end, however.
HOLD = """
import socket, sys, threading
address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ends, ready = [], threading.Barrier(count + 1)  # one that fails breaks it for all
def hold(number):
    sock = socket.create_connection((address, port), 60)
    sock.sendall(b'x')
    sock.recv(1)
    ready.wait(20)
    try:
        while True:
            if number % 2:  # half of them wait, half of them talk
                sock.sendall(b'x')
            if not sock.recv(1):
                ends.append('end')
                return
    except socket.timeout:
        ends.append('hangs')
    except OSError as error:
        ends.append('error')
threads = [threading.Thread(target=hold, args=(n,)) for n in range(count)]
for thread in threads:
    thread.start()
ready.wait(20)
print('ready', flush=True)
for thread in threads:
    thread.join()
print(len(ends), 'hangs' in ends, flush=True)
"""


def python(script: str, *words: str) -> list[str]:
    """The words that run a script, with as many descriptors as it may have."""
    start = 'ulimit -n "$(ulimit -Hn)"; exec python3 -c "$0" "$@"'
    return ["sh", "-c", start, script, *words]


@contextmanager
def started(
    net: NetWorld, *argv: str, far: bool = True, ready: str = "ready"
) -> Iterator[subprocess.Popen[str]]:
    """A program outside (or on the host) that has said that it is READY; killed at the end."""
    process = net.start(*argv, far=far, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = process.stdout.readline() if ready else ""
        assert line.startswith(ready), line
        yield process
    finally:
        finish(process)


def finish(process: subprocess.Popen[Any]) -> None:
    """Kill a program, unless it has ended, and close its pipes."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def status(net: NetWorld) -> dict[str, Any]:
    """What the network service says of itself."""
    script = (
        "import socket, sys, glob; s = socket.socket(socket.AF_UNIX); s.connect(glob.glob(sys.argv[1])[0]); "
        's.sendall(b\'{"op":"status"}\\n\'); print(s.makefile().read())'
    )
    out = net.near("python3", "-c", script, f"{net.runtime}/rootless/*/net/*/sock").stdout
    found: dict[str, Any] = json.loads(out)
    return found


def memory(net: NetWorld) -> int:
    """The memory of the network service, in KiB."""
    with open(f"/proc/{status(net)['pid']}/status", encoding="ascii") as file:
        return int(next(line.split()[1] for line in file if line.startswith("VmRSS")))


def address_of(net: NetWorld, name: str, network: str = "bridge", key: str = "IPAddress") -> str:
    """A container's address on a network."""
    (found,) = json.loads(net.out("inspect", name))
    return str(found["NetworkSettings"]["Networks"][network][key])


def descriptors(pid: int) -> int:
    """How many descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))
