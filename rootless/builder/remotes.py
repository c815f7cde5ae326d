"""Names of what lies elsewhere: URLs of archives and files, of git repositories, and named contexts.

Pure: text in, values out.  Which words are git's follows BuildKit: ssh, git and scp-like addresses, and those
of HTTP whose path ends in ".git"; "#ref:subdir" or a query say what of the repository is meant.  Nothing that
git could take for an option, and no transport that runs programs, comes out of here.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import parse_qsl, unquote, urlsplit

from rootless.errors import UsageError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_SCP = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)([A-Za-z0-9][A-Za-z0-9.-]*):(?!//)(.+)$")
_HOST = re.compile(
    r"(?:[^@/\s]*@)?(?:[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$"
)
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?$")
_CHECKSUM = re.compile(r"[0-9a-f]{7,64}$")
_REF = re.compile(r"(?!-)(?!.*(?:\.\.|@\{|//|\\))[^\x00-\x20\x7f~^:?*\[]+(?<![./])$")
_FLAGS = {"": True, "1": True, "true": True, "0": False, "false": False}
_QUERY = ("ref", "branch", "tag", "commit", "checksum", "subdir", "keep-git-dir", "submodules")


class GitSource:
    """A place in a git repository.

    remote    what git is told; local: it is on this machine and was named by the user
    ref       branch, tag, full name or commit, "" for what HEAD is
    checksum  the commit has to begin with this
    """

    __slots__ = ("checksum", "keep_git_dir", "local", "ref", "remote", "subdir", "submodules")

    def __init__(self, remote: str, *, local: bool = False) -> None:
        self.remote = remote
        self.local = local
        self.ref = ""
        self.subdir = ""
        self.checksum = ""
        self.keep_git_dir = False
        self.submodules = True

    @property
    def commit(self) -> str:
        """The commit that the ref is, where it is one in full."""
        return self.ref if _COMMIT.match(self.ref) else ""

    @property
    def shown(self) -> str:
        """The remote as messages have it, without a password."""
        return without_password(self.remote)


def is_http(text: str) -> bool:
    """Whether the text is a URL of HTTP, in whatever case."""
    return text[:8].lower().startswith(("http://", "https://"))


def without_password(url: str) -> str:
    """URL as people may see it."""
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://[^/@:]*):[^/@]*@", r"\1:xxxxx@", url)


def git(text: str, *, local: bool = False) -> GitSource | None:
    """The repository that TEXT means; None where it means none.

    LOCAL allows file:// too, which only words of the user's own may say.  Raises UsageError.
    """
    if text.startswith("github.com/"):
        text = f"https://{text}"
    base, _, fragment = text.partition("#")
    match = _SCHEME.match(base)
    if match is None:
        found = _SCP.match(base)
        if found is None or base.startswith(("./", "../", "/")):
            return None
        source = GitSource(base)
    else:
        found_url = _of_url(match[1].lower(), base, local=local)
        if found_url is None:
            return None
        source = found_url
    if fragment:
        source.ref, _, source.subdir = fragment.partition(":")
    _settle(source, text)
    return source


def _of_url(scheme: str, base: str, *, local: bool) -> GitSource | None:
    plain, mark, query = base.partition("?")
    try:
        parts = urlsplit(plain)
    except ValueError:
        raise UsageError(f"invalid URL {without_password(base)!r}", exit_code=1) from None
    if scheme in ("http", "https"):
        if not parts.path.rstrip("/").endswith(".git"):
            return None
    elif scheme == "file":
        if not local:
            return None
    elif scheme not in ("ssh", "git"):
        return None
    if scheme != "file" and not _HOST.match(parts.netloc):
        raise UsageError(f"invalid host in {without_password(base)!r}", exit_code=1)
    source = GitSource(plain, local=scheme == "file")
    if mark:
        _query(source, query, base)
    return source


def _query(source: GitSource, query: str, base: str) -> None:
    fields: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in _QUERY or key in fields:
            told = "unexpected" if key not in _QUERY else "conflicting"
            raise UsageError(
                f"invalid git URL {without_password(base)!r}: {told} {key!r} in its query",
                exit_code=1,
            )
        fields[key] = value
    named = [key for key in ("ref", "branch", "tag") if fields.get(key)]
    if len(named) > 1:
        raise UsageError(
            f"invalid git URL {without_password(base)!r}: {named[0]} and {named[1]} conflict",
            exit_code=1,
        )
    for key in named:
        head = {"ref": "", "branch": "refs/heads/", "tag": "refs/tags/"}[key]
        source.ref = head + fields[key]
    source.subdir = fields.get("subdir", "")
    source.checksum = (fields.get("checksum") or fields.get("commit") or "").lower()
    try:
        source.keep_git_dir = _FLAGS[fields.get("keep-git-dir", "false").lower()]
        source.submodules = _FLAGS[fields.get("submodules", "true").lower()]
    except KeyError as error:
        raise UsageError(
            f"invalid git URL {without_password(base)!r}: {error.args[0]!r} is neither true nor false",
            exit_code=1,
        ) from None


def _settle(source: GitSource, text: str) -> None:
    """Refuse what git might misread, and bring the directory into one form."""
    shown = without_password(text)
    if source.remote.startswith("-") or re.search(r"[\x00-\x20\x7f]", source.remote):
        raise UsageError(f"invalid git URL {shown!r}", exit_code=1)
    if source.ref and not _REF.match(source.ref):
        raise UsageError(f"invalid git ref {source.ref!r} in {shown!r}", exit_code=1)
    if source.checksum and not is_commit(source.checksum):
        raise UsageError(f"invalid checksum {source.checksum!r}: it is no commit", exit_code=1)
    source.subdir = posixpath.normpath(f"/{source.subdir}").lstrip("/")


def is_commit(text: str) -> bool:
    """Whether the text is a commit's digest, or the beginning of one."""
    return _CHECKSUM.match(text) is not None


