"""Where layers and containers go when storage.root is shared between machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.config import placement
from rootless.errors import HostError, UsageError
from rootless.linux import filesystems

UID = os.getuid()


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data root that is said to lie on NFS, beside a local disk."""
    root = tmp_path / "share"
    root.mkdir()
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(
        filesystems, "kind", lambda path: "nfs4" if path.startswith(str(root)) else "ext4"
    )
    monkeypatch.setattr(
        placement, "CANDIDATES", (f"{root}", f"{tmp_path}/none", f"{tmp_path}/disk")
    )
    return str(root)


def test_a_local_disk_keeps_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems, "kind", lambda path: "xfs")
    assert placement.find(str(tmp_path), "auto", UID) == (str(tmp_path), "")


def test_a_share_keeps_what_is_precious(shared: str, tmp_path: Path) -> None:
    local, why = placement.find(shared, "auto", UID)
    assert local.startswith(f"{tmp_path}/disk/rootless-{UID}/")
    assert why == f"{shared} is on nfs4: layers and containers are kept in {local}"
    assert os.stat(local).st_mode & 0o777 == 0o700
    assert placement.find(shared, "auto", UID) == (local, ""), "and is found again, said once"
    assert os.readlink(f"{shared}/.local-{os.uname().nodename}") == local


def test_a_place_that_went_is_made_again(shared: str) -> None:
    local, _ = placement.find(shared, "auto", UID)
    os.rmdir(local)
    again, why = placement.find(shared, "auto", UID)
    assert again == local
    assert why


def test_what_others_can_write_is_refused(shared: str, tmp_path: Path) -> None:
    place = tmp_path / "disk" / f"rootless-{UID}"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    with pytest.raises(HostError, match="it is not a directory that only you can write"):
        placement.find(shared, "auto", UID)


def test_chosen_by_hand(shared: str, tmp_path: Path) -> None:
    assert placement.find(shared, "none", UID) == (shared, "")
    assert placement.find(shared, f"{tmp_path}/mine", UID)[0].startswith(f"{tmp_path}/mine/")
    with pytest.raises(UsageError, match="it is not auto, none or an absolute path"):
        placement.find(shared, "mine", UID)
    with pytest.raises(HostError, match="cannot make /proc/mine"):
        placement.find(shared, "/proc/mine", UID)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/proc/self", "proc"), ("/proc/none/deeper", "proc"), ("/dev/pts", "devpts")],
)
def test_kinds_of_filesystems(path: str, kind: str) -> None:
    assert filesystems.kind(path) == kind
    assert not filesystems.is_network(kind)
    assert filesystems.is_network("lustre")
