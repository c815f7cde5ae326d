"""Connections made in the host's namespace, as a program in a network namespace of its own sees them."""

from __future__ import annotations

import errno
import json
import socket
import subprocess

import pytest
from connect_world import (
    HOST,
    HOST6,
    LOOPBACK,
    MARKS,
    OTHER,
    OUTSIDE,
    OUTSIDE6,
    World,
    here,
    in_world,
    until,
)
from test_launch import play

from rootless.plan.fastconnect import BOUND, LOCKED, OWN, AddressRule

pytestmark = MARKS


@in_world
def test_connections_and_what_becomes_of_the_descriptor(world: World) -> None:
    with world.server() as one:
        told = world.run(
            """
            one = tcp()
            one.connect((HERE, port))
            told["said"] = said(one)
            told["peer"] = one.getpeername()
            told["close on exec"] = fcntl.fcntl(one, fcntl.F_GETFD)
            plain = tcp()
            plain.set_inheritable(True)
            plain.connect((HERE, port))
            told["inheritable"] = fcntl.fcntl(plain, fcntl.F_GETFD)
            told["waits"] = fcntl.fcntl(plain, fcntl.F_GETFL) & os.O_NONBLOCK
            told["again"] = raw(plain, HERE, port)
            told["fds"] = sorted(map(int, os.listdir("/proc/self/fd")))[-2] == plain.fileno()
            """,
            one.port,
        )
        until(lambda: one.accepted == 2)
    assert told == {
        "said": f"{OUTSIDE} {HOST}",
        "peer": [OUTSIDE, one.port],
        "close on exec": 1,
        "inheritable": 0,
        "waits": 0,
        "again": "EISCONN",
        "fds": True,
    }


@in_world
def test_connections_without_waiting(world: World) -> None:
    with world.server() as one, world.closed() as closed:
        told = world.run(
            f"""
            one = tcp(wait=False)
            told["first"] = name(one.connect_ex((HERE, port)))
            poll = select.poll()
            poll.register(one, select.POLLOUT)
            poll.poll(20000)
            told["error"] = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            told["second"] = name(one.connect_ex((HERE, port)))
            told["said"] = said(one)
            two = tcp(wait=False)
            told["refused"] = name(two.connect_ex((HERE, {closed})))
            if told["refused"] == "EINPROGRESS":
                select.select([], [two], [], 20)
                told["refused"] = name(two.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            """,
            one.port,
        )
    assert told.pop("first") in (0, "EINPROGRESS")
    assert told.pop("second") in (0, "EISCONN")
    assert told == {"error": 0, "said": f"{OUTSIDE} {HOST}", "refused": "ECONNREFUSED"}


@in_world
def test_errors_are_the_host_s(world: World) -> None:
    rules = [AddressRule(bytes(4), 0, BOUND), AddressRule(bytes(16), 0, BOUND)]
    subprocess.run(["ip", "-6", "route", "del", "default"], check=True)
    with world.closed() as closed:
        hosts = (OUTSIDE, f"::ffff:{OUTSIDE}", OUTSIDE6, "10.9.0.255", "fd0a::1")
        told = world.run(
            f"""
            for host in {hosts!r}:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                told[host] = name(tcp(family).connect_ex((host, {closed})))
            """,
            rules=rules,
        )
        for host in hosts:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
                assert told[host] in (
                    errno.errorcode[one.connect_ex((host, closed))],
                    "ENETUNREACH",
                )
    assert told[OUTSIDE] == told[f"::ffff:{OUTSIDE}"] == told[OUTSIDE6] == "ECONNREFUSED"


