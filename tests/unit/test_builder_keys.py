"""What must and what must not invalidate a step: a table of changes, and the keys that they may change."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rootless.builder import evaluate, graph, keys, parser
from rootless.builder.steps import CopyStep, MkdirStep, RunStep
from rootless.builder.tree import Digests, Tree, digest
from rootless.errors import BuildError

BASE = """FROM base
ARG used=1
ENV e=1
WORKDIR /w
USER 5
COPY src /dst
RUN --mount=type=secret,id=s make
LABEL l=1
RUN after
"""


def chain(
    text: str, context: Path, layers: tuple[str, ...] = ("sha256:1",), epoch: str = "", **args: str
) -> list[str]:
    """Keys of the steps WORKDIR, COPY, RUN, RUN of a file, in their order."""
    file = parser.parse(text)
    scope = evaluate.Scope(file, args, evaluate.platform_args("linux/amd64"))
    graph.Graph(file, scope)
    found = evaluate.settle(file.stages[0], scope, {})
    key = keys.of_image(layers, "linux/amd64")
    out = []
    tree = Tree(str(context))
    for step in found.steps:
        if isinstance(step, MkdirStep):
            key = keys.of_mkdir(key, step, epoch)
        elif isinstance(step, CopyStep):
            sources = [one for path in step.sources for one in tree.find(path)]
            content = digest(tree, sources, Digests(), step.excludes)
            key = keys.of_copy(key, step, content, epoch)
        elif isinstance(step, RunStep):
            key = keys.of_run(key, step, [], epoch)
        else:
            continue
        out.append(key)
    tree.close()
    return out


@pytest.fixture
def looking() -> Iterator[Callable[..., Tree]]:
    """Makes trees that are closed at the end."""
    made: list[Tree] = []

    def make(path: Path, *ignored: str) -> Tree:
        made.append(Tree(str(path), ignored))
        return made[-1]

    yield make
    for tree in made:
        tree.close()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    source = tmp_path / "src"
    (source / "d").mkdir(parents=True)
    (source / "f").write_text("content")
    (source / "d" / "g").write_text("more")
    (source / "link").symlink_to("f")
    (tmp_path / "other").write_text("not copied")
    return tmp_path


# change of the Dockerfile -> how many of the keys (WORKDIR, COPY, RUN, RUN) stay
TEXTS = [
    ("nothing", "", "", 4),
    ("a comment", "FROM base\n", "# hello\nFROM base\n", 4),
    ("keywords in lower case", "COPY src", "copy src", 4),
    ("a label", "LABEL l=1", "LABEL l=2", 4),
    ("a command", "LABEL l=1", 'CMD ["x"]', 4),
    ("a port", "LABEL l=1", "EXPOSE 80", 4),
    ("blanks before an argument", "RUN after", "RUN   after", 4),
    ("a continuation", "RUN after", "RUN \\\n after", 4),
    ("a variable", "ENV e=1", "ENV e=2", 2),
    ("the default of an argument", "ARG used=1", "ARG used=2", 2),
    ("the user", "USER 5", "USER 6", 2),
    ("the directory", "WORKDIR /w", "WORKDIR /v", 0),
    ("the shell", "USER 5", 'USER 5\nSHELL ["/bin/bash", "-c"]', 2),
    ("the destination", "COPY src /dst", "COPY src /dst2", 1),
    ("the owner", "COPY src", "COPY --chown=7 src", 1),
    ("the mode", "COPY src", "COPY --chmod=700 src", 1),
    ("an exclusion", "COPY src", "COPY --exclude=f src", 1),
    ("a mount", "id=s make", "id=t make", 2),
    ("the network", "RUN --mount", "RUN --network=none --mount", 2),
    ("the command itself", "id=s make", "id=s make all", 2),
    ("blanks inside a command", "RUN after", "RUN after  all", 3),
    ("a variable after all", "RUN after", "ENV z=1\nRUN after", 3),
]


@pytest.mark.parametrize(("what", "old", "new", "kept"), TEXTS, ids=[row[0] for row in TEXTS])
def test_a_change_of_the_dockerfile(
    context: Path, what: str, old: str, new: str, kept: int
) -> None:
    before = chain(BASE, context)
    assert old in BASE, what
    after = chain(BASE.replace(old, new), context)
    assert [one == other for one, other in zip(before, after)] == [True] * kept + [False] * (
        4 - kept
    )


def _touch(top: Path) -> None:
    os.utime(top / "src" / "f", (1, 1))


def _replace(top: Path) -> None:
    (top / "src" / "f").unlink()
    (top / "src" / "f").write_text("content")


def _edit(top: Path) -> None:
    (top / "src" / "f").write_text("CONTENT")


def _mode(top: Path) -> None:
    (top / "src" / "f").chmod(0o600)


def _directory_mode(top: Path) -> None:
    (top / "src" / "d").chmod(0o700)


def _rename(top: Path) -> None:
    (top / "src" / "f").rename(top / "src" / "h")


def _empty_directory(top: Path) -> None:
    (top / "src" / "empty").mkdir()


def _link(top: Path) -> None:
    (top / "src" / "link").unlink()
    (top / "src" / "link").symlink_to("d")


def _other(top: Path) -> None:
    (top / "other").write_text("changed")


def _socket(top: Path) -> None:
    os.mkfifo(top / "unused")


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (_touch, 4),
        (_replace, 4),
        (_other, 4),
        (_socket, 4),
        (_edit, 1),
        (_mode, 1),
        (_directory_mode, 1),
        (_rename, 1),
        (_empty_directory, 1),
        (_link, 1),
    ],
)
def test_a_change_of_the_context(context: Path, change: object, kept: int) -> None:
    before = chain(BASE, context)
    change(context)  # type: ignore[operator]
    after = chain(BASE, context)
    assert [one == other for one, other in zip(before, after)] == [True] * kept + [False] * (
        4 - kept
    )


def test_other_things_that_count_or_do_not(context: Path) -> None:
    before = chain(BASE, context)
    assert chain(BASE, context, HTTP_PROXY="http://p") == before
    assert chain(BASE, context, unused="1") == before
    assert chain(BASE, context, used="1") == before
    assert chain(BASE, context, used="2")[:2] == before[:2]
    assert chain(BASE, context, used="2")[2] != before[2]
    assert chain(BASE, context, layers=("sha256:2",))[0] != before[0]
    assert chain(BASE, context, epoch="1")[0] != before[0]


def test_a_linked_copy_does_not_depend_on_what_is_below(context: Path) -> None:
    text = "FROM base\nRUN {}\nCOPY --link src /dst\n"
    one, other = (chain(text.format(word), context) for word in ("a", "b"))
    assert one[0] != other[0]
    assert one[1] == other[1]


def test_digests_are_remembered_by_inode_and_time_of_change(
    context: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, looking: Callable[..., Tree]
) -> None:
    monkeypatch.setattr("rootless.builder.tree._RACY_NS", -(10**18))
    store = str(tmp_path / "known")
    tree = looking(context / "src")
    found = tree.find("/")
    digests = Digests(store)
    first = digest(tree, found, digests)
    digests.save()
    read: list[str] = []
    real = Digests._read
    monkeypatch.setattr(
        Digests, "_read", staticmethod(lambda entry: read.append(entry.name) or real(entry))
    )
    assert digest(tree, found, Digests(store)) == first
    assert read == []
    (context / "src" / "f").write_text("CONTENT")
    assert digest(tree, found, Digests(store)) != first
    assert read == ["f"]


def test_a_file_that_may_still_change_is_read_again(
    context: Path, tmp_path: Path, looking: Callable[..., Tree]
) -> None:
    tree = looking(context / "src")
    digests = Digests(str(tmp_path / "known"))
    digest(tree, tree.find("/"), digests)
    digests.save()
    assert not (tmp_path / "known").exists()


# what sources mean


def names(tree: Tree, *sources: str, parents: bool = False) -> list[str]:
    out = []
    for source in sources:
        for found in tree.find(source, parents=parents):
            if not found.directory:
                out.append(found.path)
            out += [f"{found.path}/{one.path}" for one in tree.walk(found) if found.directory]
    return out


def test_sources_are_found_inside_the_context_only(
    context: Path, looking: Callable[..., Tree]
) -> None:
    (context / "out").symlink_to("/etc")
    (context / "up").symlink_to("../../../../etc/passwd")
    tree = looking(context)
    for source in ("out/passwd", "up", "nothing", "src/f/x"):
        with pytest.raises(BuildError, match="not found in the build context"):
            tree.find(source)
    assert names(tree, "../../src/f") == ["src/f"]
    assert names(tree, "src/link") == ["src/f"]


def test_wildcards_and_ignored_files(context: Path, looking: Callable[..., Tree]) -> None:
    tree = looking(context, "src/d", "**/link")
    assert names(tree, "s*/[fg]") == ["src/f"]
    assert names(tree, "src") == ["src/f"]
    with pytest.raises(BuildError, match="not found") as caught:
        tree.find("src/d/g")
    assert "ignore file" in caught.value.hint


def test_ignored_directories_are_walked_for_what_is_wanted_in_them(
    context: Path, looking: Callable[..., Tree]
) -> None:
    tree = looking(context, "src", "!src/d/g")
    assert names(tree, "src") == ["src/d", "src/d/g"]
    whole = [name for name in names(tree, "/") if "src" in name]
    assert whole == ["/src", "/src/d", "/src/d/g"]


def test_a_loop_of_links_is_told(context: Path, looking: Callable[..., Tree]) -> None:
    for number in range(100):
        (context / f"l{number}").symlink_to(f"l{number + 1}")
    (context / "self").symlink_to("self")
    with pytest.raises(BuildError, match="ELOOP"):
        looking(context).find("l0")
    with pytest.raises(BuildError, match="ELOOP"):
        looking(context).find("self")
