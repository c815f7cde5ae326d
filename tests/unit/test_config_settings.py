"""Settings: which source wins, what is refused, and when TOML is parsed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from rootless.config import defaults, settings, toml
from rootless.errors import UsageError

UID = os.getuid()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def world(isolation: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(settings, "SYSTEM_FILE", str(isolation / "system.toml"))
    return {"HOME": str(isolation / "home"), "XDG_RUNTIME_DIR": str(isolation / "run")}


def system(text: str) -> None:
    Path(settings.SYSTEM_FILE).write_text(text)


def user(world: dict[str, str], text: str) -> str:
    path = Path(settings.user_file(world))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_the_documented_file_is_the_table() -> None:
    assert toml.flat(str(ROOT / "conf" / "rootless.toml")) == defaults.DEFAULTS


def test_every_documented_setting_is_explained() -> None:
    text = (ROOT / "conf" / "rootless.toml").read_text()
    for line in text.splitlines():
        if "=" in line and not line.startswith("#") and "detach_keys" not in line:
            assert "#" in line, f"conf/rootless.toml: no comment on {line!r}"


def test_defaults_know_that_they_are(world: dict[str, str]) -> None:
    found = settings.load(world, UID)
    assert found.get("storage.driver") == "auto"
    assert found.origin("storage.driver") == "default"
    assert {key for key, _, _ in found.items()} == set(defaults.DEFAULTS)
    with pytest.raises(KeyError):
        found.get("storage.colour")


def test_system_then_user_then_environment(world: dict[str, str]) -> None:
    system('[run]\nstop_timeout = 1\nlog_max_file = 5\n[network]\ndefault = "none"\n')
    path = user(world, "[run]\nstop_timeout = 2\nlog_max_file = 6\n")
    found = settings.load({**world, "ROOTLESS_RUN_STOP_TIMEOUT": "3"}, UID)
    assert found.get("run.stop_timeout") == 3
    assert found.origin("run.stop_timeout") == "$ROOTLESS_RUN_STOP_TIMEOUT"
    assert (found.get("run.log_max_file"), found.origin("run.log_max_file")) == (6, path)
    where = found.origin("network.default")
    assert (found.get("network.default"), where) == ("none", settings.SYSTEM_FILE)


def test_the_user_file_follows_xdg(world: dict[str, str]) -> None:
    assert settings.user_file(world) == f"{world['HOME']}/.config/rootless/rootless.toml"
    moved = settings.user_file({**world, "XDG_CONFIG_HOME": "/etc/mine"})
    assert moved == "/etc/mine/rootless/rootless.toml"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[storage]\ncolour = 1\n", "unknown setting 'storage.colour'"),
        ("colour = 1\n", "unknown setting 'colour'"),
        ("[storage]\ndriver = 1\n", "storage.driver must be a string, not 1"),
        ('[run]\nstop_timeout = "3"\n', "run.stop_timeout must be a number, not '3'"),
        ("[run]\nstop_timeout = true\n", "run.stop_timeout must be a number, not True"),
        ('[network]\nipv6 = "auto"\n', "network.ipv6 must be yes or no, not 'auto'"),
        ('[network]\nmetadata = "some"\n', "network.metadata must be deny or allow, not 'some'"),
        ("[pull]\nparallel = 0\n", "pull.parallel must be at least 1, not 0"),
        ('[registry]\ninsecure = "a"\n', "registry.insecure must be a list of strings, not 'a'"),
        ("[registry]\ninsecure = [1]\n", "registry.insecure must be a list of strings"),
        ("[run]\nlog_driver = 2024-01-01\n", "run.log_driver must be a string, not datetime.date"),
        ("[run\n", "line 1"),
        ("[run]\nnetwork = '\xff'\n", "utf-8"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(world: dict[str, str], text: str, reason: str) -> None:
    path = user(world, "")
    Path(path).write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        settings.load(world, UID)
    assert str(caught.value).startswith(f"cannot use {path}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_near_miss_is_suggested(world: dict[str, str]) -> None:
    user(world, '[storage]\ndrivr = "overlay"\n')
    with pytest.raises(UsageError) as caught:
        settings.load(world, UID)
    assert caught.value.hint == "did you mean storage.driver?"


def test_what_is_wrong_in_the_environment_is_named(world: dict[str, str]) -> None:
    for text in ("three", "\N{SUPERSCRIPT TWO}", ""):
        env = {**world, "ROOTLESS_PULL_PARALLEL": text}
        if not text:
            assert settings.load(env, UID).get("pull.parallel") == 3
            continue
        with pytest.raises(UsageError, match=r"cannot use \$ROOTLESS_PULL_PARALLEL: .* a number"):
            settings.load(env, UID)


def test_a_list_in_the_environment_is_split_at_commas(world: dict[str, str]) -> None:
    found = settings.load({**world, "ROOTLESS_REGISTRY_INSECURE": "a:5000,b"}, UID)
    assert found.get("registry.insecure") == ["a:5000", "b"]


@pytest.mark.requires("ordinary-user")
def test_a_file_that_cannot_be_read_is_an_error(world: dict[str, str]) -> None:
    path = user(world, "[run]\n")
    os.chmod(path, 0)
    with pytest.raises(UsageError, match=f"cannot read {path}: Permission denied"):
        settings.load(world, UID)


def unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise AssertionError(f"parsed {path} again")

    monkeypatch.setattr(toml, "flat", refuse)


def test_toml_is_parsed_once(world: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    user(world, "[run]\nstop_timeout = 4\n")
    assert settings.load(world, UID).get("run.stop_timeout") == 4
    unparsed(monkeypatch)
    assert settings.load(world, UID).get("run.stop_timeout") == 4


def test_a_changed_file_is_parsed_again(world: dict[str, str]) -> None:
    path = user(world, "[run]\nstop_timeout = 4\n")
    settings.load(world, UID)
    Path(path).write_text("[run]\nstop_timeout = 5\n")
    os.utime(path, ns=(1, 1))
    assert settings.load(world, UID).get("run.stop_timeout") == 5
    os.unlink(path)
    assert settings.load(world, UID).get("run.stop_timeout") == 10


def cache_of(world: dict[str, str]) -> Path:
    return Path(world["XDG_RUNTIME_DIR"], "rootless", "settings-user.json")


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"stamp": 1}', "\udcff"])
def test_a_damaged_cache_is_replaced(world: dict[str, str], damage: str) -> None:
    user(world, "[run]\nstop_timeout = 4\n")
    settings.load(world, UID)
    cache_of(world).write_bytes(damage.encode("utf-8", "surrogateescape"))
    assert settings.load(world, UID).get("run.stop_timeout") == 4
    assert b'"stamp"' in cache_of(world).read_bytes()


def test_only_a_cache_of_our_own_is_believed(world: dict[str, str]) -> None:
    """Below /tmp another user can make the directory first, and could name helpers of his own."""
    user(world, "[run]\nstop_timeout = 4\n")
    settings.load(world, UID)
    cache = cache_of(world)
    planted = cache.read_text().replace("4", "99")
    for mode in (0o666, 0o620):
        cache.write_text(planted)
        cache.chmod(mode)
        assert settings.load(world, UID).get("run.stop_timeout") == 4
    cache.unlink()
    elsewhere = cache.with_name("elsewhere")
    elsewhere.write_text(planted)
    cache.symlink_to(elsewhere)
    assert settings.load(world, UID).get("run.stop_timeout") == 4


def test_no_cache_where_there_is_no_runtime_directory(
    world: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    user(world, "[run]\nstop_timeout = 4\n")
    blocked = Path(world["XDG_RUNTIME_DIR"], "rootless")
    blocked.write_text("in the way")
    assert settings.load(world, UID).get("run.stop_timeout") == 4
    assert blocked.read_text() == "in the way"


def test_tomli_stands_in_for_tomllib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib

    monkeypatch.setitem(sys.modules, "tomli", toml.tomllib)
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    try:
        importlib.reload(toml)
        (tmp_path / "a.toml").write_text("[a]\nb = 1\n")
        assert toml.flat(str(tmp_path / "a.toml")) == {"a.b": 1}
    finally:
        monkeypatch.undo()
        importlib.reload(toml)
