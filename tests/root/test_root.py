"""What only root can try on this machine: install for everybody, and run without being root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "",
    "LANG": "C.UTF-8",
}


def run(*words: str, home: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command as root with HOME in HOME."""
    done = subprocess.run(
        words, env={**ENV, "HOME": home}, capture_output=True, text=True, check=False, cwd=TOP
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def rootless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(command, home) of an installation made by root with the defaults."""
    assert os.getuid() == 0
    home = str(tmp_path_factory.mktemp("home"))
    run("./install.sh", "--no-doctor", home=home)
    command = f"{home}/.local/bin/rootless"
    yield command, home
    run(command, "rm", "-f", "root-sleeper", home=home, check=False)
    run("./install.sh", "--uninstall", home=home)
    assert not os.path.lexists(command)
    assert not os.path.exists("/usr/local/lib/rootless")


def test_the_readme_command_works_for_root(rootless: tuple[str, str]) -> None:
    command, home = rootless
    done = run(command, "run", "--rm", "hello", home=home)
    assert "nobody was root" in done.stdout
    assert "filter loaded" in done.stdout


def test_no_process_of_a_container_is_real_root(rootless: tuple[str, str]) -> None:
    command, home = rootless
    layout = os.path.join(home, "image")
    os.chmod(home, 0o755)
    subprocess.run(
        ["python3", "tests/images/busybox.py", layout], cwd=TOP, check=True, capture_output=True
    )
    run("chmod", "-R", "a+rX", layout, home=home)
    for parent in (os.path.dirname(home), os.path.dirname(os.path.dirname(home))):
        os.chmod(parent, 0o755)
    run(command, "load", "-i", layout, home=home)
    run(command, "run", "-d", "--name", "root-sleeper", "busybox", "sleep", "300", home=home)
    pid = run(command, "inspect", "-f", "{{.State.Pid}}", "root-sleeper", home=home).stdout.strip()
    parent = _field(pid, "PPid")
    for one in (pid, parent):
        uids = _field(one, "Uid").split()
        assert "0" not in uids, f"process {one} has uids {uids}"
    with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
        outside = [int(line.split()[1]) for line in file]
    assert 0 not in outside
    run(command, "rm", "-f", "root-sleeper", home=home)


def _field(pid: str, name: str) -> str:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return line.partition(":")[2].strip()
    raise AssertionError(name)


def test_a_full_disk_is_told_and_survived(rootless: tuple[str, str]) -> None:
    command, home = rootless
    disk = os.path.join(home, "disk")
    layout = os.path.join(home, "small-image")
    os.mkdir(disk)
    run("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk, home=home)
    try:
        store = os.path.join(disk, "store")
        os.mkdir(store)
        shutil.chown(store, "rootless", "rootless")
        run("python3", "tests/images/busybox.py", layout, home=home)
        run("chmod", "-R", "a+rX", layout, home=home)
        words = [command, "--root", store]
        run(*words, "load", "-i", layout, home=home)
        fill = "dd if=/dev/zero of=/a bs=1M count=9; dd if=/dev/zero of=/b bs=1k count=9000; exit 5"
        done = run(
            *words, "run", "--name", "full", "busybox", "sh", "-c", fill, home=home, check=False
        )
        assert done.returncode == 5
        state = run(
            *words, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "full", home=home
        )
        assert state.stdout.strip() == "exited 5"
        subprocess.run(
            ["dd", "if=/dev/zero", f"of={disk}/rest", "bs=4k"], capture_output=True, check=False
        )
        done = run(*words, "create", "busybox", "true", home=home, check=False)
        assert done.returncode in (1, 125)
        assert "ENOSPC (no space left on device)" in done.stderr
        run(*words, "rm", "full", home=home)
        os.unlink(f"{disk}/rest")
        assert run(*words, "ps", "-aq", home=home).stdout == ""
        assert run(*words, "run", "--rm", "busybox", "echo", "again", home=home).stdout == "again\n"
    finally:
        run("umount", "-l", disk, home=home)
