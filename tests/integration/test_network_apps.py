"""Real servers in containers, real clients: PostgreSQL, nginx, DNS and iperf3 on networks."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from netapps import CONNECT, CROWD, SERVERS, finish, python, started
from networld import HOST, HOST6, OUTSIDE, OUTSIDE6, NetWorld
from rig import until

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "busybox", "mmdebstrap")
POSTGRES = (
    "pg=$(echo /usr/lib/postgresql/*/bin); "
    "$pg/initdb -D /tmp/pg --no-sync -A trust >/dev/null && "
    "echo 'host all all all trust' >>/tmp/pg/pg_hba.conf && "
    "exec $pg/postgres -D /tmp/pg -c listen_addresses='*' -c fsync=off -k /tmp"
)
NGINX = """
daemon off; error_log stderr; pid /tmp/nginx.pid; worker_processes 1;
events { worker_connections 2000; }
http {
  log_format who '$remote_addr'; access_log /tmp/access.log who;
  server {
    listen 80; listen [::]:80;
    location / { return 200 "it works\\n"; }
  }
}
"""
LOADED = ["wrk", "-t", "1", "-c", "100", "-d", "2"]


def test_postgresql_by_name(apps: NetWorld) -> None:
    """A database and its clients, which find it by name and are seen with their own addresses."""
    apps("network", "create", "--subnet", "10.70.0.0/24", "data")
    words = ["-d", "--name", "db", "--network", "data", "--network-alias", "database"]
    apps("run", *words, "-u", "postgres", SERVERS, "sh", "-c", POSTGRES)

    def psql(host: str, *commands: str, check: bool = True) -> str:
        given = [word for command in commands for word in ("-c", command)]
        client = ["psql", "-h", host, "-U", "postgres", "-qAt", *given]
        return apps.out(
            "run", "--rm", "--network", "data", "--ip", "10.70.0.77", SERVERS, *client, check=check
        )

    until(lambda: psql("db", "select 1", check=False) == "1")
    assert psql("database", "select inet_client_addr()") == "10.70.0.77"
    assert (
        psql(
            "db.data",
            "create table t as select n, repeat('x', 1000) from generate_series(1, 20000) as n",
            "select sum(n) from t",
        )
        == "200010000"
    )
    rows = psql("db", "copy t to stdout").splitlines()
    assert len(rows) == 20000
    assert all(len(row.split("\t")[1]) == 1000 for row in rows)


def test_nginx_under_load_sees_its_clients(apps: NetWorld) -> None:
    """wrk outside, over IPv4 and IPv6; every request is in the log with the client's address."""
    apps("network", "create", "--ipv6", "web")
    start = ["sh", "-c", 'echo "$0" >/tmp/nginx.conf && exec nginx -c /tmp/nginx.conf', NGINX]
    apps("run", "-d", "--name", "www", "--network", "web", "-p", "8080:80", SERVERS, *start)
    until(lambda: apps("exec", "www", "test", "-e", "/tmp/nginx.pid", check=False).returncode == 0)
    wanted = {}
    for host, client in ((HOST, OUTSIDE), (f"[{HOST6}]", OUTSIDE6)):
        done = apps.outside(*LOADED, f"http://{host}:8080/").stdout
        assert "Socket errors" not in done and "Non-2xx" not in done, done
        found = re.search(r"(\d+) requests in", done)
        assert found is not None, done
        wanted[client] = int(found[1])
    apps.near("python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080')")
    lines = apps.out("exec", "www", "sh", "-c", "sort /tmp/access.log | uniq -c").splitlines()
    seen = {address: int(count) for count, address in (line.split() for line in lines)}
    (network,) = json.loads(apps.out("network", "inspect", "web"))
    gateways = {one["Gateway"] for one in network["IPAM"]["Config"]}
    assert sum(seen.pop(gateway, 0) for gateway in gateways) == 1, "loopback is the gateway"
    assert seen.keys() == wanted.keys()
    for client, count in wanted.items():  # wrk does not count what it cuts off at its end
        assert count <= seen[client] <= count + 100


