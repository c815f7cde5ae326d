"""The runtime spec: rules of Docker that the golden plans do not spell out one by one."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.errors import HostError, UsageError
from rootless.facts import HostFacts
from rootless.plan import launch, mounts, namespaces, rlimits, security, signals
from rootless.plan import spec as specs
from rootless.plan.image import ImageConfig
from rootless.plan.request import MountRequest, Placement, RunRequest

MAP = ((0, 1000, 1), (1, 100000, 65536))
FACTS = HostFacts(uid=1000, gid=1000, uid_map=MAP, gid_map=MAP)


def image(**config: Any) -> ImageConfig:
    return ImageConfig.from_dict({"config": {"Cmd": ["sh"], **config}})


def place() -> Placement:
    return Placement(container_id="ab" * 32, container_dir="/c", merged="/c/rootfs", upper="/c/u")


def spec(request: RunRequest, image_: ImageConfig | None = None, **facts: Any) -> specs.Spec:
    return specs.build_spec(request, image_ or image(), FACTS.replace(**facts), place())


class TestArguments:
    @pytest.mark.parametrize(
        ("entrypoint", "args", "wanted"),
        [
            (None, [], ["/e", "c", "d"]),
            (None, ["x"], ["/e", "x"]),
            (["/o"], [], ["/o"]),  # the image's command goes with its entrypoint
            (["/o"], ["x"], ["/o", "x"]),
            ([], ["x"], ["x"]),
        ],
    )
    def test_entrypoint_and_command(
        self, entrypoint: list[str] | None, args: list[str], wanted: list[str]
    ) -> None:
        config = image(Entrypoint=["/e"], Cmd=["c", "d"])
        request = RunRequest(entrypoint=entrypoint, args=args)
        assert specs.arguments(request, config) == wanted
        request.init = True
        assert specs.arguments(request, config) == ["/sbin/docker-init", "--", *wanted]


class TestEnvironment:
    def test_order_and_override(self) -> None:
        request = RunRequest(env=["A=9", "N=1", "A=2"], env_remove=["GONE"], tty=True)
        config = image(Env=["A=1", "GONE=1", "PATH=/bin", "EMPTY="])
        env = spec(request, config)["process"]["env"]
        assert env == ["PATH=/bin", "HOSTNAME=abababababab", "TERM=xterm", "A=2", "EMPTY=", "N=1"]

    def test_values_keep_their_equals_signs(self) -> None:
        assert specs.merge(["A=b=c"], ["D=e=f=g"], []) == ["A=b=c", "D=e=f=g"]

    def test_user_can_remove_what_is_ours(self) -> None:
        env = spec(RunRequest(env_remove=["HOSTNAME"]))["process"]["env"]
        assert env == [f"PATH={specs.PATH}"]

    def test_host_name_of_the_host(self) -> None:
        where = place()
        where.host_name = "vm"
        request = RunRequest(uts="host")
        assert "HOSTNAME=vm" in specs.build_spec(request, image(), FACTS, where)["process"]["env"]
        assert not any("HOSTNAME" in entry for entry in spec(request)["process"]["env"])


class TestNames:
    def test_host_name_defaults_to_the_short_id(self) -> None:
        assert spec(RunRequest())["hostname"] == "ab" * 6

    def test_too_long(self) -> None:
        with pytest.raises(UsageError, match="longer than 64"):
            spec(RunRequest(hostname="x" * 65))

    def test_conflicts_with_host_uts(self) -> None:
        for uts in ("host", "container:x"):
            with pytest.raises(UsageError, match="conflicting options: hostname and the UTS mode"):
                spec(RunRequest(hostname="x", uts=uts))


class TestUser:
    @pytest.mark.parametrize(
        ("request_", "image_user", "wanted"),
        [
            (RunRequest(), "", ""),
            (RunRequest(), "app:staff", "app:staff"),
            (RunRequest(user="7"), "app", "7"),
            (RunRequest(userns="keep-id"), "app", "1000:1000"),
            (RunRequest(userns="keep-id", user="app"), "", "app"),
        ],
    )
    def test_who_decides(self, request_: RunRequest, image_user: str, wanted: str) -> None:
        assert spec(request_, image(User=image_user))["annotations"][specs.USER] == wanted

    def test_numbers_reach_the_standard_fields(self) -> None:
        user = spec(RunRequest(user="7:8", group_add=["9", "audio"]))["process"]["user"]
        assert user == {"uid": 7, "gid": 8, "umask": 0o022, "additionalGids": [9]}


class TestStopSignal:
    def test_request_then_image_then_term(self) -> None:
        quits = image(StopSignal="SIGQUIT")
        for request, config, wanted in (
            (RunRequest(), image(), 15),
            (RunRequest(), quits, 3),
            (RunRequest(stop_signal="int"), quits, 2),
        ):
            assert specs.stop_signal(request, spec(request, config)) == wanted

    @pytest.mark.parametrize(
        ("text", "wanted"),
        [("9", 9), ("KILL", 9), ("sigkill", 9), ("RTMIN", 34), ("RTMIN+3", 37), ("SIGRTMAX-2", 62)],
    )
    def test_spellings(self, text: str, wanted: int) -> None:
        assert signals.number(text) == wanted

    @pytest.mark.parametrize("text", ["", "0", "65", "FOO", "RTMIN+31", "RTMAX-31", "RTMIN-1", "²"])
    def test_none(self, text: str) -> None:
        with pytest.raises(UsageError, match="invalid signal"):
            signals.number(text)

    def test_numbers_are_this_systems(self) -> None:
        import signal

        theirs = {s.name[3:]: int(s) for s in signal.Signals if not s.name.startswith("SIGRT")}
        assert {name: signals.BY_NAME[name] for name in theirs} == theirs


class TestMounts:
    def test_depth_orders_and_ties_keep_their_order(self) -> None:
        wanted = ["/z", "/a", "/z/x", "/a/b/c"]
        request = RunRequest(
            mounts=[
                MountRequest(source="/s", destination=d) for d in ("/a/b/c", "/z/x", "/z", "/a")
            ]
        )
        found = [m["destination"] for m in spec(request)["mounts"]]
        assert [d for d in found if d in wanted] == wanted

    def test_a_mount_over_a_default_replaces_it(self) -> None:
        request = RunRequest(mounts=[MountRequest(source="/s", destination="/dev/shm")])
        found = [m for m in spec(request)["mounts"] if m["destination"] == "/dev/shm"]
        assert [m["source"] for m in found] == ["/s"]

    def test_a_mount_over_dev_leaves_nothing_of_ours_below(self) -> None:
        request = RunRequest(mounts=[MountRequest(source="/s", destination="/dev")], tty=True)
        document = spec(request)
        assert [
            m["destination"] for m in document["mounts"] if m["destination"].startswith("/dev")
        ] == ["/dev"]
        where = place()
        where.seccomp = lambda profile, names: b""
        ops = launch.build_tape(document, where, FACTS)
        assert not [op for op in ops if op[0] in ("symlink", "mkfile")]
        assert ("console", (0, 0, 0)) in ops

    def test_twice(self) -> None:
        request = RunRequest(mounts=[MountRequest(source="/s", destination="/x")], tmpfs={"/x": ""})
        with pytest.raises(UsageError, match="duplicate mount point: /x"):
            spec(request)

    def test_gid_of_terminals_only_where_it_is_mapped(self) -> None:
        options = {m["destination"]: m["options"] for m in spec(RunRequest())["mounts"]}
        assert "gid=5" in options["/dev/pts"]
        small = {
            m["destination"]: m["options"]
            for m in spec(RunRequest(), gid_map=((0, 1, 3),))["mounts"]
        }
        assert "gid=5" not in small["/dev/pts"]

    @pytest.mark.parametrize(
        "words",
        ["size=", "size=x", "mode=9", "uid=root", "bogus", "nosuid=1", "size=1kk", "mode=-1"],
    )
    def test_bad_tmpfs_options(self, words: str) -> None:
        with pytest.raises(UsageError, match="invalid tmpfs option"):
            spec(RunRequest(tmpfs={"/t": words}))

    def test_good_tmpfs_options(self) -> None:
        text = "rw,exec,size=50%,mode=1770,uid=1,gid=2,nr_inodes=4k,relatime"
        options = next(
            m for m in spec(RunRequest(tmpfs={"/t": text}))["mounts"] if m["destination"] == "/t"
        )
        assert options["options"] == ["nosuid", "nodev", *text.split(",")]
        (op,) = launch.mount_ops(options)
        assert op[1][3] == 2 | 4 | 1 << 21
        assert op[1][4] == "size=50%,mode=1770,uid=1,gid=2,nr_inodes=4k"

    def test_read_only_is_deep_where_the_kernel_can(self) -> None:
        mount = MountRequest(source="/s", destination="/x", readonly=True)
        for can, word in ((True, "rro"), (False, "ro")):
            found = spec(RunRequest(mounts=[mount]), mount_setattr=can)["mounts"]
            assert word in next(m["options"] for m in found if m["destination"] == "/x")

    def test_unknown_bind_option(self) -> None:
        mount = MountRequest(source="/s", destination="/x", options=["sticky"])
        with pytest.raises(UsageError, match="unknown bind option 'sticky'"):
            spec(RunRequest(mounts=[mount]))
        with pytest.raises(UsageError, match="unknown bind option 'rx'"):
            launch.mount_ops({"destination": "/x", "source": "/s", "options": ["rbind", "rx"]})

    def test_tables_agree_with_the_kernel(self) -> None:
        import os

        assert mounts.FLAGS["ro"][0] == os.ST_RDONLY and mounts.FLAGS["noexec"][0] == os.ST_NOEXEC
        assert mounts.FLAGS["noatime"][0] == os.ST_NOATIME
        assert all(set_bits & clear == 0 for set_bits, clear in mounts.FLAGS.values())


class TestNamespaces:
    def decide(self, **values: Any) -> namespaces.Namespaces:
        return namespaces.decide(RunRequest(**values), FACTS)

    def test_the_first_target_shares_its_user_namespace(self) -> None:
        chosen = self.decide(ipc="container:b", network="container:a", uts="container:a")
        assert (chosen.user_of, chosen.related) == ("network", ("network", "uts"))
        assert chosen.owns("network") and chosen.owns("pid") and not chosen.owns("ipc")

    def test_with_userns_host_all_is_owned(self) -> None:
        chosen = self.decide(ipc="container:b", pid="container:a", userns="host")
        assert chosen.user_of == "" and chosen.owns("ipc") and chosen.owns("pid")

    def test_host_is_never_owned(self) -> None:
        chosen = self.decide(pid="host", network="host", userns="host")
        assert not chosen.owns("pid") and not chosen.owns("network")

    @pytest.mark.parametrize(
        "values",
        [
            {"pid": "x"},
            {"pid": "container:"},
            {"ipc": "x"},
            {"uts": "none"},
            {"cgroupns": "container:a"},
        ],
    )
    def test_unknown_modes(self, values: dict[str, str]) -> None:
        with pytest.raises(UsageError, match="unknown mode"):
            self.decide(**values)

    def test_a_target_that_nobody_resolved(self) -> None:
        with pytest.raises(UsageError, match="cannot join a pid namespace"):
            spec(RunRequest(pid="container:x"))


class TestSecurity:
    def test_both_separators(self) -> None:
        for text in ("seccomp=unconfined", "seccomp:unconfined"):
            assert security.parse([text]).seccomp == "unconfined"
        assert not security.parse(["no-new-privileges=false"]).no_new_privileges
        assert security.parse(["no-new-privileges:true"]).no_new_privileges

    @pytest.mark.parametrize(
        "text", ["seccomp", "seccomp=", "systempaths=x", "no-new-privileges=maybe"]
    )
    def test_bad(self, text: str) -> None:
        with pytest.raises(UsageError, match="invalid --security-opt"):
            security.parse([text])

    def test_seccomp_needs_a_compiler(self) -> None:
        with pytest.raises(HostError, match="cannot load seccomp profile builtin"):
            launch.build_tape(spec(RunRequest()), place(), FACTS)
        launch.build_tape(spec(RunRequest(security_opt=["seccomp=unconfined"])), place(), FACTS)

    def test_privileged_has_no_filter_unless_asked(self) -> None:
        profile = "/etc/p.json"
        assert spec(RunRequest(privileged=True))["annotations"][specs.SECCOMP] == "unconfined"
        asked = RunRequest(privileged=True, security_opt=[f"seccomp={profile}"])
        assert spec(asked)["annotations"][specs.SECCOMP] == profile

    @pytest.mark.parametrize(
        "key", ["kernel.hostname", "vm.x", "net", "kernel.sem.x", "net/core/x"]
    )
    def test_sysctls_of_the_host(self, key: str) -> None:
        with pytest.raises(UsageError, match="not allowed"):
            spec(RunRequest(network="none", sysctls={key: "1"}))

    def test_sysctl_names_cannot_leave_proc_sys(self) -> None:
        with pytest.raises(UsageError, match="no sysctl name"):
            spec(RunRequest(network="none", sysctls={"net.../../kernel/x": "1"}))


class TestLimits:
    def test_infinity(self) -> None:
        (limit,) = rlimits.for_spec([("core", -1, -1)])
        assert limit == {"type": "RLIMIT_CORE", "soft": (1 << 64) - 1, "hard": (1 << 64) - 1}
        assert rlimits.value(limit["soft"]) == -1 and rlimits.value(100) == 100

    def test_the_last_of_a_name_counts(self) -> None:
        (limit,) = rlimits.for_spec([("nofile", 1, 2), ("nofile", 3, 4)])
        assert (limit["soft"], limit["hard"]) == (3, 4)

    @pytest.mark.parametrize(
        "limit",
        [("as", 1, 1), ("nofiles", 1, 1), ("nofile", 2, 1), ("nofile", -1, 1), ("nofile", -2, -2)],
    )
    def test_refused(self, limit: tuple[str, int, int]) -> None:
        with pytest.raises(UsageError, match="ulimit"):
            rlimits.for_spec([limit])

    def test_numbers_are_this_systems(self) -> None:
        import resource

        for name, number in rlimits.NUMBERS.items():
            theirs = getattr(resource, f"RLIMIT_{name.upper()}", number)
            assert theirs == number == rlimits.number(f"RLIMIT_{name.upper()}")
