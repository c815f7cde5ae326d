"""Builds that go wrong: what is not there, a full disk, what is not allowed; and settings of every RUN."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from buildrig import build, cached, image, shell
from rig import World
from test_disk import on_a_small_disk

pytestmark = pytest.mark.requires("ordinary-user", "userns", "overlay")


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        ('["/no/such", "x"]', 127, 'exec: "/no/such": stat /no/such: no such file or directory'),
        ('["no-such"]', 127, 'exec: "no-such": executable file not found in $PATH'),
        ('["/etc/passwd"]', 126, 'exec: "/etc/passwd": permission denied'),
        ('["/etc"]', 126, 'exec: "/etc": is a directory'),
        ("no-such", 127, "sh: no-such: not found"),
        ("sh -c 'kill -9 $$'; exit $?", 137, "exit code: 137"),
    ],
)
def test_a_command_that_cannot_run_is_told_as_a_shell_does(
    world: World, ctx: Path, words: str, status: int, why: str
) -> None:
    text = f"FROM busybox\nRUN echo good > /good\nRUN {words}\n"
    done = build(world, ctx, text, "-t", "never:1", code=1)
    assert why in done.stderr
    assert f"did not complete successfully: exit code: {status}" in done.stderr
    assert "   3 | >>> RUN" in done.stderr
    found = re.search(r"steps before it are image ([0-9a-f]{12})", done.stderr)
    assert found and shell(world, found[1], "cat /good") == "good"
    assert "never" not in world.out("images", "--format", "{{.Repository}}")


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("FROM busybox\nUSER nobody-here\nRUN true\n", 3, "nobody-here"),
        ("FROM busybox\nCOPY missing /x\n", 2, "missing"),
        ("FROM busybox\nCOPY --from=busybox /nowhere /x\n", 2, "nowhere"),
        ("FROM busybox\nCOPY --chown=whoever:whoever Dockerfile /x\n", 2, "whoever"),
        ("FROM busybox\nRUN --mount=type=bind,from=busybox,source=/nowhere,target=/m true\n", 2, "nowhere"),
        ("FROM busybox\nRUN --mount=type=secret,id=key,required true\n", 2, "secret key: not found"),
        ("FROM busybox\nRUN --mount=type=ssh,required true\n", 2, "cannot mount ssh agent default"),
        ("FROM busybox AS a\nFROM a\nCOPY --from=c /x /x\nFROM busybox AS c\n", 3, "circular"),
        ("FROM two AS one\nFROM one AS two\n", 1, "circular dependency"),
        ("FROM one AS one\n", 1, "circular dependency"),
        ("FROM busybox\nCOPY --from=7 /x /x\n", 2, "invalid stage index 7"),
        ("FROM localhost:1/not/here\n", 1, "localhost:1/not/here"),
        ("FROM busybox\nSHELL sh -c\n", 2, "SHELL"),
        ("FROM busybox\nLABEL a=b\nRUN --mount=type=moon,target=/x true\n", 3, "unsupported mount type"),
        ("FROM busybox\nRUNN true\n", 2, "RUN"),
        ("FROM busybox\nRUN --network=moon true\n", 2, "moon"),
        ("FROM busybox\nRUN <<EOF\necho\n", 2, "EOF"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(
    world: World, ctx: Path, text: str, line: int, why: str
) -> None:
    done = build(world, ctx, text, "-t", "never:2", code=1)
    assert why in done.stderr
    assert re.search(rf"^\s+{line} \| >>> ", done.stderr, re.M), done.stderr
    assert "never" not in world.out("images", "--format", "{{.Repository}}")


def test_json_that_is_none_is_a_command_of_the_shell(world: World, ctx: Path) -> None:
    done = build(world, ctx, "FROM busybox\nRUN ['echo', 'x']\n", code=1)
    assert "[echo,: not found" in done.stderr
    assert "exit code: 127" in done.stderr


FULL = r"""
os.mkdir(f"{world.top}/ctx")
def build(text, *words, **options):
    with open(f"{world.top}/ctx/Dockerfile", "w") as file:
        file.write("FROM busybox\nRUN echo kept > /kept; date > /when\n" + text)
    return world("build", "--progress=plain", *words, f"{world.top}/ctx", **options)

