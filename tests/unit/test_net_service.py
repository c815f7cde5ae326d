"""The network service's end: nobody who has come to it is left waiting, and nobody comes to one that leaves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rootless.drivers.network.netd.server import Service


@pytest.mark.parametrize("waiting", [True, False])
def test_a_service_that_leaves_looks_for_clients_when_none_can_come(
    tmp_path: Path, waiting: bool
) -> None:
    path = tmp_path / "net" / "sock"
    path.parent.mkdir()
    path.touch()
    swept: list[bool] = []

    def pending() -> bool:
        assert swept == [True], "bridges are removed before, which takes a while"
        assert not path.exists()
        return waiting

    service: Any = Service.__new__(Service)
    service.options = {"socket": str(path)}
    service.control = SimpleNamespace(pending=pending)
    service.bridges = SimpleNamespace(sweep=lambda: swept.append(path.exists()))
    assert service._retire() is not waiting
    assert path.exists() == waiting
    assert sorted(one.name for one in path.parent.iterdir()) == (
        ["lock", "sock"] if waiting else ["lock"]
    )


def test_a_service_whose_directory_is_gone_leaves(tmp_path: Path) -> None:
    service: Any = Service.__new__(Service)
    service.options = {"socket": str(tmp_path / "gone" / "sock")}
    assert service._retire() is True