@in_world
def test_a_refused_socket_can_be_used_again(world: World) -> None:
    with world.server() as one, world.closed() as closed:
        told = world.run(
            f"""
            for wait in (True, False):
                one = tcp(wait=wait)
                told["refused", wait] = name(one.connect_ex((HERE, {closed})))
                if not wait:
                    select.select([], [one], [], 20)
                    one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    one.setblocking(True)
                told["own", wait] = name(one.connect_ex((THERE, {closed})))
                told["used", wait] = name(one.connect_ex((HERE, port)))
                told["said", wait] = said(one)
            told = {{f"{{key}} {{wait}}": value for (key, wait), value in told.items()}}
            """,
            one.port,
        )
    assert told.pop("refused False") in ("ECONNREFUSED", "EINPROGRESS")
    # A socket that was given away while it was on its way stays one of the host's.
    assert {told.pop("own True"), told.pop("own False")} <= {"ECONNREFUSED", "ENETUNREACH"}
    assert told == {
        "refused True": "ECONNREFUSED",
        "used True": 0,
        "used False": 0,
        "said True": f"{OUTSIDE} {HOST}",
        "said False": f"{OUTSIDE} {HOST}",
    }


@in_world
def test_ipv6_and_ipv4_in_ipv6(world: World) -> None:
    with world.server(OUTSIDE6) as one, world.server() as four:
        told = world.run(
            f"""
            one = tcp(socket.AF_INET6)
            one.connect((SIX, port))
            told["six"] = said(one)
            two = tcp(socket.AF_INET6)
            two.connect(("::ffff:" + HERE, {four.port}))
            told["four"] = said(two)
            told["peer"] = two.getpeername()[0]
            three = tcp(socket.AF_INET6)
            three.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            told["only six"] = name(three.connect_ex(("::ffff:" + HERE, {four.port})))
            told["other family"] = raw(tcp(socket.AF_INET6), HERE, port)
            """,
            one.port,
        )
    assert told == {
        "six": f"{OUTSIDE6} {HOST6}",
        "four": f"{OUTSIDE} {HOST}",
        "peer": f"::ffff:{OUTSIDE}",
        "only six": "ENETUNREACH",
        "other family": "EINVAL",
    }


@in_world
def test_what_the_rules_do_not_let_through(world: World) -> None:
    """It takes the container's own namespace, where there is nobody."""
    with world.server() as one, world.server() as other, world.server(OTHER) as third:
        rules = [
            here(OWN, first=other.port, last=other.port),
            AddressRule(socket.inet_aton("10.9.0.2"), 32, BOUND),
            AddressRule(socket.inet_aton("10.9.0.0"), 29, OWN),
            AddressRule(bytes(4), 0, BOUND),
        ]
        told = world.run(
            f"""
            told["here"] = name(tcp().connect_ex((HERE, port)))
            told["port"] = name(tcp().connect_ex((HERE, {other.port})))
            told["address"] = name(tcp().connect_ex((OTHER, {third.port})))
            told["six"] = name(tcp(socket.AF_INET6).connect_ex((SIX, port)))
            """,
            one.port,
            rules=rules,
        )
        until(lambda: one.accepted == 1)
        assert other.accepted == third.accepted == 0
    gone = "ENETUNREACH"
    assert told == {"here": 0, "port": gone, "address": gone, "six": gone}


@in_world
def test_rules_by_what_holds_the_socket(world: World) -> None:
    """Where a socket cannot be locked to its peer the rules decide whether the device will do."""
    with world.server() as one, world.server(HOST) as own, world.server(LOOPBACK) as loop:
        rules = [here(LOCKED), AddressRule(bytes(4), 0, BOUND)]
        told = world.run(
            f"""
            told["locked"] = name(tcp().connect_ex((HERE, port)))
            told["host"] = name(tcp().connect_ex(("{HOST}", {own.port})))
            told["loopback"] = name(tcp().connect_ex((THERE, {loop.port})))
            """,
            one.port,
            rules=rules,
        )
        if world.lane == "bound" and told["locked"] == 0:  # a kernel of before
            assert told == {"locked": 0, "host": 0, "loopback": 0}
        elif world.lane == "bound":
            gone = "ENETUNREACH"
            assert told == {"locked": gone, "host": gone, "loopback": "ECONNREFUSED"}
            assert one.accepted == own.accepted == loop.accepted == 0
        else:
            assert told == {"locked": 0, "host": 0, "loopback": 0}


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 23, b"\5" + bytes(23), b"\4\x21\2" + bytes(21), None],
    ids=["empty", "short", "version", "prefix", "missing"],
)
@in_world
def test_rules_that_are_none(world: World, data: bytes | None) -> None:
    with world.server() as one:
        ops = world.tape("told['is'] = name(tcp().connect_ex((HERE, port)))", one.port)
        if data is None:
            (world.top / "rules").unlink()
        else:
            (world.top / "rules").write_bytes(data)
        assert json.loads(play(ops).output) == {"is": "ENETUNREACH"}