def test_dns_through_a_published_port(apps: NetWorld) -> None:
    """dnsmasq in a container, dig outside: datagrams find their way back, also long ones and by TCP."""
    apps("network", "create", "--ipv6", "dns")
    text = ",".join(["x" * 250] * 12)
    server = ["dnsmasq", "-k", "--no-hosts", "--no-resolv", "--log-queries", "--log-facility=-"]
    records = ["--address=/example.test/192.0.2.7", f"--txt-record=long.test,{text}"]
    ports = ["-p", "5353:53/udp", "-p", "5353:53/tcp"]
    apps("run", "-d", "--name", "ns", "--network", "dns", *ports, SERVERS, *server, *records)

    def dig(host: str, *words: str) -> str:
        done = apps.outside("dig", "+tries=1", f"@{host}", "-p", "5353", *words, check=False)
        return done.stdout

    until(lambda: dig(HOST, "+short", "example.test") == "192.0.2.7\n")
    for host, client in ((HOST, OUTSIDE), (HOST6, OUTSIDE6)):
        assert dig(host, "+short", "example.test") == "192.0.2.7\n"
        assert dig(host, "+short", "+tcp", "example.test") == "192.0.2.7\n"
        for way in ("+bufsize=4096", "+bufsize=512"):  # the second comes again by TCP
            answer = dig(host, way, "long.test", "TXT")
            assert answer.count("x" * 250) == 12, answer
        assert f"query[A] example.test from {client}" in apps("logs", "ns").stderr


def test_live_changes_under_iperf3(apps: NetWorld) -> None:
    """A stream goes on while both its ends are connected to another network and disconnected from it."""
    for name in ("here", "there"):
        apps("network", "create", name)
    apps("run", "-d", "--name", "sink", "--network", "here", SERVERS, "iperf3", "-s")
    apps("run", "-d", "--name", "source", "--network", "here", SERVERS, "sleep", "1000")
    run = ["exec", "source", "iperf3", "-c", "sink", "-t", "4", "-i", "0.5", "-J"]
    until(
        lambda: apps("exec", "source", "iperf3", "-c", "sink", "-n", "1K", check=False).returncode
        == 0
    )
    stream = apps.spawn(*run, stdout=subprocess.PIPE)
    try:
        changes = 0
        while stream.poll() is None:
            for end in ("sink", "source"):
                apps("network", "connect", "there", end)
            assert apps.out("exec", "source", "getent", "ahosts", "sink.there")
            for end in ("source", "sink"):
                apps("network", "disconnect", "there", end)
            changes += 1
        assert stream.stdout is not None
        report = json.loads(stream.stdout.read())
    finally:
        finish(stream)
    assert changes > 1
    assert "error" not in report
    assert all(one["sum"]["bytes"] > 0 for one in report["intervals"])


def test_disconnecting_ends_what_went_there(apps: NetWorld) -> None:
    """A container's last network is taken away and given back: the way out goes and comes."""
    apps("network", "create", "only")
    apps("run", "-d", "--name", "mover", "--network", "only", SERVERS, "sleep", "1000")
    ask = ["exec", "mover", *python(CONNECT, f"tcp,{OUTSIDE},8000")]
    with started(apps, *python(CROWD, OUTSIDE, "8000")):
        assert apps.out(*ask).endswith(" connected")
        apps("network", "disconnect", "only", "mover")
        assert apps.out(*ask).endswith(" ENETUNREACH")
        apps("network", "connect", "bridge", "mover")
        assert apps.out(*ask).endswith(" connected")


def test_streams_through_the_relay(apps: NetWorld) -> None:
    """iperf3 outside: both directions, several streams, TCP and UDP, over IPv4 and IPv6."""
    apps("network", "create", "--ipv6", "out")
    apps("run", "-d", "--name", "inside", "--network", "out", SERVERS, "sleep", "1000")
    for address in (OUTSIDE, OUTSIDE6):
        with started(apps, "iperf3", "-s", "--forceflush", ready="---"):
            for words in (
                ["-P", "4"],
                ["-P", "4", "-R"],
                ["-u", "-b", "20M"],
                ["-u", "-b", "20M", "-R"],
            ):
                out = apps.out(
                    "exec", "inside", "iperf3", "-c", address, "-t", "1", "-J", *words, check=False
                )
                report = json.loads(out)
                assert "error" not in report, (words, report["error"])
                end = report["end"]
                got = end.get("sum_received") or end["sum"]
                assert got["bytes"] > 1_000_000, (address, words, got)
                if "-u" in words:
                    assert got["lost_percent"] < 5, (address, words, got)
