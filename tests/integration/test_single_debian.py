"""Package managers in containers of one ID, and what a machine with all IDs then finds in the image."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator

import debian
import pytest
from rig import World

pytestmark = pytest.mark.requires("ordinary-user", "subid", "overlay", "mmdebstrap")

SINGLE = ("--userns", "single")
POSTINST = """\
#!/bin/sh -e
useradd --system --create-home --home-dir /var/lib/own own
install -d -o own -g mail -m 3775 /var/lib/own/spool
chgrp -h mail /srv/link
python3 -c 'import os
os.setxattr("/usr/local/bin/tool", "security.capability", bytes.fromhex("0100000200200000" + "00" * 12))'
"""
CONTROL = (
    "Package: own\nVersion: 1\nArchitecture: all\nMaintainer: t <t@example.org>\nDescription: t\n"
)
FILES = (  # name, type, uid, gid, mode
    ("srv/file", tarfile.REGTYPE, 33, 33, 0o644),
    ("srv/link", tarfile.SYMTYPE, 33, 4, 0o777),
    ("srv/shared", tarfile.DIRTYPE, 0, 50, 0o2775),
    ("srv/disk", tarfile.BLKTYPE, 0, 6, 0o660),
    ("usr/local/bin/tool", tarfile.REGTYPE, 0, 8, 0o2755),
)


def package(path: str) -> None:
    """Write a Debian package: an ar archive of two tars."""

    def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for info, content in entries:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return data.getvalue()

    def entry(name: str, content: str = "", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(f"./{name}")
        for key, value in fields.items():
            setattr(info, key, value)
        return info, content.encode()

    data = [
        entry(name, type=kind, uid=uid, gid=gid, mode=mode, devmajor=8, devminor=1)
        for name, kind, uid, gid, mode in FILES
    ]
    data[1][0].linkname = "file"
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar": tar(entry("control", CONTROL), entry("postinst", POSTINST, mode=0o755)),
        "data.tar": tar(*data),
    }
    with open(path, "wb") as file:
        file.write(b"!<arch>\n")
        for name, content in parts.items():
            head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
            file.write(head.encode() + content + b"\n" * (len(content) % 2))


LOOK = """
stat -c '%n %U:%G %a' /srv/file /srv/link /srv/shared /usr/local/bin/tool \\
    /var/lib/own /var/lib/own/spool /etc/shadow
