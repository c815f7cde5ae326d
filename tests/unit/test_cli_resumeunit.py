"""What `system resume --install` puts into place, with stand-ins for systemctl and crontab."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.cli import resumeunit

CRONTAB = """#!/bin/sh
case $1 in
-l) [ -e "$STORE" ] && cat "$STORE" || { echo "no crontab for you" >&2; exit 1; } ;;
-) [ ! -e "$STORE.denied" ] || { echo "you are not allowed" >&2; exit 1; }; cat >"$STORE" ;;
esac
"""


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    tools = tmp_path / "bin with space"
    tools.mkdir()
    for name, text in (
        ("rootless", "#!/bin/sh\n"),
        ("systemctl", f'#!/bin/sh\necho "$@" >>{tmp_path}/systemctl.log\n'),
        ("crontab", CRONTAB),
    ):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    path = f"{tools}:/usr/bin:/bin"
    monkeypatch.setenv("PATH", path)
    return {"HOME": str(tmp_path / "home"), "PATH": path, "STORE": str(tmp_path / "crontab")}


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumeunit, "has_systemd", lambda: True)
    monkeypatch.setattr("rootless.engine.sessions.lingers", lambda: False)


@pytest.fixture
def cron(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumeunit, "has_systemd", lambda: False)


def test_a_unit_of_systemd(
    env: dict[str, str], systemd: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # again is fine
        assert resumeunit.main(env, install=True) == 0
    unit = tmp_path / "home/.config/systemd/user/rootless-resume.service"
    text = unit.read_text()
    assert f'ExecStart="{tmp_path}/bin with space/rootless" system resume\n' in text
    assert "ExecStop" not in text  # a shutdown is no stop by hand
    assert "KillMode=process" in text
    link = unit.parent / "default.target.wants/rootless-resume.service"
    assert link.resolve() == unit
    assert (tmp_path / "systemctl.log").read_text() == "--user daemon-reload\n" * 2
    out = capsys.readouterr().out
    assert str(unit) in out and "enable-linger" in out
    assert resumeunit.main(env, install=False) == 0
    assert not unit.exists() and not os.path.lexists(link)
    assert "removed" in capsys.readouterr().out
    assert resumeunit.main(env, install=False) == 0
    assert capsys.readouterr().out == "nothing was installed\n"


def test_a_line_of_crontab(env: dict[str, str], cron: None, tmp_path: Path) -> None:
    store = tmp_path / "crontab"
    store.write_text("0 1 * * * backup\n")
    for _ in range(2):
        assert resumeunit.main(env, install=True) == 0
    lines = store.read_text().splitlines()
    assert lines[0] == "0 1 * * * backup"
    assert len(lines) == 2 and lines[1].startswith("@reboot ")
    assert "/rootless system resume --quiet #" in lines[1]
    assert resumeunit.main(env, install=False) == 0
    assert store.read_text() == "0 1 * * * backup\n"


def test_a_first_crontab_and_one_that_is_denied(
    env: dict[str, str], cron: None, tmp_path: Path
) -> None:
    from rootless.errors import HostError

    assert resumeunit.main(env, install=True) == 0
    assert (tmp_path / "crontab").read_text().count("\n") == 1
    (tmp_path / "crontab.denied").touch()
    with pytest.raises(HostError, match="cannot change the crontab: you are not allowed"):
        resumeunit.main(env, install=False)


def test_neither(
    env: dict[str, str], cron: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.unlink(tmp_path / "bin with space/crontab")
    env["PATH"] = str(tmp_path / "bin with space")
    assert resumeunit.main(env, install=True) == 0
    assert "first rootless command after a boot" in capsys.readouterr().out


def test_without_a_command_to_call(
    env: dict[str, str], systemd: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rootless.errors import HostError

    os.unlink(tmp_path / "bin with space/rootless")
    env["PATH"] = str(tmp_path / "bin with space")
    monkeypatch.setattr("sys.argv", ["/nowhere/rootless"])
    with pytest.raises(HostError, match="cannot find the command rootless"):
        resumeunit.main(env, install=True)
