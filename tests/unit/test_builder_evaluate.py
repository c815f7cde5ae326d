"""Scopes of ARG and ENV, what instructions do to an image's config, and the graph of stages."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.builder import evaluate, graph, outline, parser
from rootless.builder.steps import CopyStep, MkdirStep, RunStep, Settled
from rootless.errors import DockerfileError, UsageError

PLATFORM = evaluate.platform_args("linux/amd64")


def settled(
    text: str, stage: int = 0, config: dict[str, Any] | None = None, **args: str
) -> Settled:
    """A stage of the file TEXT, on stages before it where it is FROM them."""
    file = parser.parse(text)
    scope = evaluate.Scope(file, args, PLATFORM)
    nodes = graph.Graph(file, scope).nodes
    base = nodes[stage].base
    if base is None:
        return evaluate.settle(nodes[stage].stage, scope, config or {})
    below = settled(text, base.index, config, **args)
    return evaluate.settle(nodes[stage].stage, scope, below.config, below.args)


def env(found: Settled) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in found.config.get("Env") or ())


def run_env(found: Settled) -> dict[str, str]:
    (step,) = [step for step in found.steps if isinstance(step, RunStep)]
    return dict(entry.split("=", 1) for entry in step.env)


def test_a_line_is_expanded_with_what_was_known_before_it() -> None:
    assert env(settled("FROM a\nENV x=1\nENV x=2 y=$x\nENV z=$x")) == {"x": "2", "y": "1", "z": "2"}


def test_env_beats_arg() -> None:
    text = "FROM a\nARG v=arg\nENV v=env\nRUN x"
    assert run_env(settled(text, v="given")) == {"v": "env"}
    assert env(settled("FROM a\nENV v=env\nARG v=arg\nENV w=$v", v="given"))["w"] == "env"


def test_an_arg_before_from_is_seen_in_a_stage_that_declares_it() -> None:
    text = "ARG v=1\nARG w=$v.2\nFROM a:$w\nRUN x\n"
    file = parser.parse(text)
    scope = evaluate.Scope(file, {}, PLATFORM)
    assert graph.Graph(file, scope).nodes[0].image == "a:1.2"
    assert run_env(settled(text)) == {}
    assert run_env(settled("ARG v=1\nFROM a\nARG v\nRUN x")) == {"v": "1"}
    assert run_env(settled("ARG v=1\nFROM a\nARG v=own\nRUN x")) == {"v": "own"}
    assert run_env(settled("ARG v=1\nFROM a\nARG v\nRUN x", v="given")) == {"v": "given"}


def test_an_arg_is_seen_from_its_line_on_and_in_stages_built_on_its_own() -> None:
    assert env(settled("FROM a\nENV x=$v\nARG v=1")) == {"x": ""}
    text = "FROM a AS one\nARG v=1\nFROM one\nRUN x\nFROM a\nRUN x\n"
    assert run_env(settled(text, 1)) == {"v": "1"}
    assert run_env(settled(text, 2)) == {}


def test_platform_variables_have_to_be_declared() -> None:
    assert run_env(settled("FROM a\nARG TARGETARCH\nRUN x")) == {"TARGETARCH": "amd64"}
    assert run_env(settled("FROM a\nRUN x")) == {}


def test_proxies_reach_a_run_without_being_declared_or_recorded() -> None:
    found = settled("FROM a\nRUN x", HTTP_PROXY="http://p")
    (step,) = found.steps
    assert isinstance(step, RunStep)
    assert (step.env, step.hidden) == ([], ["HTTP_PROXY=http://p"])
    assert "HTTP_PROXY" not in step.history


def test_an_argument_that_nobody_asked_for_is_told() -> None:
    file = parser.parse("ARG a\nFROM x\nARG b")
    scope = evaluate.Scope(file, {"a": "1", "b": "2", "c": "3", "no_proxy": "x"}, PLATFORM)
    evaluate.settle(file.stages[0], scope, {})
    assert scope.unused() == ["c"]


def test_the_config_after_all_instructions() -> None:
    found = settled(
        "FROM a\nENV v=7\nLABEL a=$v 'b c'=\"d e\"\nUSER $v:8\nWORKDIR /x\nWORKDIR y\nEXPOSE 80 90-91/udp\n"
        'VOLUME ["/v"]\nVOLUME /w $v\nSTOPSIGNAL SIG${nope:-QUIT}\nSHELL ["/bin/bash", "-c"]\n'
        "CMD echo $v\nHEALTHCHECK --timeout=2s CMD true\nONBUILD RUN $v\nMAINTAINER me <a@b>\n",
        config={"Cmd": ["old"], "Labels": {"kept": "1"}, "OnBuild": []},
    )
    assert found.author == "me <a@b>"
    assert found.config == {
        "Env": ["v=7"],
        "Labels": {"kept": "1", "a": "7", "b c": "d e"},
        "User": "7:8",
        "WorkingDir": "/x/y",
        "ExposedPorts": {"80/tcp": {}, "90/udp": {}, "91/udp": {}},
        "Volumes": {"/v": {}, "/w": {}, "7": {}},
        "StopSignal": "SIGQUIT",
        "Shell": ["/bin/bash", "-c"],
        "Cmd": ["/bin/bash", "-c", "echo $v"],
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Timeout": 2_000_000_000},
        "OnBuild": ["RUN $v"],
    }
    assert [step.path for step in found.steps if isinstance(step, MkdirStep)] == ["/x", "/x/y"]


def test_an_entrypoint_drops_the_command_it_inherits() -> None:
    base = {"Cmd": ["old"], "Entrypoint": ["e"]}
    assert "Cmd" not in settled('FROM a\nENTRYPOINT ["x"]', config=base).config
    assert settled('FROM a\nCMD ["c"]\nENTRYPOINT ["x"]', config=base).config["Cmd"] == ["c"]


def test_triggers_of_the_base_run_first_and_are_not_handed_on() -> None:
    found = settled("FROM a\nENV b=$a", config={"OnBuild": ["ENV a=1", "RUN t"]})
    assert env(found) == {"a": "1", "b": "1"}
    assert [step.shown for step in found.steps] == ["ENV a=1", "RUN t", "ENV b=$a"]
    assert "OnBuild" not in found.config


def test_commands_with_heredocs() -> None:
    def step(text: str) -> RunStep:
        (found,) = settled(f"FROM a\n{text}").steps
        assert isinstance(found, RunStep)
        return found

    assert step("RUN <<E\na\nb\nE").argv == ["/bin/sh", "-c", "a\nb\n"]
    assert step("RUN cat <<E > /x\na\nE").argv == ["/bin/sh", "-c", "cat <<E > /x\na\nE"]
    script = step("RUN <<E\n#!/usr/bin/env python3\nprint(1)\nE")
    assert script.argv == ["/dev/pipes/E"]
    assert script.script == ("E", "#!/usr/bin/env python3\nprint(1)\n")


def test_what_a_copy_comes_to() -> None:
    text = (
        "FROM a\nENV d=/t u=5\nWORKDIR /w\nCOPY --chown=$u --link --exclude=*.o x$u y $d/\n"
        "COPY <<E f\n$d\nE\nCOPY a ."
    )
    copies = [step for step in settled(text).steps if isinstance(step, CopyStep)]
    assert (copies[0].sources, copies[0].dest, copies[0].chown) == (["x5", "y"], "/t/", "5")
    assert copies[0].link
    assert (copies[1].inline, copies[1].dest) == ([("E", "/t\n")], "/w/f")
    assert copies[2].dest == "/w/"
    with pytest.raises(DockerfileError, match="more than one source file"):
        settled("FROM a\nCOPY a b /c")


def test_mounts_are_settled() -> None:
    text = "FROM a\nWORKDIR /w\nARG i=x\nRUN --mount=type=cache,id=$i,target=c,ro --mount=target=/b,src=s y"
    (step,) = [step for step in settled(text).steps if isinstance(step, RunStep)]
    assert step.mounts == [
        {"type": "cache", "id": "x", "target": "/w/c", "ro": "true"},
        {"type": "bind", "target": "/b", "source": "s"},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM a\nENV x=${", "missing '}'"),
        ("FROM a\nEXPOSE 70000", "invalid containerPort"),
        ("FROM a\nEXPOSE 80/foo", "invalid proto"),
        ("FROM a\nSTOPSIGNAL SIGFOO", "SIGFOO"),
        ("FROM a\nWORKDIR $nope", "WORKDIR can not be blank"),
        ("FROM a\nRUN --mount=type=tmpfs,target=/ x", "invalid mount target /"),
    ],
)
def test_what_cannot_be_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        settled(text)
    assert message in str(caught.value)
    assert "line 2" in str(caught.value)


# the graph


def graph_of(text: str, **args: str) -> graph.Graph:
    file = parser.parse(text)
    return graph.Graph(file, evaluate.Scope(file, args, PLATFORM))


STAGES = """FROM a AS one
FROM one AS Two
FROM b
COPY --from=0 /x /y
FROM scratch AS last
RUN --mount=from=two,target=/t z
FROM scratch AS extra
"""


def test_only_what_a_target_needs_is_there() -> None:
    found = graph_of(STAGES)
    assert [node.needs for node in found.nodes] == [set(), {0}, {0}, {1}, set()]
    assert [node.stage.index for node in found.needed(found.target("last"))] == [0, 1, 3]
    assert [node.stage.index for node in found.needed(found.target())] == [4]
    assert found.target("TWO").index == 1
    assert found.target("2").index == 2
    with pytest.raises(UsageError, match="'tow' could not be found") as caught:
        found.target("tow")
    assert caught.value.hint == "did you mean two?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM a AS x\nCOPY --from=x a b", "needs itself"),
        ("FROM a AS x\nCOPY --from=y a b\nFROM x AS y", "comes later in the file"),
        ("FROM a AS x\nRUN --mount=from=y,target=/t z\nFROM x AS y", "comes later in the file"),
        ("FROM x AS x", "needs itself"),
        ("FROM y AS x\nFROM x AS y", "comes later in the file"),
        ("FROM a\nCOPY --from=0 a b", "needs itself"),
        ("FROM a\nCOPY --from=3 a b", "invalid stage index 3"),
        ("ARG i\nFROM $i", "should not be blank"),
    ],
)
def test_cycles_and_stages_that_are_not_there_are_refused(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message):
        graph_of(text)


def test_an_image_can_have_a_stages_place() -> None:
    found = graph_of("ARG i=im\nFROM a\nCOPY --from=$i /a /b\nCOPY --from=busybox:1 /a /b")
    assert found.nodes[0].needs == set()
    assert found.origin("busybox:1", 0) is None


def test_targets_and_outline() -> None:
    text = (
        "# v the version\nARG v=1\n# base where all begins\nFROM a AS base\n"
        "RUN --mount=type=secret,id=s,required x\n"
        "FROM base AS app\nARG w\nRUN --mount=type=ssh x\nFROM a\n"
    )
    file = parser.parse(text)
    assert outline.targets(file) == [
        ("base", False, "where all begins"),
        ("app", False, ""),
        ("", True, ""),
    ]
    scope = evaluate.Scope(file, {"w": "2"}, PLATFORM)
    stages = graph.Graph(file, scope)
    found = outline.outline(file, scope, stages, stages.target("app"))
    assert {name: (one.value, one.description) for name, one in found.args.items()} == {
        "v": ("1", "the version"),
        "w": ("2", ""),
    }
    assert (found.secrets, found.agents) == ({"s": True}, {"default": False})


def test_arguments_of_the_builder_itself_are_never_unused() -> None:
    args = {"BUILDKIT_INLINE_CACHE": "1", "SOURCE_DATE_EPOCH": "0", "http_proxy": "x", "OTHER": "1"}
    assert evaluate.Scope(parser.parse("FROM a\n"), args, PLATFORM).unused() == ["OTHER"]