python3 -c 'import os; print(os.getxattr("/usr/local/bin/tool", "security.capability").hex())'
"""
WANTED = """\
/srv/file www-data:www-data 644
/srv/link www-data:mail 777
/srv/shared root:staff 2775
/usr/local/bin/tool root:mail 2755
/var/lib/own own:own 755
/var/lib/own/spool own:mail 3775
/etc/shadow root:shadow 640
0100000200200000000000000000000000000000"""


@pytest.fixture(scope="module")
def rl() -> Iterator[World]:
    world = World()
    try:
        debian.load(world)
        yield world
    finally:
        world.close()


def test_a_package_with_owners_installed_here_is_right_elsewhere(rl: World) -> None:
    package(f"{rl.top}/own.deb")
    words = ("--network", "none", "-v", f"{rl.top}/own.deb:/own.deb:ro", *SINGLE, "debian:12")
    rl("run", "--name", "made", *words, "apt-get", "install", "-y", "-qq", "/own.deb")
    rl("commit", "made", "made:1")
    exported = subprocess.run(
        [*rl.argv, "export", "made"], env=rl.env, capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(exported.stdout)) as archive:
        disk = archive.getmember("srv/disk")
    assert (disk.type, disk.gid, disk.devmajor, disk.devminor) == (tarfile.BLKTYPE, 6, 8, 1)
    assert rl.out("run", "--rm", "made:1", "bash", "-ec", LOOK) == WANTED
    assert "zz-rootless" not in rl.out("diff", "made")
    # And once more through a container of one ID: nothing is lost by being unpacked, changed and packed.
    rl(
        "run",
        "--name",
        "more",
        *SINGLE,
        "made:1",
        "bash",
        "-ec",
        "useradd more; touch /srv/shared/new",
    )
    rl("commit", "more", "more:1")
    assert rl.out("run", "--rm", "more:1", "bash", "-ec", LOOK) == WANTED
    rl("rm", "made", "more")


def test_packages_of_the_distribution(rl: World) -> None:
    """A setgid program, a setuid helper of a new group, a capability: as dpkg wants them."""
    install = (
        "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "
        "--no-install-recommends openssh-client iputils-ping dbus sudo >/dev/null && dpkg --audit && "
        "su www-data -s /bin/sh -c 'echo as www-data' && sudo -u daemon echo as daemon && runuser -u bin true"
    )
    done = rl("run", "--name", "dist", *SINGLE, "debian:12", "bash", "-ec", install)
    assert done.stdout == "as www-data\nas daemon\n"
    rl("commit", "dist", "dist:1")
    look = (
        "stat -c '%n %U:%G %a' /usr/bin/ssh-agent /usr/lib/dbus-1.0/dbus-daemon-launch-helper /etc/sudoers "
        "/etc/shadow /etc/gshadow /usr/bin/sudo; "
        'python3 -c \'import os; print(os.getxattr("/usr/bin/ping", "security.capability").hex()[:16])\''
    )
    assert rl.out("run", "--rm", "dist:1", "bash", "-ec", look).splitlines() == [
        "/usr/bin/ssh-agent root:_ssh 2755",
        "/usr/lib/dbus-1.0/dbus-daemon-launch-helper root:messagebus 4754",
        "/etc/sudoers root:root 440",
        "/etc/shadow root:shadow 640",
        "/etc/gshadow root:shadow 640",
        "/usr/bin/sudo root:root 4755",
        "0100000200200000",
    ]
    rl("rm", "dist")


RPM = """
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rpm cpio >/dev/null
mkdir /r
cat > /r/x.spec <<'S'
Name: owners
Version: 1
Release: 1
Summary: x
License: x
BuildArch: noarch
%description
x
%install
mkdir -p %{buildroot}/opt/o/dir %{buildroot}/opt/o/dev
for name in file suid cap; do echo 1 > %{buildroot}/opt/o/$name; done
ln -s file %{buildroot}/opt/o/link
%files
%attr(640,daemon,mail) /opt/o/file
%attr(4755,games,root) /opt/o/suid
%attr(2775,root,mail) %dir /opt/o/dir
%attr(-,news,news) /opt/o/link
%dev(c,1,3) %attr(666,root,daemon) /opt/o/dev/null
%caps(cap_net_raw=ep) %attr(755,root,root) /opt/o/cap
S
rpmbuild -bb --define '_topdir /r' /r/x.spec >/tmp/out 2>&1 || { tail -20 /tmp/out; exit 1; }
rpm -i --nodeps /r/RPMS/noarch/owners-1-1.noarch.rpm 2>/dev/null
mkdir /c /t
cd /opt; find o | cpio --quiet -o -H newc -R bin:daemon > /tmp/a.cpio; cd /c; cpio --quiet -idm < /tmp/a.cpio
tar cf /tmp/t.tar --owner=70 --group=80 -C /opt o; tar xpf /tmp/t.tar -C /t; cp -a /opt/o /a
"""


def test_rpm_cpio_tar_and_cp(rl: World) -> None:
    rl("run", "--name", "rpms", *SINGLE, "debian:12", "bash", "-ec", RPM)
    rl("commit", "rpms", "rpms:1")
    own = "file {} 640\nsuid {} 4755\ndir {} 2775\nlink {} 777\n"
    rpm = own.format("daemon:mail", "games:root", "root:mail", "news:news")
    # cp takes attributes of files and directories along, and of a link what it sees.
    copied = own.format("daemon:mail", "games:root", "root:mail", "root:root")
    for top, wanted in (
        ("/opt/o", rpm),
        ("/a", copied),
        ("/c/o", own.format(*["bin:daemon"] * 4)),
        ("/t/o", own.format(*["70:80"] * 4)),
    ):
        form = "%u:%g" if top == "/t/o" else "%U:%G"
        look = f"cd {top} && stat -c '%n {form} %a' file suid dir link"
        assert rl.out("run", "--rm", "rpms:1", "bash", "-ec", look) + "\n" == wanted
    rl("rm", "rpms")
