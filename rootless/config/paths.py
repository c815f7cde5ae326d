"""Where things live on disk: data that stays, state of this boot, the installed programs.

The runtime directory is keyed by boot and host, so that what an earlier boot or another node left behind
is never believed.  A directory that others could have made is refused, not repaired.
"""

from __future__ import annotations

import os
import stat

from rootless.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .settings import Settings

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Paths:
    """Directories as text; see docs/architecture.md for what is in them.

    data_root   what is precious: images, volumes
    local_root  what belongs to this machine: unpacked layers and containers; the same but where
                storage.root is on a filesystem that machines share (placement.py)
    moved       why local_root is another, said by the command that first found so; else ""
    """

    __slots__ = (
        "cache",
        "conf",
        "containers",
        "data_root",
        "events",
        "images",
        "layers",
        "libexec",
        "local_root",
        "moved",
        "names",
        "networks",
        "realms",
        "run_containers",
        "runtime_root",
        "trash",
        "volumes",
    )

    def __init__(
        self, data_root: str, runtime_root: str, libexec: str, conf: str, local_root: str = ""
    ) -> None:
        local_root = local_root or data_root
        self.data_root = data_root
        self.local_root = local_root
        self.moved = ""
        self.images = f"{data_root}/images"
        self.volumes = f"{data_root}/volumes"
        self.layers = f"{local_root}/layers"
        self.containers = f"{local_root}/containers"
        self.names = f"{local_root}/names"
        self.networks = f"{local_root}/networks"
        self.trash = f"{local_root}/trash"
        self.events = f"{local_root}/events"
        self.cache = f"{data_root}/cache"
        self.runtime_root = runtime_root
        self.run_containers = f"{runtime_root}/c"
        self.realms = f"{runtime_root}/realm"
        self.libexec = libexec
        self.conf = conf

    @classmethod
    def load(cls, settings: Settings, env: Mapping[str, str], uid: int, boot_id: str) -> Paths:
        """The paths of user UID, the two roots made where missing; raises HostError."""
        data = str(settings.get("storage.root")) or default_data_root(env, uid)
        runtime = str(settings.get("storage.runtime_dir")) or runtime_base(env, uid)
        runtime_root = f"{os.path.abspath(runtime)}/{boot_key(boot_id)}"
        private(runtime_root, uid)
        try:
            os.makedirs(data, 0o700, exist_ok=True)
        except OSError as error:
            raise HostError(
                f"cannot make {data}: {os.strerror(error.errno or 0).lower()}",
                hint="set storage.root (or ROOTLESS_STORAGE_ROOT) to a directory you can write",
            ) from None
        libexec = str(settings.get("helpers.libexec")) or env.get("ROOTLESS_LIBEXEC", "")
        data = os.path.abspath(data)
        local, moved = _placed(data, runtime_root, str(settings.get("storage.local")), uid)
        paths = cls(data, runtime_root, libexec or f"{_PACKAGE}/libexec", conf_dir(env), local)
        paths.moved = moved
        return paths


def _placed(data_root: str, runtime_root: str, wanted: str, uid: int) -> tuple[str, str]:
    """(local root, why it is another the first time that is found) for a data root.

    The answer is kept for as long as the data root is on the same device and nobody asks for another
    place.
    """
    cache = f"{runtime_root}/placement"
    key = f"{os.stat(data_root).st_dev} {wanted} {data_root}\n"
    try:
        fd = os.open(cache, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head, _, local = os.read(fd, 65536).decode("utf-8", "surrogateescape").partition("\n")
        finally:
            os.close(fd)
        if f"{head}\n" == key and (local == data_root or os.path.isdir(local)):
            return local, ""
    except OSError:
        pass
    from . import placement

    local, moved = placement.find(data_root, wanted, uid)
    temporary = f"{cache}.{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(key + local)
        os.rename(temporary, cache)
    except OSError:
        pass
    return local, moved


def conf_dir(env: Mapping[str, str]) -> str:
    """Directory of the packaged configuration files."""
    chosen = env.get("ROOTLESS_CONF", "")
    if chosen:
        return chosen
    packaged = f"{_PACKAGE}/conf"
    return packaged if os.path.isdir(packaged) else f"{os.path.dirname(_PACKAGE)}/conf"


def default_data_root(env: Mapping[str, str], uid: int) -> str:
    """$XDG_DATA_HOME/rootless, else ~/.local/share/rootless."""
    base = env.get("XDG_DATA_HOME", "")
    if base.startswith("/"):
        return f"{base}/rootless"
    home = env.get("HOME", "")
    if not home.startswith("/"):
        import pwd

        try:
            home = pwd.getpwuid(uid).pw_dir
        except KeyError:
            raise HostError(
                f"cannot find a home directory: HOME is not set and uid {uid} has no passwd entry",
                hint="set HOME or ROOTLESS_STORAGE_ROOT",
            ) from None
    return f"{home}/.local/share/rootless"


def boot_key(boot_id: str) -> str:
    """Twelve hex digits that name this boot of this host (FNV-1a; a file name, not a secret)."""
    value = 0xCBF29CE484222325
    for byte in (boot_id + os.uname().nodename).encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"[:12]


def runtime_base(env: Mapping[str, str], uid: int) -> str:
    """$XDG_RUNTIME_DIR/rootless where that directory is ours and private, else /tmp/rootless-UID.

    A login to another host, sudo and su leave a variable behind that names somebody else's directory, or
    one that is not there.
    """
    base = env.get("XDG_RUNTIME_DIR", "")
    if base.startswith("/") and _usable(base, uid):
        return f"{base}/rootless"
    return f"/tmp/rootless-{uid}"


def _usable(path: str, uid: int) -> bool:
    try:
        info = os.stat(path)
    except OSError:
        return False
    private = info.st_uid == uid and not info.st_mode & 0o077
    return stat.S_ISDIR(info.st_mode) and private and os.access(path, os.W_OK)


def private(path: str, uid: int) -> None:
    """Make PATH with its parent, and refuse either where it is not a directory of ours alone.

    Raises HostError.  What others could write before is refused, what they could only read is closed.
    """
    for directory in (os.path.dirname(path), path):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            pass
        except OSError as error:
            _make_parents(directory, error)
        info = os.lstat(directory)
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != uid or info.st_mode & 0o022:
            raise HostError(
                f"cannot use the runtime directory {directory}: "
                "it is not a directory that only you can write",
                hint=f"remove {directory}, or set XDG_RUNTIME_DIR to a directory of yours",
            )
        if info.st_mode & 0o055:
            os.chmod(directory, 0o700)


def _make_parents(directory: str, error: OSError) -> None:
    reason = error
    if isinstance(error, FileNotFoundError):
        try:
            os.makedirs(directory, 0o700, exist_ok=True)
            return
        except OSError as second:
            reason = second
    raise HostError(
        f"cannot make the runtime directory {directory}: {os.strerror(reason.errno or 0).lower()}",
        hint="set XDG_RUNTIME_DIR to a directory of yours with mode 0700",
    ) from None
