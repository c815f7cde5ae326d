"""What a build's result becomes: the values of --output, as BuildKit writes them.  Text in, values out.

An output without an equals sign is a directory, or with ``-`` a tar on stdout.  An unknown key, or one that
its type does not have, is an error: nothing that was asked for is dropped.
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.plan import csvline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

STDOUT = "-"
COMPRESSIONS = ("gzip", "zstd", "uncompressed")
LEVELS = {"gzip": (0, 9), "zstd": (1, 22)}
_IMAGE_KEYS = frozenset(
    (
        *("name", "compression", "compression-level", "force-compression", "oci-mediatypes"),
        *("rewrite-timestamp", "unpack", "store", "dangling-name-prefix", "name-canonical"),
    )
)
_KEYS = {
    "image": _IMAGE_KEYS | {"push", "push-by-digest", "registry.insecure"},
    "oci": _IMAGE_KEYS | {"dest", "tar"},
    "docker": _IMAGE_KEYS | {"dest", "tar"},
    "local": frozenset(("dest", "mode", "platform-split")),
    "tar": frozenset(("dest", "platform-split")),
    "cacheonly": frozenset(),
}
_ALIASES = {"registry": "image", "none": "cacheonly"}
_SCOPES = ("manifest", "index", "manifest-descriptor", "index-descriptor")


class Compression:
    """How layers are stored: gzip, zstd or uncompressed, and the level (-1: the usual one).

    FORCED: also layers of base images.
    """

    __slots__ = ("forced", "kind", "level")

    def __init__(self, kind: str = "gzip", level: int = -1, *, forced: bool = False) -> None:
        self.kind = kind
        self.level = level
        self.forced = forced


class Output:
    """One thing to make.

    kind   image, oci, docker, local, tar or cacheonly
    dest   a path, "-" for stdout; "" only of an image (docker without a destination is one, too)
    store  the image gets into the local store; push: it is uploaded
    split  local: a directory for each platform; delete: what is not of the result goes
    """

    __slots__ = (
        "annotations",
        "by_digest",
        "compression",
        "delete",
        "dest",
        "insecure",
        "kind",
        "names",
        "oci_types",
        "push",
        "rewrite",
        "split",
        "store",
        "tar",
    )

    def __init__(self, kind: str = "image", dest: str = "") -> None:
        self.kind = kind
        self.dest = dest
        self.names: list[str] = []
        self.store = kind == "image"
        self.push = False
        self.by_digest = False
        self.insecure = False
        self.tar = True
        self.delete = False
        self.split = False
        self.rewrite: bool | None = None
        self.oci_types: bool | None = None
        self.compression = Compression()
        self.annotations: dict[str, dict[str, str]] = {}

    @property
    def has_image(self) -> bool:
        """Whether this has a manifest and layers, not files alone."""
        return self.kind in ("image", "oci", "docker")


def parse_all(texts: Sequence[str], *, load: bool = False, push: bool = False) -> list[Output]:
    """All outputs of a build, an image in the store where nothing is said; raises UsageError."""
    found = [parse(text) for text in texts]
    images = [output for output in found if output.kind == "image"]
    if push:
        if not images:
            pushed = Output()
            pushed.store = not found and load
            found.append(pushed)
            images = [pushed]
        for output in images:
            output.push = True
    if load and not any(output.store for output in images):
        found.append(Output())
    found = found or [Output()]
    if sum(output.dest == STDOUT for output in found) > 1:
        raise UsageError("cannot write several outputs to stdout")
    return found


def parse(text: str) -> Output:
    """One value of --output; raises UsageError."""
    try:
        fields = csvline.fields(text, anywhere=False)
    except ValueError as error:
        raise _bad(text, str(error)) from None
    if len(fields) == 1 and "=" not in fields[0]:
        if not fields[0]:
            raise _bad(text, "it is empty")
        return Output("tar", STDOUT) if fields[0] == STDOUT else Output("local", fields[0])
    values: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            raise _bad(text, f"{field!r} is not KEY=VALUE")
        values[key.strip().lower() if not key.startswith("annotation") else key] = value
    asked = values.pop("type", "")
    if not asked:
        raise _bad(text, "type is required")
    kind = _ALIASES.get(asked, asked)
    if kind not in _KEYS:
        raise _bad(text, f"type {asked!r} is none of {', '.join(sorted({*_KEYS, *_ALIASES}))}")
    output = Output(kind)
    if asked == "registry":
        output.push, output.store = True, False
    for key, value in values.items():
        _take(output, key, value, text)
    _settle(output, values, text)
    return output


def _bad(text: str, reason: str) -> UsageError:
    return UsageError(f"invalid --output {text!r}: {reason}")


def _take(output: Output, key: str, value: str, text: str) -> None:
    if key.startswith("annotation") and output.has_image:
        scope, name = annotation_key(key, text)
        output.annotations.setdefault(scope, {})[name] = value
        return
    if key not in _KEYS[output.kind]:
        raise _bad(text, f"{output.kind} has no key {key!r}")
    if key == "dest":
        output.dest = value
    elif key == "name":
        output.names = [name.strip() for name in value.split(",") if name.strip()]
    elif key == "compression":
        if value not in COMPRESSIONS:
            raise _bad(text, f"compression is one of {', '.join(COMPRESSIONS)}")
        output.compression.kind = value
    elif key == "compression-level":
        output.compression.level = int(value) if value.isascii() and value.isdigit() else -2
    elif key == "mode":
        if value not in ("copy", "delete"):
            raise _bad(text, "mode is copy or delete")
        output.delete = value == "delete"
    elif key in ("dangling-name-prefix",):
        raise _bad(text, f"{key} is not there")
    else:
        _switch(output, key, _truth(key, value, text))


def _switch(output: Output, key: str, value: bool) -> None:
    """A key that is true or false."""
    attribute = {
        "push": "push",
        "push-by-digest": "by_digest",
        "registry.insecure": "insecure",
        "tar": "tar",
        "store": "store",
        "platform-split": "split",
        "rewrite-timestamp": "rewrite",
        "oci-mediatypes": "oci_types",
    }.get(key)
    if key == "force-compression":
        output.compression.forced = value
    elif attribute is not None:
        setattr(output, attribute, value)
    # unpack and name-canonical say nothing here: layers are unpacked when they are wanted.


def _truth(key: str, value: str, text: str) -> bool:
    if value.lower() in ("1", "t", "true"):
        return True
    if value.lower() in ("0", "f", "false"):
        return False
    raise _bad(text, f"{key} is true or false")


def _settle(output: Output, values: dict[str, str], text: str) -> None:
    """What keys mean together."""
    kind, level = output.compression.kind, output.compression.level
    if "compression-level" in values:
        low, high = LEVELS.get(kind, (0, -1))
        if not low <= level <= high:
            known = f"it is {low} to {high}" if high > 0 else "it has no levels"
            raise _bad(
                text, f"compression-level {values['compression-level']!r} of {kind}: {known}"
            )
    if output.kind == "docker" and not output.dest:
        output.kind, output.store = "image", True
    elif output.kind in ("oci", "docker", "tar") and not output.dest:
        output.dest = STDOUT
    if output.kind in ("oci", "docker") and not output.tar and output.dest == STDOUT:
        raise _bad(text, "dest must be a directory where tar is false")
    if output.kind == "local" and output.dest in ("", STDOUT):
        raise _bad(text, "dest is required, and a directory")
    needs = [
        name
        for name, said in (("zstd", kind == "zstd"), ("annotations", bool(output.annotations)))
        if said
    ]
    if needs and output.oci_types is False:
        raise _bad(text, f"oci-mediatypes=false goes not with {needs[0]}")


def annotation_key(key: str, text: str) -> tuple[str, str]:
    """(scope, name) of a key ``annotation[-SCOPE][[PLATFORM]].NAME``; raises UsageError."""
    head, dot, name = key.partition(".")
    scope = head[len("annotation") :].partition("[")[0].lstrip("-") or "manifest"
    if not dot or not name or scope not in _SCOPES:
        raise _bad(text, f"{key!r} is no annotation")
    return scope, name


def annotation(text: str) -> list[tuple[str, str, str]]:
    """(scope, name, value) of a value of --annotation: ``[SCOPE[,SCOPE]:]NAME=VALUE``; raises UsageError."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"invalid --annotation {text!r}: it is not NAME=VALUE")
    scopes = ["manifest"]
    head, colon, rest = name.partition(":")
    if colon:
        scopes = [scope.partition("[")[0].strip() for scope in head.split(",")]
        name = rest
    for scope in scopes:
        if scope not in _SCOPES:
            raise UsageError(
                f"invalid --annotation {text!r}: {scope!r} is none of {', '.join(_SCOPES)}"
            )
    if not name:
        raise UsageError(f"invalid --annotation {text!r}: it has no name")
    return [(scope, name, value) for scope in scopes]


def annotate(found: Sequence[Output], texts: Sequence[str], *, indexed: bool = False) -> None:
    """Add --annotation values to all images; INDEXED: they get an index.  Raises UsageError."""
    for text in texts:
        for scope, name, value in annotation(text):
            for output in found:
                if output.has_image:
                    output.annotations.setdefault(scope, {})[name] = value
    for output in found:
        if output.oci_types is False and output.annotations:
            raise UsageError("annotations go not with oci-mediatypes=false")
        file = output.kind in ("oci", "docker")
        for scope in output.annotations:
            lone = scope == "manifest" or (scope == "manifest-descriptor" and file)
            if not indexed and not lone:
                raise UsageError(f"{scope} annotations are for images with an index", exit_code=1)
