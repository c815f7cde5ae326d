"""Image references: ``[domain/]path[:tag][@digest]``, by the grammar of the distribution project.

Owns parsing and the two spellings of a name: familiar (``debian:12``) and full
(``docker.io/library/debian:12``).  Written without regular expressions, whose import costs more than a
whole parse.
"""

from __future__ import annotations

from rootless.errors import ReferenceError_

from . import digest as digests

DEFAULT_DOMAIN = "docker.io"
LEGACY_DOMAIN = "index.docker.io"
LIBRARY = "library/"
NAME_MAX = 255

_LOWER = "abcdefghijklmnopqrstuvwxyz0123456789"
_ALNUM = _LOWER + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HEX = "0123456789abcdef"


class Reference:
    """One parsed reference; ``tag`` and ``digest`` are "" where not given."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str = "", digest: str = "") -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def repository(self) -> str:
        """domain/path, in full."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as people write it: without docker.io and library."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        rest = self.path[len(LIBRARY) :] if self.path.startswith(LIBRARY) else ""
        return rest if rest and "/" not in rest else self.path

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag

    def familiar(self) -> str:
        """The reference as people write it."""
        return self.familiar_name + self._suffix()

    def full(self) -> str:
        """The reference with domain and, unless it names a digest, a tag."""
        return self.repository + (self._suffix() or ":latest")

    def with_default_tag(self) -> Reference:
        """This reference, with ``latest`` where it has neither tag nor digest."""
        if self.tag or self.digest:
            return self
        return Reference(self.domain, self.path, "latest")

    def __repr__(self) -> str:
        return f"Reference({self.full()!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and (
            (self.domain, self.path, self.tag, self.digest)
            == (other.domain, other.path, other.tag, other.digest)
        )

    def __hash__(self) -> int:
        return hash((self.domain, self.path, self.tag, self.digest))


def _invalid(text: str, why: str = "") -> ReferenceError_:
    shown = text if len(text) <= 2 * NAME_MAX else text[: 2 * NAME_MAX] + "..."
    return ReferenceError_(f"invalid reference format: {why or repr(shown)}")


def parse(text: str) -> Reference:
    """The reference TEXT means; raises ReferenceError_."""
    if len(text) == 64 and not text.strip(_HEX):
        raise _invalid(text, f"cannot specify 64-byte hexadecimal strings ({text})")
    rest, at, digest = text.partition("@")
    if at and not digests.is_valid(digest):
        raise _invalid(text)
    tag = ""
    colon = rest.rfind(":")
    if colon > rest.rfind("/"):
        rest, tag = rest[:colon], rest[colon + 1 :]
        _check_tag(tag, text)
    domain, path = _split_domain(rest)
    if path != path.lower():
        raise _invalid(text, f"repository name ({path}) must be lowercase")
    _check_path(path, text)
    _check_domain(domain, text)
    if len(f"{domain}/{path}") > NAME_MAX:
        raise _invalid(text, f"repository name must not be more than {NAME_MAX} characters")
    return Reference(domain, path, tag, digest)


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    named = "." in first or ":" in first or first == "localhost" or first != first.lower()
    if not slash or not named:
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = first, rest
    if domain == LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and path and "/" not in path:
        path = LIBRARY + path
    return domain, path


def _check_tag(tag: str, text: str) -> None:
    if not tag or len(tag) > 128 or tag[0] in "-." or tag.strip(_ALNUM + "_.-"):
        raise _invalid(text)


def _check_path(path: str, text: str) -> None:
    for component in path.split("/"):
        if not _is_component(component):
            raise _invalid(text)


def _is_component(word: str) -> bool:
    """Runs of lower-case letters and digits, joined by one dot, one or two underscores, or dashes."""
    if not word or word[0] not in _LOWER or word[-1] not in _LOWER or word.strip(_LOWER + "._-"):
        return False
    separator = ""
    for char in word:
        if char in _LOWER:
            if separator not in ("", ".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
        else:
            separator += char
    return True


def _check_domain(domain: str, text: str) -> None:
    host, colon, port = domain, "", ""
    if domain.startswith("["):
        end = domain.find("]")
        if end < 2 or domain[1:end].strip(_HEX + "ABCDEF:"):
            raise _invalid(text)
        rest = domain[end + 1 :]
        colon, port = rest[:1], rest[1:]
        host = ""
    else:
        host, colon, port = domain.partition(":")
        for part in host.split("."):
            if not part or part[0] == "-" or part[-1] == "-" or part.strip(_ALNUM + "-"):
                raise _invalid(text)
    if colon and (colon != ":" or not port or port.strip("0123456789")):
        raise _invalid(text)
