"""Where things live, and which directories are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.config import paths, settings
from rootless.config.paths import Paths
from rootless.errors import HostError

UID = os.getuid()


def load(env: dict[str, str], boot: str = "b" * 36) -> Paths:
    return Paths.load(settings.load(env, UID), env, UID, boot)


def mode(path: str) -> int:
    return os.stat(path).st_mode & 0o777


def test_the_defaults_follow_the_base_directory_specification(isolation: Path) -> None:
    home = str(isolation / "home")
    found = load({"HOME": home, "XDG_RUNTIME_DIR": str(isolation / "run")})
    assert found.data_root == f"{home}/.local/share/rootless"
    assert found.runtime_root.startswith(f"{isolation}/run/rootless/")
    assert mode(found.data_root) == mode(found.runtime_root) == 0o700
    assert found.containers == f"{found.data_root}/containers"
    assert found.realms == f"{found.runtime_root}/realm"
    moved = load(
        {"HOME": home, "XDG_DATA_HOME": f"{home}/d", "XDG_RUNTIME_DIR": f"{isolation}/run"}
    )
    assert moved.data_root == f"{home}/d/rootless"


def test_another_boot_or_host_has_another_runtime_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = paths.boot_key("one")
    assert here != paths.boot_key("two")
    assert len(here) == 12
    assert set(here) <= set("0123456789abcdef")
    names = list(os.uname())
    monkeypatch.setattr(os, "uname", lambda: os.uname_result([names[0], "node7", *names[2:]]))
    assert paths.boot_key("one") != here


@pytest.mark.parametrize("case", ["unset", "missing", "file", "shared", "relative"])
def test_an_unusable_runtime_directory_means_the_fallback(tmp_path: Path, case: str) -> None:
    directory = tmp_path / "run"
    env = {"XDG_RUNTIME_DIR": str(directory)}
    if case == "unset":
        env = {}
    elif case == "file":
        directory.write_text("")
    elif case == "shared":
        directory.mkdir()
        directory.chmod(0o755)
    elif case == "relative":
        env = {"XDG_RUNTIME_DIR": "run"}
    assert paths.runtime_base(env, UID) == f"/tmp/rootless-{UID}"


def test_somebody_elses_runtime_directory_means_the_fallback() -> None:
    assert paths.runtime_base({"XDG_RUNTIME_DIR": "/"}, UID + 1) == f"/tmp/rootless-{UID + 1}"


def test_a_link_in_place_of_the_runtime_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "link", tmp_path / "link" / "key"):
        with pytest.raises(HostError, match="link: it is not a directory that only you can write"):
            paths.private(str(path), UID)
    assert list((tmp_path / "elsewhere").iterdir()) in ([], [tmp_path / "elsewhere" / "key"])


def test_a_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o770)
    with pytest.raises(HostError, match="cannot use the runtime directory"):
        paths.private(str(shared / "key"), UID)


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    with pytest.raises(HostError, match="only you can write") as caught:
        paths.private(str(tmp_path / "theirs" / "key"), UID + 1)
    assert "XDG_RUNTIME_DIR" in caught.value.hint


def test_a_directory_that_others_can_only_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    paths.private(str(tmp_path / "open" / "key"), UID)
    assert mode(str(tmp_path / "open")) == mode(str(tmp_path / "open" / "key")) == 0o700


@pytest.mark.requires("ordinary-user")
def test_a_data_directory_that_cannot_be_made_is_one_sentence(isolation: Path) -> None:
    closed = isolation / "closed"
    closed.mkdir(mode=0o500)
    env = {"XDG_RUNTIME_DIR": str(isolation / "run"), "ROOTLESS_STORAGE_ROOT": f"{closed}/data"}
    with pytest.raises(HostError, match=f"cannot make {closed}/data: permission denied") as caught:
        load(env)
    assert "ROOTLESS_STORAGE_ROOT" in caught.value.hint


def test_without_home_the_passwd_entry_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    assert paths.default_data_root({}, UID) == f"{pwd.getpwuid(UID).pw_dir}/.local/share/rootless"
    with pytest.raises(HostError, match="cannot find a home directory"):
        paths.default_data_root({}, 4_000_000_000)


def test_helper_programs_and_configuration_can_be_placed(isolation: Path) -> None:
    base = {"HOME": str(isolation / "home"), "XDG_RUNTIME_DIR": str(isolation / "run")}
    assert load(base).libexec.endswith("/rootless/libexec")
    assert load({**base, "ROOTLESS_LIBEXEC": "/a"}).libexec == "/a"
    assert (
        load({**base, "ROOTLESS_LIBEXEC": "/a", "ROOTLESS_HELPERS_LIBEXEC": "/b"}).libexec == "/b"
    )
    assert load({**base, "ROOTLESS_CONF": "/c"}).conf == "/c"
    assert os.path.exists(f"{load(base).conf}/seccomp.json")
