"""Whether a container outlives its user's session."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootless.engine import sessions as looking
from rootless.facts import HostFacts
from rootless.plan import sessions

SESSION = "/user.slice/user-1000.slice/session-3.scope"
MANAGER = "/user.slice/user-1000.slice/user@1000.service/app.slice/rootless-x.scope"
DEBIAN = "[Login]\n#NAutoVTs=6\n#KillUserProcesses=no\n#KillOnlyUsers=\n#KillExcludeUsers=root\n"
UPSTREAM = DEBIAN.replace("KillUserProcesses=no", "KillUserProcesses=yes")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (f"0::{SESSION}\n", SESSION),
        (f"12:memory:/x\n1:name=systemd:{SESSION}\n0::/\n", SESSION),
        ("11:cpu:/\n", ""),
        ("", ""),
    ],
)
def test_the_control_group_that_systemd_knows(text: str, path: str) -> None:
    assert sessions.own_cgroup(text) == path


@pytest.mark.parametrize(
    ("cgroup", "where"),
    [
        (SESSION, "session"),
        (f"{SESSION}/deeper", "session"),
        (MANAGER, "manager"),
        ("/user.slice/user-1000.slice/user@1001.service/x.scope", ""),
        ("/system.slice/cron.service", ""),
        ("/system.slice/slurmstepd.scope/job_7/step_0", ""),
        ("/", ""),
    ],
)
def test_where_a_process_belongs(cgroup: str, where: str) -> None:
    assert sessions.place(cgroup, 1000) == where


@pytest.mark.parametrize(
    ("files", "killed"),
    [
        ([DEBIAN], False),
        ([UPSTREAM], True),
        ([], True),
        ([DEBIAN, "[Login]\nKillUserProcesses=yes\n"], True),
        ([DEBIAN, "[Login]\nKillUserProcesses=yes\n", "[Login]\nKillUserProcesses=no\n"], False),
        ([DEBIAN, "KillUserProcesses=yes\n[Other]\nKillUserProcesses=yes\n"], False),
        ([UPSTREAM, "[Login]\nKillOnlyUsers=bob carl\n"], False),
        ([UPSTREAM, "[Login]\nKillOnlyUsers=bob\n", "[Login]\nKillOnlyUsers=ann\n"], True),
        ([UPSTREAM, "[Login]\nKillExcludeUsers=ann\n"], False),
        ([UPSTREAM, "[Login]\nKillExcludeUsers=bob\n"], True),
    ],
)
def test_whether_logind_kills(files: list[str], killed: bool) -> None:
    assert sessions.kills(sessions.settings(files), "ann") is killed


def test_root_is_spared_by_default() -> None:
    assert not sessions.kills(sessions.settings([UPSTREAM.replace("=root", "=")]), "root")


@pytest.mark.parametrize(
    ("cgroup", "lingers", "kill", "ends"),
    [
        (SESSION, False, "no", False),
        (SESSION, False, "yes", True),
        (SESSION, True, "yes", True),  # lingering spares the manager, not the session
        (MANAGER, False, "no", True),
        (MANAGER, False, "yes", True),
        (MANAGER, True, "yes", False),
        ("/system.slice/cron.service", False, "yes", False),
        ("", False, "yes", False),
    ],
)
def test_the_prediction(cgroup: str, lingers: bool, kill: str, ends: bool) -> None:
    login = {"KillUserProcesses": kill}
    assert bool(sessions.at_logout(cgroup, 1000, "ann", login, lingers=lingers)) is ends


def test_the_remedy_works_where_it_is_offered() -> None:
    assert "enable-linger ann" in sessions.remedy(MANAGER, 1000, "ann", lingers=False)
    assert "systemd-run --user --scope" in sessions.remedy(SESSION, 1000, "ann", lingers=True)
    assert "enable-linger" not in sessions.remedy(SESSION, 1000, "ann", lingers=True)
    both = sessions.remedy(SESSION, 1000, "ann", lingers=False)
    assert "enable-linger ann" in both and "systemd-run" in both


def put(root: Path, name: str, text: str) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_files_of_logind_are_read_as_systemd_reads_them(tmp_path: Path) -> None:
    put(tmp_path, "/usr/lib/systemd/logind.conf", "vendor")
    put(tmp_path, "/etc/systemd/logind.conf", "admin")
    put(tmp_path, "/usr/lib/systemd/logind.conf.d/50-a.conf", "vendor 50")
    put(tmp_path, "/usr/lib/systemd/logind.conf.d/10-b.conf", "vendor 10")
    put(tmp_path, "/etc/systemd/logind.conf.d/50-a.conf", "admin 50")
    put(tmp_path, "/run/systemd/logind.conf.d/20-c.conf", "run 20")
    put(tmp_path, "/etc/systemd/logind.conf.d/README", "no")
    found = list(looking.logind_files(str(tmp_path)))
    assert found == ["admin", "vendor 10", "run 20", "admin 50"]


def test_without_logind_nothing_is_said(tmp_path: Path) -> None:
    import os

    assert looking.warning(os.getpid(), str(tmp_path)) == ""


@pytest.mark.parametrize(("lingers", "usable"), [(True, True), (False, False)])
def test_what_doctor_says_of_logging_out(tmp_path: Path, lingers: bool, usable: bool) -> None:
    facts = HostFacts(uid=1000, gid=1000, user="ann", cgroup_rung="systemd")
    assert looking.outlook(facts, str(tmp_path)) == (
        True,
        "nothing ends what a session leaves running",
        "",
    )
    (tmp_path / "run/systemd/sessions").mkdir(parents=True)
    if lingers:
        put(tmp_path, f"/var/lib/systemd/linger/{looking.user_name()}", "")
    found, why, remedy = looking.outlook(facts, str(tmp_path))
    assert found == usable
    assert ("you linger" in why) == lingers
    assert ("enable-linger" in remedy) != lingers