def file_name(url: str) -> str:
    """What ADD calls the file of a URL in a directory."""
    base = posixpath.basename(unquote(urlsplit(url).path))
    return base if base not in ("", ".", "..") and "\0" not in base else "__unnamed__"


class Named:
    """--build-context NAME=VALUE.

    kind   directory, image, layout, stage, git or url; value is the path, reference or the like
    git    the repository, where it is one
    """

    __slots__ = ("git", "kind", "name", "value")

    def __init__(self, name: str, kind: str, value: str, source: GitSource | None = None) -> None:
        self.name = name
        self.kind = kind
        self.value = value
        self.git = source


_PREFIXES = (("docker-image://", "image"), ("oci-layout://", "layout"), ("target:", "stage"))


def named(text: str) -> Named:
    """A named context as the command line has it; raises UsageError."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise UsageError(f"invalid --build-context {text!r}: it is not NAME=VALUE", exit_code=1)
    for prefix, kind in _PREFIXES:
        if value.startswith(prefix):
            rest = value[len(prefix) :]
            if not rest:
                raise UsageError(
                    f"invalid --build-context {text!r}: {prefix} of what?", exit_code=1
                )
            return Named(plain_name(name), kind, rest)
    source = git(value, local=True)
    if source is not None:
        return Named(plain_name(name), "git", value, source)
    if is_http(value):
        return Named(plain_name(name), "url", value)
    if _SCHEME.match(value):
        raise UsageError(f"invalid --build-context {text!r}: unknown kind of place", exit_code=1)
    return Named(plain_name(name), "directory", value)


def plain_name(name: str) -> str:
    """NAME as contexts are compared: images' short names, "latest" left out."""
    for head in ("docker.io/library/", "docker.io/", "index.docker.io/library/"):
        if name.startswith(head):
            name = name[len(head) :]
            break
    return name[: -len(":latest")] if name.endswith(":latest") else name


class Names:
    """The names that named contexts have: ``in`` compares as plain_name() does."""

    __slots__ = ("_names",)

    def __init__(self, names: frozenset[str] = frozenset()) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._names) and plain_name(name) in self._names
