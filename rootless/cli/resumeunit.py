"""`system resume --install`: a unit of the user's systemd, else a line of crontab, else nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from rootless.config import paths
from rootless.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UNIT = "rootless-resume.service"
CRON_MARK = "# rootless system resume"


def main(env: Mapping[str, str], *, install: bool) -> int:
    """Install or take away what resumes containers at a boot, and say what it is."""
    sys.stdout.write(f"{_install(env) if install else _uninstall(env)}\n")
    return 0


def _install(env: Mapping[str, str]) -> str:
    if has_systemd():
        return _install_unit(env)
    if shutil.which("crontab", path=env.get("PATH")):
        return _cron(env, [f"@reboot {command(env)} system resume --quiet {CRON_MARK}"])
    return (
        "there is neither systemd nor crontab here: "
        "the first rootless command after a boot resumes containers"
    )


def _uninstall(env: Mapping[str, str]) -> str:
    """Take away both kinds: a home may be shared by machines with and without systemd."""
    said = [_remove_unit(env)]
    if shutil.which("crontab", path=env.get("PATH")):
        said.append(_cron(env, []))
    return "\n".join(filter(None, said)) or "nothing was installed"


def has_systemd(root: str = "/run/systemd/system") -> bool:
    """Whether systemd is the init of this system (sd_booted(3))."""
    return os.path.isdir(root)


def command(env: Mapping[str, str]) -> str:
    """The command `rootless` by its path; raises HostError."""
    found = shutil.which("rootless", path=env.get("PATH")) or shutil.which(
        os.path.abspath(sys.argv[0])
    )
    if not found:
        raise HostError("cannot find the command rootless in PATH", hint="run install.sh first")
    return os.path.abspath(found)


def unit_path(env: Mapping[str, str]) -> str:
    """Where the user's own units are."""
    base = env.get("XDG_CONFIG_HOME", "")
    if not base.startswith("/"):
        base = f"{env.get('HOME') or os.path.expanduser('~')}/.config"
    return f"{base}/systemd/user/{UNIT}"


def unit_text(env: Mapping[str, str]) -> str:
    """The packaged unit with this installation's command."""
    with open(f"{paths.conf_dir(env)}/systemd/user/{UNIT}", encoding="utf-8") as file:
        text = file.read()
    program = command(env).replace("\\", "\\\\").replace("%", "%%").replace('"', '\\"')
    return text.replace("ExecStart=rootless ", f'ExecStart="{program}" ')


def _install_unit(env: Mapping[str, str]) -> str:
    path = unit_path(env)
    link = f"{os.path.dirname(path)}/default.target.wants/{UNIT}"
    os.makedirs(os.path.dirname(link), 0o755, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(unit_text(env))
    os.rename(temporary, path)
    if not os.path.islink(link):
        os.symlink(f"../{UNIT}", link)
    _systemctl(env, "daemon-reload")
    return f"installed {path}" + _without_linger()


def _remove_unit(env: Mapping[str, str]) -> str:
    path = unit_path(env)
    gone = [_unlink(one) for one in (f"{os.path.dirname(path)}/default.target.wants/{UNIT}", path)]
    if not any(gone):
        return ""
    if has_systemd():
        _systemctl(env, "daemon-reload")
    return f"removed {path}"


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _systemctl(env: Mapping[str, str], word: str) -> None:
    """Tell a running manager; one that cannot be reached finds the files when it starts."""
    subprocess.run(
        ["systemctl", "--user", word],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )


def _without_linger() -> str:
    from rootless.engine import sessions

    if sessions.lingers():
        return ""
    return (
        "\nyour systemd starts at your first login only, unless you linger: "
        "loginctl enable-linger (an administrator may have to do it)"
    )


def _cron(env: Mapping[str, str], lines: Sequence[str]) -> str:
    """Put LINES in the place of ours in the user's crontab."""
    found = subprocess.run(
        ["crontab", "-l"], env=dict(env), capture_output=True, text=True, check=False
    )
    old = found.stdout.splitlines() if found.returncode == 0 else []
    new = [line for line in old if not line.endswith(CRON_MARK)] + list(lines)
    if new != old:
        done = subprocess.run(
            ["crontab", "-"],
            env=dict(env),
            input="".join(f"{line}\n" for line in new),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = done.stderr.strip().splitlines() or ["it failed"]
            raise HostError(f"cannot change the crontab: {reason[-1]}")
    if lines:
        return "installed a line in your crontab"
    return "removed a line from your crontab" if new != old else ""
