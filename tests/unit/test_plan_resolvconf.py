"""resolv.conf and hosts of a container, by Docker's rules, and how edits survive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.plan import resolvconf

HOST = """\
# made by hand
domain old.example
search corp.example lab.example
nameserver 10.0.0.53
nameserver 127.0.0.53
options edns0 trust-ad
sortlist 10.0.0.0
"""


def test_a_file_is_read_as_the_c_library_does() -> None:
    found = resolvconf.parse(
        HOST + "nameserver\noptions\n ; x\noptions rotate\nnameserver ::1 # x\n"
    )
    assert found.servers == ["10.0.0.53", "127.0.0.53", "::1"]
    assert found.search == ["corp.example", "lab.example"]
    assert found.options == ["edns0", "trust-ad", "rotate"]
    assert found.other == ["sortlist 10.0.0.0"]


def test_the_container_asks_us_and_keeps_the_rest() -> None:
    assert resolvconf.resolv_conf(HOST) == (
        "nameserver 127.0.0.11\n"
        "search corp.example lab.example\n"
        "options edns0 trust-ad ndots:0\n"
        "sortlist 10.0.0.0\n"
    )


def test_without_a_file() -> None:
    assert resolvconf.resolv_conf("") == "nameserver 127.0.0.11\noptions ndots:0\n"


@pytest.mark.parametrize(
    ("search", "line"),
    [
        (["a.example", "b.example"], "search a.example b.example\n"),
        (["."], ""),
        ([".", "a"], "search a\n"),
    ],
)
def test_dns_search(search: list[str], line: str) -> None:
    text = resolvconf.resolv_conf(HOST, search)
    assert line in text
    assert ("search" in text) == bool(line)
    assert "corp.example" not in text


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["timeout:3"], "options timeout:3 ndots:0"),
        (["ndots:2", "rotate"], "options ndots:2 rotate"),
        (["ndots:x", "ndots:-1", "ndots"], "options ndots:0"),
    ],
)
def test_dns_options_replace_the_hosts(options: list[str], line: str) -> None:
    assert line in resolvconf.resolv_conf(HOST, (), options).splitlines()


def test_who_set_ndots() -> None:
    host, with_ndots = (resolvconf.parse(HOST + more) for more in ("", "options ndots:2\n"))
    assert not resolvconf.has_ndots(host, [])
    assert resolvconf.has_ndots(host, ["ndots:1"])
    assert resolvconf.has_ndots(with_ndots, [])
    assert not resolvconf.has_ndots(with_ndots, ["rotate"])


def test_hosts() -> None:
    text = resolvconf.hosts(
        "web",
        "corp.example",
        addresses=["172.18.0.2", "fd00::2"],
        links=[("172.17.0.3", resolvconf.link_names("db", "postgres", "3f4a"))],
        extra=["host.docker.internal:host-gateway", "six:[fd00::9]", "seven:fd00::7"],
    )
    assert text.splitlines() == [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::\tip6-localnet",
        "ff00::\tip6-mcastprefix",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
        "169.254.1.2\thost.docker.internal",
        "fd00::9\tsix",
        "fd00::7\tseven",
        "172.17.0.3\tdb 3f4a postgres",
        "172.18.0.2\tweb.corp.example web",
        "fd00::2\tweb.corp.example web",
    ]


def test_hosts_without_ipv6() -> None:
    text = resolvconf.hosts("web", addresses=["172.18.0.2", "fd00::2"], ipv6=False)
    assert text == "127.0.0.1\tlocalhost\n172.18.0.2\tweb\n"


def test_a_host_name_with_dots_is_followed_by_its_first_label() -> None:
    assert resolvconf.own_names("a.b.c") == "a.b.c a"
    assert resolvconf.link_names("db", "db", "h") == "db h"


OLD = ["127.0.0.1\tlocalhost", "172.18.0.2\tweb", "172.18.0.9\tapi"]
NEW = ["127.0.0.1\tlocalhost", "172.18.0.7\tweb", "172.18.0.9\tapi"]


def joined(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)


def test_a_restart_replaces_our_lines_and_keeps_a_users() -> None:
    edited = joined(["# mine", OLD[0], "10.1.1.1\tbox", OLD[1], OLD[2], "10.1.1.2\tother"])
    assert resolvconf.merge(edited, OLD, NEW).splitlines() == [
        "# mine",
        "127.0.0.1\tlocalhost",
        "10.1.1.1\tbox",
        "172.18.0.9\tapi",
        "172.18.0.7\tweb",
        "10.1.1.2\tother",
    ]


def test_a_line_that_a_user_took_out_stays_out() -> None:
    assert resolvconf.merge(joined([OLD[0], OLD[1]]), OLD, NEW).splitlines() == NEW[:2]


def test_one_that_was_killed_before_it_noted_what_it_wrote() -> None:
    assert resolvconf.merge(joined(NEW), OLD, NEW) == joined(NEW)
    assert resolvconf.merge(joined([*NEW, "10.1.1.1\tbox"]), [], NEW) == joined(
        [*NEW, "10.1.1.1\tbox"]
    )


def test_a_file_that_is_not_there() -> None:
    assert resolvconf.merge(None, OLD, NEW) == joined(NEW)


def test_a_file_that_a_user_emptied_gets_what_is_new_only() -> None:
    assert resolvconf.merge("", OLD, NEW) == "172.18.0.7\tweb\n"


lines = st.lists(st.text("ab# ", min_size=1, max_size=3), max_size=6)


@given(lines, lines)
def test_without_edits_the_new_lines_are_there(old: list[str], new: list[str]) -> None:
    assert sorted(resolvconf.merge(joined(old), old, new).splitlines()) == sorted(new)


@given(lines, lines, lines)
def test_no_line_of_a_user_is_lost(mine: list[str], old: list[str], new: list[str]) -> None:
    mine = ["user " + line for line in mine]
    merged = resolvconf.merge(joined(old + mine), old, new).splitlines()
    assert [line for line in merged if line.startswith("user ")] == mine


@given(lines, lines)
def test_merging_twice_changes_nothing(old: list[str], new: list[str]) -> None:
    once = resolvconf.merge(joined([*old, "user"]), old, new)
    assert resolvconf.merge(once, new, new) == once


def test_resolv_conf_is_left_alone_once_edited() -> None:
    assert resolvconf.unless_edited(None, None, "new") == "new"
    assert resolvconf.unless_edited("old", "old", "new") == "new"
    assert resolvconf.unless_edited("old and more", "old", "new") == "old and more"
    assert resolvconf.unless_edited("whatever", None, "new") == "new"
