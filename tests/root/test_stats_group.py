"""Stats beside a real control group: its files are read as they are, sums over processes agree with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# In a mount namespace of its own, in which cgroup2 alone is mounted: the machine's control groups stay.
WORLD = """
mount --make-rprivate / && umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 77
group=/sys/fs/cgroup/rootless-test-$$
mkdir "$group" || exit 77
trap 'echo 1 >"$group/cgroup.kill"; while ! rmdir "$group" 2>/dev/null; do sleep 0.05; done' EXIT
"$PYTHON" -c "$LOOK" "$TOP" "$group"
"""

# Burns time itself and in children, ended and alive, inside the group and a PID namespace of its own.
BURN = """
import os, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
for _ in range(4):
    if os.fork() == 0:
        burn(0.5)
        os._exit(0)
    os.wait()
if os.fork() == 0:
    burn(0.7)
    print("child", flush=True)
    time.sleep(1000)
burn(0.7)
print("self", flush=True)
time.sleep(1000)
"""

LOOK = """
import json, os, subprocess, sys
top, group = sys.argv[1:]
sys.path.insert(0, top)
from rootless.engine import stats
from rootless.linux import proc
def enter():
    with open(f"{group}/cgroup.procs", "w") as file:
        file.write("0")
burner = subprocess.Popen(
    ["unshare", "--pid", "--fork", sys.executable, "-c", os.environ["BURN"]],
    stdout=subprocess.PIPE,
    preexec_fn=enter,
)
burner.stdout.readline(), burner.stdout.readline()
first = int(open(f"/proc/{burner.pid}/task/{burner.pid}/children").read().split()[0])
state = {"pid": first, "pidStart": proc.starttime(first)}
sampler = stats.Sampler()
found = {}
for name, where in (("group", group), ("processes", "")):
    sample = sampler.take({"x": {**state, "cgroup": where}})["x"]
    found[name] = {key: getattr(sample, key) for key in sample.__slots__}
print(json.dumps({"found": found, "cpu.stat": open(f"{group}/cpu.stat").read()}))
burner.kill()
"""


def test_processes_add_up_to_what_the_group_counts() -> None:
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", WORLD],
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHON": sys.executable,
            "LOOK": LOOK, "BURN": BURN, "TOP": TOP,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.fail(f"no cgroup2 can be mounted: {done.stderr}")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    group, processes = answer["found"]["group"], answer["found"]["processes"]
    usage = int(answer["cpu.stat"].split()[1]) * 1000
    assert group["cpu"] == pytest.approx(usage, rel=0.05)
    assert processes["cpu"] == pytest.approx(group["cpu"], rel=0.05)
    assert processes["cpu"] > 3.2e9  # with the children that have ended
    assert processes["pids"] == 2
    assert 1 << 20 < processes["memory"] < 64 << 20
    assert group["limit"] == processes["limit"]
