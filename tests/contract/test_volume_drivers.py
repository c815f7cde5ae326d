"""What every volume driver must do; each entry of the registry goes through it."""

from __future__ import annotations

import pytest

from rootless.drivers import volume as drivers
from rootless.drivers.volume.base import VolumeDriver
from rootless.drivers.volume.local import LocalDriver
from rootless.errors import HostError, NotFoundError, RootlessError, UsageError
from rootless.plan import mounts

DATA = "/store/volumes/name/_data"


@pytest.fixture(params=sorted(drivers.REGISTRY))
def driver(request: pytest.FixtureRequest) -> VolumeDriver:
    return drivers.driver(request.param)


def test_it_answers_to_its_name(driver: VolumeDriver) -> None:
    assert drivers.REGISTRY[driver.name][1] == type(driver).__name__


def test_without_options_it_is_a_directory_of_its_own(driver: VolumeDriver) -> None:
    driver.check({})
    backing = driver.backing({}, DATA)
    assert (backing.type, backing.source, backing.options) == ("bind", DATA, [])
    assert driver.owns_content({})


def test_an_unknown_option_is_refused(driver: VolumeDriver) -> None:
    with pytest.raises(RootlessError, match="no-such-option"):
        driver.check({"no-such-option": "1"})


def test_what_it_backs_can_be_planned(driver: VolumeDriver) -> None:
    for options in OPTIONS[driver.name]:
        driver.check(options)
        backing = driver.backing(options, DATA)
        assert backing.type in ("bind", "tmpfs")
        words = mounts.ATTRIBUTES if backing.type == "bind" else mounts.FLAGS
        assert all("=" in word or word in words or word == "rw" for word in backing.options)
        assert not driver.owns_content(options)


OPTIONS = {
    "local": [
        {"type": "tmpfs", "device": "tmpfs"},
        {"type": "tmpfs", "device": "tmpfs", "o": "size=10m,mode=1777,uid=5,noexec,ro"},
        {"type": "none", "device": "/srv", "o": "bind"},
        {"type": "none", "device": "/srv", "o": "rbind,ro,nosuid,nodev,noatime"},
    ]
}


def test_every_driver_has_its_options_here() -> None:
    assert set(OPTIONS) == set(drivers.REGISTRY)


def test_an_unknown_driver_is_refused_in_dockers_words() -> None:
    with pytest.raises(NotFoundError, match='plugin "nfs" not found'):
        drivers.driver("nfs")


# local


@pytest.mark.parametrize(
    ("options", "kind", "reason"),
    [
        ({"type": "nfs", "device": ":/x", "o": "addr=10.0.0.1"}, HostError, "of type nfs"),
        ({"type": "none", "device": "/x", "o": "ro"}, HostError, "o=bind"),
        ({"type": "none", "device": "x", "o": "bind"}, UsageError, "not an absolute path"),
        ({"type": "none", "device": "/x", "o": "bind,sticky"}, UsageError, "'sticky'"),
        ({"type": "tmpfs", "device": "tmpfs", "o": "size=big"}, UsageError, "'size=big'"),
        ({"type": "tmpfs", "device": "tmpfs", "o": "mode=9"}, UsageError, "'mode=9'"),
        ({"type": "tmpfs", "device": "tmpfs", "o": "size="}, UsageError, "'size='"),
        ({"type": "tmpfs"}, UsageError, 'missing required option: "device"'),
        ({"device": "/x"}, UsageError, 'missing required option: "type"'),
        ({"o": "bind"}, UsageError, 'missing required option: "type"'),
        ({"size": "1g"}, HostError, "quotas"),
    ],
)
def test_what_local_refuses(options: dict[str, str], kind: type[Exception], reason: str) -> None:
    with pytest.raises(kind) as caught:
        LocalDriver().check(options)
    assert reason in str(caught.value)
    assert getattr(caught.value, "code", 0) == 1
