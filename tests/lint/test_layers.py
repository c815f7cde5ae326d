"""Imports only go down, planning is pure, and third parties stay where they were let in."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from checkout import ROOT, imports, module_of, name_of, package, tree

import rootless

LEVEL = {name: level for level, names in enumerate(rootless.LAYERS) for name in names}
FACADES = ("cli", "api", "__main__")

# What the pure packages may use beside each other: nothing that reaches the machine.
PURE = {
    *("__future__", "typing", "collections", "struct", "hashlib", "_sha256", "_sha2", "math", "re"),
}

# Third parties, each confined to the places that adapt it.
CONFINED: dict[str, tuple[str, ...]] = {
    "click": ("cli",),
    "rich": ("cli",),
    "pyroute2": ("drivers/network", "engine/doctor.py"),
    "mfusepy": ("drivers/snapshot",),
    "fuse": ("drivers/snapshot",),
    "tomli": ("config",),
    "tomllib": ("config",),
    "prctl": ("linux",),
    "urllib3": ("registry",),
    "h11": ("api",),
    "jeepney": (),  # the oracle of linux/dbus.py
    "isal": ("store",),
    "zstandard": ("store", "engine/archive.py"),
    "backports": ("store",),
    "yaml": ("cli", "engine"),
    "cryptography": ("registry",),
}
# The union filesystem is a program of its own around libfuse, which is called through ctypes.
CTYPES = ("rootless/linux/", "rootless/drivers/snapshot/unionfs/")


def problems(found: list[str]) -> None:
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def part(module: str) -> str:
    """The package of a module: rootless.store.blobs is in store."""
    words = module.split(".")
    return words[1] if len(words) > 1 else ""


def test_every_package_has_its_layer() -> None:
    here = {part(module_of(path)) for path in package()} - {""}
    assert here <= set(LEVEL), f"rootless/__init__.py does not place {sorted(here - set(LEVEL))}"


def upward(path: Path) -> list[str]:
    mine = part(module_of(path))
    found = []
    for line, name in imports(path):
        if not name.startswith("rootless.") or not mine:
            continue
        theirs = part(name)
        if theirs == mine or theirs not in LEVEL:
            continue
        sideways = LEVEL[theirs] == LEVEL[mine] and LEVEL[mine] > 0 and mine != "__main__"
        if LEVEL[theirs] > LEVEL[mine] or sideways:
            way = "sideways" if sideways else "up"
            found.append(f"{name_of(path)}:{line}: {mine} imports {theirs}, which is {way}")
    return found


def test_imports_only_go_down() -> None:
    problems([problem for path in package() for problem in upward(path)])


def test_the_check_sees_an_upward_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "rootless" / "plan" / "wrong.py"
    wrong.parent.mkdir(parents=True)
    wrong.write_text(
        "def f():\n    from ..engine import context\n    import rootless.store.blobs\n"
    )
    monkeypatch.setattr("checkout.ROOT", tmp_path)
    assert [problem.partition(": ")[2] for problem in upward(wrong)] == [
        "plan imports engine, which is up",
        "plan imports store, which is up",
    ]


def test_only_the_fronts_see_the_engine() -> None:
    problems(
        [
            f"{name_of(path)}:{line}: only {', '.join(FACADES)} may import {name}"
            for path in package()
            for line, name in imports(path)
            if name.startswith("rootless.engine")
            and part(module_of(path)) not in ("engine", *FACADES)
        ]
    )


def outside(name: str) -> bool:
    return not name.startswith("rootless.") and name.split(".")[0] not in PURE


@pytest.mark.parametrize("name", ["plan", "oci"])
def test_planning_is_pure(name: str) -> None:
    allowed = ("os.path",)
    problems(
        [
            f"{name_of(path)}:{line}: {name}/ is pure and may not import {module}"
            for path in package()
            if part(module_of(path)) == name
            for line, module in imports(path)
            if outside(module) and not module.startswith(allowed)
        ]
    )


def test_third_parties_stay_where_they_are_adapted() -> None:
    found = []
    for path in package():
        for line, name in imports(path):
            places = CONFINED.get(name.split(".")[0])
            where = name_of(path)
            if places is not None and not any(where.startswith(f"rootless/{p}") for p in places):
                found.append(f"{where}:{line}: {name} belongs in {', '.join(places)} only")
    problems(found)


def test_every_dependency_is_confined() -> None:
    wanted = set()
    section = (ROOT / "pyproject.toml").read_text().partition("dependencies = [")[2]
    for line in section.partition("]\n")[0].splitlines():
        word = line.strip(' ",').split(";")[0]
        for mark in "<>=!~ ":
            word = word.split(mark)[0]
        wanted.add(word.lower())
    assert wanted - {""} <= set(CONFINED)


def test_ctypes_is_the_business_of_linux() -> None:
    problems(
        [
            f"{name_of(path)}:{line}: ctypes belongs in {' and '.join(CTYPES)}"
            for path in package()
            for line, name in imports(path)
            if name.split(".")[0] == "ctypes" and not name_of(path).startswith(CTYPES)
        ]
    )


# Programs of their own: main() of these ends a process that has nothing else to do.
PROGRAMS = (
    "rootless/linux/probe_network_worker.py",
    "rootless/store/unpack_worker.py",
    "rootless/store/remap_worker.py",
    "rootless/store/worker.py",
    "rootless/builder/worker.py",
    "rootless/store/fsworker.py",
    "rootless/store/volumeworker.py",
    "rootless/engine/aftermath.py",
    "rootless/drivers/log/packer.py",
    "rootless/drivers/snapshot/copy_worker.py",
    "rootless/drivers/snapshot/unionfs/server.py",
    "rootless/drivers/network/netd/server.py",
    "rootless/__main__.py",
)


SPEECH = {"print", "exit", "sys.exit", "os._exit", "sys.stdout.write", "sys.stderr.write"}


def speaks(node: ast.Call) -> str:
    text = ast.unparse(node.func)
    return text if text in SPEECH else ""


def test_nobody_prints_or_exits_below_the_fronts() -> None:
    problems(
        [
            f"{name_of(path)}:{node.lineno}: {speaks(node)} belongs in the fronts"
            for path in package()
            if part(module_of(path)) not in FACADES and name_of(path) not in PROGRAMS
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and speaks(node)
        ]
    )