@in_world
def test_rules_change_while_it_runs(world: World) -> None:
    with world.server() as one:
        told = world.run(
            """
            def turn(text):
                with open("new", "wb") as file:
                    file.write(text)
                os.rename("new", "rules")
                return name(tcp().connect_ex((HERE, port)))
            whole = open("rules", "rb").read()
            told["is"] = [turn(whole), turn(b""), turn(whole)]
            os.unlink("rules")
            told["is"].append(name(tcp().connect_ex((HERE, port))))
            """,
            one.port,
        )
    assert told["is"] == [0, "ENETUNREACH", 0, "ENETUNREACH"]


@in_world
def test_sockets_that_are_left_alone(world: World) -> None:
    with world.server() as one:
        told = world.run(
            """
            bound = tcp()
            bound.bind(("0.0.0.0", 0))
            told["bound"] = name(bound.connect_ex((HERE, port)))
            device = tcp(wait=False)
            device.setsockopt(socket.SOL_SOCKET, 25, b"lo")  # SO_BINDTODEVICE
            told["device"] = name(device.connect_ex((HERE, port)))
            marked = tcp()
            marked.setsockopt(socket.SOL_SOCKET, 36, 5)  # SO_MARK
            told["mark"] = name(marked.connect_ex((HERE, port)))
            filtered = tcp()
            code = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0xffffffff))
            filtered.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", 1, ctypes.addressof(code)))
            told["filter"] = name(filtered.connect_ex((HERE, port)))
            listening = socket.create_server((THERE, 0))
            told["listening"] = name(listening.connect_ex((HERE, port)))
            connected = tcp()
            connected.connect(listening.getsockname())
            told["connected"] = name(connected.connect_ex((HERE, port)))
            datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            told["udp"] = name(datagrams.connect_ex((HERE, port)))
            told["unix"] = raw(socket.socket(socket.AF_UNIX), HERE, port)
            own = socket.socket(socket.AF_UNIX)
            own.bind("\0" + "x" * 13)
            own.listen()
            told["same size"] = name(socket.socket(socket.AF_UNIX).connect_ex("\0" + "x" * 13))
            def at(fd, address=b"\2\0" + bytes(14)):
                return libc.connect(fd, address, 16), name(ctypes.get_errno())
            fresh = tcp()
            told["numbers"] = at(999), at(-1), at(0), at(fresh.fileno(), 8)
            """.replace("\0", "\\0").replace("\2", "\\2"),
            one.port,
        )
        assert one.accepted == 0
    assert told.pop("numbers") == [[-1, "EBADF"], [-1, "EBADF"], [-1, "ENOTSOCK"], [-1, "EFAULT"]]
    assert told == {
        **dict.fromkeys(("bound", "mark", "filter", "udp"), "ENETUNREACH"),
        "device": "EINPROGRESS",  # by its own lo, at whose other end there is nobody
        "listening": "EISCONN",
        "connected": "EISCONN",
        "unix": "EINVAL",
        "same size": 0,
    }


@in_world
def test_addresses_of_every_size(world: World) -> None:
    """Sizes that the filter does not ask about take the container's own namespace."""
    with world.server() as one:
        told = world.run(
            """
            for size in (15, 16, 17, 28, 110, 128, 129):
                told[size] = raw(tcp(), HERE, port, size)
            """,
            one.port,
        )
    gone = "ENETUNREACH"
    wanted = {15: "EINVAL", 16: 0, 17: gone, 28: 0, 110: gone, 128: 0, 129: "EINVAL"}
    assert told == {str(size): outcome for size, outcome in wanted.items()}