first = build("", "-t", "first")
when = world.out("run", "--rm", "first", "cat", "/when")
# The command itself finds no room; then the layer that it made has no room beside its files.
for text in "RUN dd if=/dev/zero of=/big bs=1M count=64\n", "RUN head -c 14m /dev/urandom > /big\n":
    done = build(text, "-t", "never", code=1)
    assert "ENOSPC" in done.stderr or "No space left" in done.stderr, done.stderr
    names = world.out("images", "--format", "{{.Repository}}")
    assert "never" not in names, names
    assert os.listdir(f"{root}/build") == [], os.listdir(f"{root}/build")
    assert not [n for n in os.listdir(f"{root}/images/blobs/sha256") if len(n) != 64]
# What was built before is still there and still used.
done = build("RUN cat /kept > /copy\n", "-t", "second")
assert "#2 CACHED" in done.stderr and "#3 DONE" in done.stderr, done.stderr
assert world.out("run", "--rm", "second", "cat", "/copy", "/when") == f"kept\n{when}"
world("system", "prune", "-a", "-f")
assert world.out("images", "-q") == ""
"""


@pytest.mark.requires("subid", "busybox")
def test_a_disk_that_fills_up_leaves_nothing_half_made_and_a_cache_that_works() -> None:
    on_a_small_disk(FULL)


# what has to be allowed


def test_more_than_a_container_has_must_be_allowed(world: World, ctx: Path) -> None:
    words = {
        "--network=host": "network.host",
        "--security=insecure": "security.insecure",
        "--device=/dev/null": "device=/dev/null",
    }
    (ctx / "Dockerfile").write_text("")
    for flag, entitlement in words.items():
        text = f"FROM busybox\nRUN {flag} true\n"
        env = {"ROOTLESS_NETWORK_DEFAULT": "none"}
        done = build(world, ctx, text, code=1, env=env)
        assert f"{entitlement} is not allowed" in done.stderr
        assert f"--allow {entitlement}" in done.stderr
        assert "Dockerfile:2:5" in done.stderr
        build(world, ctx, text, "--allow", entitlement, env=env)
    done = build(world, ctx, "FROM busybox\n", "--allow=all", check=False)
    assert "invalid --allow 'all'" in done.stderr
    build(world, ctx, "FROM busybox\nRUN --device=/dev/null true\n", "--allow=device")
    # --network=host says it already
    build(world, ctx, "FROM busybox\nRUN --network=host echo\n", "--network=host")


def test_insecure_has_all_capabilities_and_is_another_step(world: World, ctx: Path) -> None:
    script = "grep -E 'CapBnd|Seccomp:' /proc/self/status > /caps; mount -t tmpfs t /mnt && echo y >> /caps"
    plain = image(world, ctx, f"FROM busybox\nRUN mkdir -p /mnt; {script}; true\n")
    assert "Seccomp:\t2" in shell(world, plain, "cat /caps")
    text = f"FROM busybox\nRUN --security=insecure mkdir -p /mnt; {script}; true\n"
    made = image(world, ctx, text, "--allow=security.insecure")
    caps = shell(world, made, "cat /caps")
    assert "Seccomp:\t0" in caps
    assert caps.endswith("y")
    assert shell(world, plain, "head -n1 /caps") != caps.splitlines()[0]


def test_settings_of_every_run(world: World, ctx: Path) -> None:
    script = (
        "grep example /etc/hosts > /seen; df -k /dev/shm | awk 'END { print $2 }' >> /seen; "
        "ulimit -Sn >> /seen; ulimit -Hn >> /seen; grep Seccomp: /proc/self/status >> /seen"
    )
    text = f"FROM busybox\nRUN {script}\nRUN true\n"
    words = ("--add-host=example:192.0.2.7", "--shm-size=3m", "--ulimit", "nofile=77:99")
    made = image(world, ctx, text, *words, "--security-opt", "seccomp=unconfined")
    seen = shell(world, made, "cat /seen").split()
    assert seen == ["192.0.2.7", "example", "3072", "77", "99", "Seccomp:", "0"]
    assert "example" not in shell(world, made, "cat /etc/hosts")
    # A command sees these, so they count; limits of memory and time do not.
    assert cached(build(world, ctx, text, "--add-host=example:192.0.2.8")) == [False, False]
    words = ("--memory=1g", "--memory-swap=-1", "--cpu-shares=5", "--rm", "--force-rm")
    done = build(world, ctx, text, "--add-host=example:192.0.2.8", *words)
    assert cached(done) == [True, True]
    for words, why in (
        (("--memory=1k",), "memory"),
        (("--ulimit=nofile=9:1",), "ulimit"),
        (("--cpuset-cpus=4095",), "4095"),
        (("--add-host=x",), "x"),
        (("--shm-size=-",), "shm-size"),
    ):
        done = build(world, ctx, text, *words, check=False)
        assert done.returncode in (1, 125), words
        assert why in done.stderr
