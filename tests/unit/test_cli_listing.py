"""ps, images, inspect, logs, rename, tag and rmi over a real store: columns, filters, JSON, exit codes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import time
from typing import Any

import pytest

from rootless.cli import front, inspect_text, units
from rootless.engine import logs, usage
from rootless.engine.context import Context
from rootless.plan.image import ImageConfig
from rootless.plan.request import MountRequest, RunRequest
from rootless.store import fsworker

CREATED = "2024-01-02T03:04:05Z"


class World:
    """A store in a directory of the test, and the command line over it."""

    def __init__(self, root: Any, capfd: pytest.CaptureFixture[str]) -> None:
        self.env = {
            "HOME": str(root),
            "XDG_RUNTIME_DIR": str(root / "run"),
            "XDG_DATA_HOME": str(root / "data"),
            "COLUMNS": "100",
        }
        (root / "run").mkdir(mode=0o700)
        self.capfd = capfd
        self.ctx = Context.load(self.env)

    def __call__(self, *words: str) -> tuple[int, str, str]:
        code = front.run(list(words), self.env)
        captured = self.capfd.readouterr()
        return code, captured.out, captured.err

    def out(self, *words: str) -> str:
        code, out, err = self(*words)
        assert (code, err) == (0, ""), err
        return out

    def container(
        self, name: str, *, age: float = 60, status: str = "exited", code: int = 0, **request: Any
    ) -> str:
        asked = RunRequest(image="img:1", args=["sh", "-c", "sleep 1000"], name=name, **request)
        image = ImageConfig.from_dict(
            {
                "config": {
                    "Env": ["PATH=/bin", "A=image"],
                    "Labels": {"from": "image"},
                    "ExposedPorts": {"80/tcp": {}},
                    "Cmd": ["other"],
                },
                "os": "linux",
                "architecture": "amd64",
                "rootfs": {"type": "layers", "diff_ids": []},
            }
        )
        made = self.ctx.containers.create(
            {
                "created": time.time() - age,
                "image": "img:1",
                "image_id": "sha256:" + "ab" * 32,
                "layers": ["sha256:" + "cd" * 32],
                "image_config": image.to_dict(),
                "driver": "overlay",
                "layer_format": "overlay",
                "map_key": "",
                "request": asked.to_dict(),
                "path": "sh",
                "args": ["-c", "sleep 1000"],
            },
            name,
        )
        state = self.ctx.containers.read_state(made.id)
        if status != "created":
            stamp = int((time.time() - age / 2) * units.SECOND)
            state.update(status=status, exitCode=code, startedAt=units.format_time(stamp))
            if status == "exited":
                state["finishedAt"] = units.format_time(stamp)
            else:
                state.update(pid=os.getpid(), pidStart=_born(os.getpid()))
        self.ctx.containers.write_state(made.id, state)
        return made.id

    def image(
        self,
        name: str,
        *,
        created: str = "2024-01-02T03:04:05Z",
        digest: bool = False,
        **config: Any,
    ) -> str:
        blob = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": created,
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "11" * 32]},
            }
        ).encode()
        image_id = self._blob(blob)
        layer = b"layer of " + image_id.encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": image_id,
                    "size": len(blob),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.oci.image.layer.v1.tar",
                        "digest": self._blob(layer),
                        "size": 1_234_567,
                    }
                ],
            }
        ).encode()
        descriptor = {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": self._blob(manifest),
            "size": len(manifest),
        }
        repo_digest = None
        if digest:
            repo_digest = f"docker.io/library/{name.partition(':')[0]}@{descriptor['digest']}"
        self.ctx.images.put(descriptor, name, repo_digest)
        return image_id

    def _blob(self, data: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.ctx.blobs.ingest(io.BytesIO(data), digest, len(data))
        return digest


def _born(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[19])


@pytest.fixture
def world(tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> World:
    return World(tmp_path, capfd)


# ps


def test_ps_of_nothing_is_the_header(world: World) -> None:
    assert world.out("ps") == (
        "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
    )
    assert world.out("ps", "-q") == ""


def test_ps_shows_the_running_and_with_a_all_newest_first(world: World) -> None:
    old = world.container("old", age=7200, code=137)
    new = world.container("new", age=150, status="running")
    assert world.out("ps", "-q") == f"{new[:12]}\n"
    assert world.out("ps", "-aq", "--no-trunc") == f"{new}\n{old}\n"
    rows = [line.split() for line in world.out("ps", "-a").splitlines()]
    assert [row[-1] for row in rows] == ["NAMES", "new", "old"]
    assert "Exited (137) About an hour ago" in world.out("ps", "-a")
    assert "Up About a minute" in world.out("ps")


def test_ps_n_and_l_look_at_all_states(world: World) -> None:
    for age, name in ((30, "c"), (20, "b"), (10, "a")):
        world.container(f"{name}x", age=age)
    names = ["--format", "{{.Names}}"]
    assert world.out("ps", "-n", "2", *names) == "ax\nbx\n"
    assert world.out("ps", "-l", *names) == "ax\n"


def test_ps_truncates_commands_and_quotes(world: World) -> None:
    world.container("one")
    form = ["ps", "-a", "--format", "{{.Command}}"]
    assert world.out(*form) == "\"sh -c 'sleep 1000'\"\n"
    assert world.out(*form, "--no-trunc") == "\"sh -c 'sleep 1000'\"\n"


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["name=we"], "web"),
        (["name=^/web$"], "web"),
        (["name=web", "name=db"], "db web"),
        (["status=exited"], "db"),
        (["status=exited", "status=running"], "db web"),
        (["status=exited", "name=web"], ""),
        (["exited=3"], "db"),
        (["exited=0"], ""),
        (["label=role=web"], "web"),
        (["label=role"], "db web"),
        (["label=role", "label=role=db"], "db"),
        (["label!=role=db"], "web"),
        (["label=from=image"], "db web"),
        (["before=web"], "db"),
        (["since=db"], "web"),
        (["volume=/data"], "web"),
        (["network=none"], "db"),
        (["network=host"], "web"),
        (["expose=80"], "db web"),
        (["publish=80"], ""),
        (["ancestor=img:1"], "db web"),
        (["ancestor=other"], ""),
        (["health=none"], "db web"),
    ],
)
def test_ps_filters(filters: list[str], names: str, world: World) -> None:
    world.container("db", age=100, code=3, labels={"role": "db"}, network="none")
    mount = MountRequest(type="bind", source="/srv", destination="/data", create_source=True)
    world.container(
        "web", age=10, status="running", labels={"role": "web"}, network="host", mounts=[mount]
    )
    flags = [word for text in filters for word in ("-f", text)]
    found = world.out("ps", "-a", *flags, "--format", "{{.Names}}").split()
    assert sorted(found) == names.split()


@pytest.mark.parametrize("text", ["nope=1", "status=x", "exited=x", "health=x", "name=("])
def test_ps_refuses_bad_filters(text: str, world: World) -> None:
    code, out, err = world("ps", "-f", text)
    assert (code, out) == (1, "")
    assert err.startswith("rootless: invalid filter ")


def test_ps_json_has_dockers_keys(world: World) -> None:
    world.container("one", labels={"b": "2", "a": "1"})
    row = json.loads(world.out("ps", "-a", "--format", "json"))
    assert row["Names"] == "one"
    assert row["State"] == "exited"
    assert row["Labels"] == "a=1,b=2,from=image"
    assert set(row) >= {
        *("Command", "CreatedAt", "ID", "Image", "Labels", "LocalVolumes", "Mounts", "Names"),
        *("Networks", "Ports", "RunningFor", "Size", "State", "Status"),
    }


def test_ps_size_counts_what_was_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    container_id = world.container("one")
    upper = world.ctx.containers.get(container_id).dir + "/upper"
    os.mkdir(upper)
    with open(f"{upper}/file", "wb") as file:
        file.write(b"x" * 2500)
    os.link(f"{upper}/file", f"{upper}/again")

    def measure(_: object, paths: list[str]) -> list[tuple[int, int]]:
        return [fsworker.usage_of(path, set()) for path in paths]

    monkeypatch.setattr(usage, "measure", measure)  # the real one runs in the realm
    assert measure(None, [upper]) == [(2500, 1)]
    assert "2.5kB (virtual 2.5kB)" in world.out("ps", "-as")
    assert world.out("ps", "-a", "--format", "{{.Size}}") == "2.5kB (virtual 2.5kB)\n"


def test_a_container_whose_process_is_gone_is_exited(world: World) -> None:
    container_id = world.container("one", status="running")
    state = world.ctx.containers.read_state(container_id)
    world.ctx.containers.write_state(container_id, {**state, "pidStart": 1})
    assert world.out("ps", "-q") == ""
    assert "Exited (255)" in world.out("ps", "-a")


# inspect


def test_inspect_a_container_in_dockers_shape(world: World) -> None:
    mount = MountRequest(source="/srv", destination="/data", readonly=True, create_source=True)
    container_id = world.container(
        "one", code=3, env=["A=mine"], mounts=[mount], hostname="box", publish=["127.0.0.1:8080:80"]
    )
    (found,) = json.loads(world.out("inspect", "one"))
    assert found["Id"] == container_id
    assert found["Name"] == "/one"
    assert found["State"]["ExitCode"] == 3
    assert found["State"]["Status"] == "exited"
    assert found["State"]["Running"] is False
    assert found["Config"]["Env"] == ["A=mine", "PATH=/bin"]
    assert found["Config"]["Cmd"] == ["sh", "-c", "sleep 1000"]
    assert found["Config"]["Hostname"] == "box"
    assert found["Config"]["Entrypoint"] is None
    assert found["HostConfig"]["Binds"] == ["/srv:/data:ro"]
    assert found["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]
    }
    assert found["Mounts"][0]["RW"] is False
    assert found["GraphDriver"]["Data"]["LowerDir"].endswith("cd/fs")
    assert list(found)[:4] == ["Id", "Created", "Path", "Args"]
    assert "SizeRw" not in found
    assert json.loads(world.out("inspect", "-s", "one"))[0]["SizeRw"] == 0


def test_inspect_formats(world: World) -> None:
    container_id = world.container("one", labels={"k": "v"})
    for form, text in (
        ("{{.State.Status}} {{.Config.Image}}", "exited img:1"),
        ('{{index .Config.Labels "k"}}{{index .Config.Labels "none"}}', "v"),
        ("{{.Config.Labels}}", "map[from:image k:v]"),
        ("{{.Config.Entrypoint}} {{.Config.Volumes}}", "[] map[]"),
        ("{{json .Config.Entrypoint}}", "null"),
        ("{{range .Mounts}}x{{else}}none{{end}}", "none"),
        ('{{if eq .State.Status "running"}}up{{else}}down{{end}}', "down"),
        ("{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}", "bridge"),
        ('{{with index .NetworkSettings.Ports "80/tcp"}}x{{end}}', ""),
        ("{{.HostConfig.RestartPolicy.Name}}", "no"),
        ("{{slice .Id 0 12}}", container_id[:12]),
    ):
        assert world.out("inspect", "-f", form, "one") == f"{text}\n", form


def test_inspect_tells_what_is_missing_and_prints_the_rest(world: World) -> None:
    world.container("one")
    code, out, err = world("inspect", "one", "gone")
    assert code == 1
    assert len(json.loads(out)) == 1
    assert err == "rootless: no such object: gone\n"
    assert world("inspect", "gone")[1] == "[]\n"
    assert world("container", "inspect", "gone")[2] == "rootless: no such container: gone\n"
    assert world("inspect", "--type", "image", "gone")[2] == "rootless: no such image: gone\n"
    assert world("inspect", "--type", "planet", "one")[0] == 1
    code, _, err = world("inspect", "-f", "{{.Nope}}", "one")
    assert code == 1
    assert err == (
        'rootless: template parsing error: template: :1:2: executing "" at <.Nope>: '
        'map has no entry for key "Nope"\n'
    )
    assert world("inspect", "-f", "{{.Nope", "one")[0] == 64


def test_typed_values_keep_their_json() -> None:
    from rootless.cli.govalue import plain

    data = {"Labels": None, "Cmd": None, "Ports": {"80/tcp": None}, "Health": None, "A": [{"B": 1}]}
    assert plain(inspect_text.typed(data)) == data


def test_an_image_is_found_after_containers(world: World) -> None:
    image_id = world.image("img:1", Env=["A=1"])
    (found,) = json.loads(world.out("inspect", "img:1"))
    assert found["Id"] == image_id
    assert found["RepoTags"] == ["img:1"]
    assert found["Config"]["Env"] == ["A=1"]
    assert found["RootFS"] == {"Type": "layers", "Layers": ["sha256:" + "11" * 32]}
    assert found["Size"] == 1_234_567
    assert found["Created"] == "2024-01-02T03:04:05Z"
    assert world.out("image", "inspect", "-f", "{{.Os}}", image_id[7:19]) == "linux\n"


# images


def test_images_table(world: World) -> None:
    assert world.out("images") == "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"
    image_id = world.image("debian:12")
    lines = world.out("images").splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert lines[1].startswith(f"debian       12        {image_id[7:19]}   ")
    assert lines[1].endswith(" ago   1.23MB")
    assert world.out("images", "-q") == f"{image_id[7:19]}\n"
    assert world.out("images", "-q", "--no-trunc") == f"{image_id}\n"


def test_images_digests_tags_and_dangling(world: World) -> None:
    first = world.image("debian:12", digest=True)
    world.out("tag", "debian:12", "example.org/base:x")
    form = "{{.Repository}} {{.Tag}} {{.Digest}}"
    lines = world.out("images", "--digests", "--format", form).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("debian 12 sha256:")
    assert lines[1] == "example.org/base x <none>"
    world.image("debian:12", created="2025-01-01T00:00:00Z")
    world.out("rmi", "example.org/base:x")
    names = world.out("images", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}").splitlines()
    assert f"{first[7:19]} debian:<none>" in names
    dangling = world.out("images", "-q", "-f", "dangling=true").split()
    assert dangling == [first[7:19]]
    assert first[7:19] not in world.out("images", "-q", "-f", "dangling=false")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["debian"], "debian:11 debian:12"),
        (["debian:12"], "debian:12"),
        (["docker.io/library/debian:12"], "debian:12"),
        (["deb*"], "debian:11 debian:12"),
        (["*"], "debian:11 debian:12"),
        (["*/*/*"], "example.org/team/app:1"),
        (["-f", "reference=*:12"], "debian:12"),
        (
            ["-f", "reference=debian:11", "-f", "reference=*/*/app"],
            "debian:11 example.org/team/app:1",
        ),
        (["-f", "label=a=1"], "debian:12"),
        (["-f", "label!=a"], "debian:11 example.org/team/app:1"),
        (["-f", "before=debian:12"], "debian:11"),
        (["-f", "since=debian:12"], "example.org/team/app:1"),
        (["-f", "until=2022-06-01"], "debian:11"),
        (["nothing"], ""),
    ],
)
def test_images_by_name_and_filter(words: list[str], names: str, world: World) -> None:
    world.image("debian:11", created="2022-01-01T00:00:00Z")
    world.image("debian:12", created="2023-01-01T00:00:00Z", Labels={"a": "1"})
    world.image("example.org/team/app:1", created="2024-01-01T00:00:00Z")
    found = world.out("images", *words, "--format", "{{.Repository}}:{{.Tag}}").split()
    assert sorted(found) == names.split()


def test_rmi_untags_deletes_and_refuses(world: World) -> None:
    image_id = world.image("debian:12")
    world.out("tag", "debian:12", "other:1")
    code, out, err = world("rmi", image_id)
    assert (code, out) == (1, "")
    assert "must be forced" in err
    assert world.out("rmi", "other:1") == "Untagged: other:1\n"
    code, _, err = world("rmi", "gone")
    assert (code, err) == (1, "rootless: no such image: gone\n")
    assert world("rmi", "-f", "gone")[0] == 0


def test_rename_and_tag_errors(world: World) -> None:
    world.container("one")
    world.container("two")
    assert world("rename", "one", "two")[0] == 1
    assert world("rename", "one", "x y")[0] == 125
    assert world("rename", "one", "three")[0] == 0
    assert set(world.out("ps", "-a", "--format", "{{.Names}}").split()) == {"three", "two"}
    assert world("tag", "gone", "x")[0] == 1


def test_port_of_an_unpublished_port(world: World) -> None:
    world.container("one")
    assert world.out("port", "one") == ""
    code, _, err = world("port", "one", "80")
    assert (code, err) == (1, "rootless: no public port '80/tcp' published for one\n")


# logs


def line(text: str, second: int, stream: str = "stdout", **more: Any) -> str:
    stamp = f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}.000000001Z"
    return json.dumps({"log": text, "stream": stream, "time": stamp, **more}) + "\n"


@pytest.fixture
def logged(world: World) -> Any:
    container_id = world.container("one")
    path = f"{world.ctx.containers.get(container_id).dir}/{container_id}-json.log"

    def write(*files: str) -> str:
        for number, text in enumerate(files):
            with open(path + (f".{number}" if number else ""), "w", encoding="utf-8") as file:
                file.write(text)
        return path

    return write


def test_logs_read_rotated_files_oldest_first_and_split_streams(world: World, logged: Any) -> None:
    logged(line("c\n", 3), line("b\n", 2, "stderr"), line("a\n", 1))
    assert world("logs", "one") == (0, "a\nc\n", "b\n")


@pytest.mark.parametrize(
    ("flags", "out"),
    [
        (["--tail", "1"], "e\n"),
        (["-n", "3"], "c\nd\ne\n"),
        (["--tail", "0"], ""),
        (["--tail", "99"], "a\nb\nc\nd\ne\n"),
        (["--tail", "all"], "a\nb\nc\nd\ne\n"),
        (["--tail", "-5"], "a\nb\nc\nd\ne\n"),
        (["--since", "2026-01-01T00:00:04Z"], "d\ne\n"),
        (["--until", "2026-01-01T00:00:02.5Z"], "a\nb\n"),
        (["--since", "2026-01-01T00:00:02Z", "--until", "2026-01-01T00:00:04Z"], "b\nc\n"),
        (["--tail", "2", "--since", "2026-01-01T00:00:05Z"], "e\n"),
        (["-t", "--tail", "1"], "2026-01-01T00:00:05.000000001Z e\n"),
    ],
)
def test_logs_flags(flags: list[str], out: str, world: World, logged: Any) -> None:
    logged(line("d\n", 4) + line("e\n", 5), line("b\n", 2) + line("c\n", 3), line("a\n", 1))
    assert world.out("logs", *flags, "one") == out


def test_logs_since_a_line_that_the_coarse_clock_of_files_is_behind(
    world: World, logged: Any
) -> None:
    path = logged(line("a\n", 1))
    os.utime(
        path, ns=(0, 1_767_225_601_000_000_000 - 4_000_000)
    )  # a tick before the line's own time
    assert world.out("logs", "--since", "2026-01-01T00:00:01.000000001Z", "one") == "a\n"


def test_logs_partial_lines_have_one_time_and_details_their_attributes(
    world: World, logged: Any
) -> None:
    attrs = {"b": "2", "a": "1"}
    logged(line("half ", 1, attrs=attrs) + line("whole\n", 2, attrs=attrs) + line("next\n", 3))
    assert world.out("logs", "-t", "one") == (
        "2026-01-01T00:00:01.000000001Z half whole\n2026-01-01T00:00:03.000000001Z next\n"
    )
    assert world.out("logs", "--details", "one") == "a=1,b=2 half whole\n next\n"


def test_logs_leave_out_what_is_not_json(world: World, logged: Any) -> None:
    logged(line("a\n", 1) + "{broken\n" + line("b\n", 2) + line("c\n", 3)[:-1])
    assert world.out("logs", "one") == "a\nb\nc\n"
    logged(line("a\n", 1) + line("b\n", 2)[:-9])
    assert world.out("logs", "one") == "a\n"
    logged("\n\n[]\n3\n" + line("a\n", 1))
    assert world.out("logs", "one") == "a\n"


def test_logs_of_long_lines_and_of_none(world: World, logged: Any) -> None:
    long = "é" * 3_000_000 + "\n"
    logged(line("a\n", 1) + line(long, 2) + line("b\n", 3))
    assert world.out("logs", "one") == f"a\n{long}b\n"
    assert world.out("logs", "--tail", "2", "one") == f"{long}b\n"
    world.container("quiet", log_driver="none")
    assert world("logs", "quiet")[0] == 1
    world.container("fresh", status="created")
    assert world.out("logs", "fresh") == ""
    assert world("logs", "--since", "yesterday", "one")[0] == 1


@pytest.mark.parametrize("count", range(12))
@pytest.mark.parametrize("ending", ["", "\n"])
def test_tail_finds_lines_over_block_borders(count: int, ending: str, tmp_path: Any) -> None:
    lines = ["x" * size for size in (0, 1, 65_535, 65_536, 3, 65_534, 0, 200_000, 1)]
    path = tmp_path / "log"
    path.write_text("\n".join(lines) + ending)
    fd = os.open(path, os.O_RDONLY)
    offset, found = logs._tail_offset(fd, count)
    os.close(fd)
    rest = path.read_text()[offset:]
    assert rest.removesuffix(ending) == "\n".join(lines[len(lines) - min(count, len(lines)) :])
    assert found == min(count, len(lines))


def test_follow_reads_on_through_rotation_until_the_end(tmp_path: Any) -> None:
    path = str(tmp_path / "log")
    alive = threading.Event()
    alive.set()

    def writer() -> None:
        for number in range(1, 31):
            if number % 10 == 0:
                if os.path.exists(f"{path}.1"):
                    os.rename(f"{path}.1", f"{path}.2")
                os.rename(path, f"{path}.1")
            with open(path, "a", encoding="utf-8") as file:
                text = line(f"{number}\n", number)
                file.write(text[:10])
                file.flush()
                time.sleep(0.004)
                file.write(text[10:])
        alive.clear()

    with open(path, "w", encoding="utf-8") as file:
        file.write(line("0\n", 0))
    thread = threading.Thread(target=writer)
    thread.start()
    found = [entry["log"] for block in logs.follow(path, alive.is_set) for entry in block]
    thread.join()
    assert found == [f"{number}\n" for number in range(31)]


def test_follow_ends_at_its_deadline_and_without_a_log(tmp_path: Any) -> None:
    path = str(tmp_path / "log")
    start = time.monotonic()
    deadline = time.time_ns() + 200_000_000
    assert list(logs.follow(path, lambda: True, deadline=deadline)) == []
    assert time.monotonic() - start < 5
    assert list(logs.follow(path, lambda: False)) == []