@in_world
def test_options_go_along(world: World) -> None:
    with world.server() as one:
        told = world.run(
            """
            S, T, I = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IP
            options = [
                (S, socket.SO_KEEPALIVE, 1), (S, socket.SO_RCVBUF, 50000), (S, socket.SO_SNDBUF, 60000),
                (S, socket.SO_OOBINLINE, 1), (S, socket.SO_RCVLOWAT, 3), (S, socket.SO_REUSEADDR, 1),
                (S, socket.SO_PRIORITY, 5), (T, socket.TCP_NODELAY, 1), (T, socket.TCP_KEEPIDLE, 77),
                (T, socket.TCP_KEEPINTVL, 7), (T, socket.TCP_KEEPCNT, 3), (T, socket.TCP_SYNCNT, 2),
                (T, socket.TCP_USER_TIMEOUT, 5000), (I, socket.IP_TOS, 0x10), (I, socket.IP_TTL, 9),
            ]
            blocks = [
                (S, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0)),
                (S, socket.SO_SNDTIMEO, struct.pack("ll", 6, 4000)),
                (S, socket.SO_LINGER, struct.pack("ii", 1, 11)),
                (T, socket.TCP_CONGESTION, b"reno"),
            ]
            one = tcp()
            for level, option, value in options + blocks:
                one.setsockopt(level, option, value)
            def state():
                values = [one.getsockopt(level, option) for level, option, _ in options]
                return values + [one.getsockopt(level, option, 16).hex() for level, option, _ in blocks]
            before = state()
            plain = tcp()
            fresh = plain.getsockopt(S, socket.SO_SNDBUF)
            one.connect((HERE, port))
            plain.connect((HERE, port))
            told["others"] = [(old, new) for old, new in zip(before, state()) if old != new]
            told["peer"] = one.getpeername()[0]
            told["grown"] = plain.getsockopt(S, socket.SO_SNDBUF) > fresh  # as nobody has set it
            """,
            one.port,
        )
    assert told == {"others": [], "peer": OUTSIDE, "grown": True}


@in_world
def test_many_at_once(world: World) -> None:
    with world.server() as one:
        told = world.run(
            """
            def ask(results):
                for _ in range(25):
                    one = tcp()
                    one.connect((HERE, port))
                    results.append(said(one))
                    one.close()
            children = []
            for _ in range(8):
                reading, writing = os.pipe()
                if os.fork() == 0:
                    results = []
                    threads = [threading.Thread(target=ask, args=(results,)) for _ in range(4)]
                    for thread in threads: thread.start()
                    for thread in threads: thread.join()
                    os.write(writing, json.dumps(results).encode())
                    os._exit(0)
                os.close(writing)
                children.append(reading)
            told["all"] = []
            for reading in children:
                with os.fdopen(reading) as file:
                    told["all"] += json.load(file)
            """,
            one.port,
        )
        assert one.accepted == 800
    assert told["all"] == [f"{OUTSIDE} {HOST}"] * 800


@in_world
def test_nobody_waits_for_another_s_connection(world: World) -> None:
    """Time-outs, signals and KILL are the kernel's doing, as for every connection."""
    with world.server() as one, world.silent() as slow:
        told = world.run(
            f"""
            pids = []
            for _ in range(20):
                pid = os.fork()
                if pid == 0:
                    tcp().connect((HERE, {slow}))
                pids.append(pid)
            time.sleep(0.3)
            one = tcp()
            one.connect((HERE, port))
            told["said"] = said(one)
            for pid in pids:
                os.kill(pid, 9)
            told["killed"] = {{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids}} == {{-9}}
            timed = tcp()
            timed.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 300000))
            told["timed"] = raw(timed, HERE, {slow})
            told["again"] = raw(timed, HERE, {slow})
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            asked = tcp()
            told["interrupted"] = raw(asked, HERE, {slow})
            asked.setblocking(False)
            told["goes on"] = raw(asked, HERE, {slow})
            """,
            one.port,
        )
    assert told == {
        "said": f"{OUTSIDE} {HOST}",
        "killed": True,
        "timed": "EALREADY",
        "again": "EALREADY",
        "interrupted": "EINTR",
        "goes on": "EALREADY",
    }
