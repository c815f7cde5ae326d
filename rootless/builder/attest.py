"""What is to be said of an image beside it: --attest, --provenance, --sbom, and the statements themselves.

Statements are in-toto's; provenance is SLSA's predicate of version 1 in the shape that BuildKit gives it.
Pure: who knows what happened gives it as values.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote

from rootless import jsonc
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

PROVENANCE = "https://slsa.dev/provenance/v1"
SPDX = "https://spdx.dev/Document"
STATEMENT = "https://in-toto.io/Statement/v0.1"
BUILD_TYPE = "urn:rootless:build:dockerfile:v1"


class Wanted:
    """PROVENANCE: "", min or max; SBOM: whether there is one, by the scanner image GENERATOR or by us."""

    __slots__ = ("generator", "provenance", "sbom")

    def __init__(self) -> None:
        self.provenance = ""
        self.sbom = False
        self.generator = ""

    def __bool__(self) -> bool:
        return bool(self.provenance or self.sbom)


def parse(attest: Sequence[str], provenance: str, sbom: str) -> Wanted:
    """The values of --attest (several), --provenance and --sbom ("" for not given); raises UsageError."""
    wanted = Wanted()
    for text in attest:
        fields = text.split(",")
        kinds = [field[5:] for field in fields if field.startswith("type=")]
        rest = ",".join(field for field in fields if not field.startswith("type="))
        if len(kinds) != 1 or kinds[0] not in ("provenance", "sbom"):
            raise UsageError(f"invalid --attest {text!r}: type is provenance or sbom")
        _take(wanted, kinds[0], rest or "true")
    for kind, value in (("provenance", provenance), ("sbom", sbom)):
        if value:
            _take(wanted, kind, value)
    return wanted


def _take(wanted: Wanted, kind: str, text: str) -> None:
    on, mode, generator = True, "min", ""
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if not equals:
            key, value = "disabled", {"true": "false", "false": "true"}.get(key, "?")
        if key == "disabled" and value in ("true", "false", "1", "0"):
            on = value in ("false", "0")
        elif key == "mode" and kind == "provenance" and value in ("min", "max"):
            mode = value
        elif key == "version" and kind == "provenance" and value == "v1":
            pass
        elif key == "generator" and kind == "sbom" and value:
            generator = value
        else:
            raise UsageError(f"invalid --{kind} {text!r}: {field!r} is not known")
    if kind == "provenance":
        wanted.provenance = mode if on else ""
    else:
        wanted.sbom, wanted.generator = on, generator


class Facts:
    """What happened in a build.

    materials  base images: name -> (digest of the manifest, platform)
    """

    def __init__(self, **values: Any) -> None:
        self.path = ""
        self.source = ""
        self.target = ""
        self.build_args: Mapping[str, str] = {}
        self.labels: Mapping[str, str] = {}
        self.secrets: Sequence[str] = ()
        self.agents: Sequence[str] = ()
        self.platform = ""
        self.started = ""
        self.finished = ""
        self.materials: Mapping[str, tuple[str, str]] = {}
        for key, value in values.items():
            setattr(self, key, value)


def purl(name: str, tag: str, platform: str) -> str:
    """The package URL of an image."""
    return f"pkg:docker/{name}@{quote(tag, safe='')}?platform={quote(platform, safe='')}"


def provenance(facts: Facts, mode: str) -> dict[str, Any]:
    """The SLSA predicate: MODE min leaves out what was passed in, and the Dockerfile's text."""
    args: dict[str, str] = {"target": facts.target} if facts.target else {}
    request: dict[str, Any] = {
        "frontend": "dockerfile.v0",
        "args": args,
        "locals": [{"name": "context"}, {"name": "dockerfile"}],
    }
    metadata: dict[str, Any] = {}
    if mode == "max":
        args.update({f"build-arg:{key}": value for key, value in facts.build_args.items()})
        args.update({f"label:{key}": value for key, value in facts.labels.items()})
        request["secrets"] = [{"id": name} for name in sorted(facts.secrets)]
        request["ssh"] = [{"id": name} for name in sorted(facts.agents)]
        import base64

        data = base64.b64encode(facts.source.encode()).decode()
        info = {"filename": facts.path, "language": "Dockerfile", "data": data}
        metadata["buildkit_metadata"] = {"source": {"infos": [info]}}
    materials = []
    for name, (digest, platform) in sorted(facts.materials.items()):
        algorithm, _, value = digest.partition(":")
        repository, _, tag = name.partition(":") if "/" not in name else _tagged(name)
        materials.append(
            {"uri": purl(repository, tag or "latest", platform), "digest": {algorithm: value}}
        )
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": {"configSource": {"path": facts.path}, "request": request},
        "internalParameters": {"builderPlatform": facts.platform},
        "resolvedDependencies": materials,
    }
    invocation = [definition, facts.started, facts.finished]
    metadata.update(
        invocationId=hashlib.sha256(jsonc.dumps(invocation).encode()).hexdigest()[:25],
        startedOn=facts.started,
        finishedOn=facts.finished,
        buildkit_completeness={"request": mode == "max", "resolvedDependencies": False},
    )
    details = {"builder": {"id": ""}, "metadata": metadata}
    return {"buildDefinition": definition, "runDetails": details}


def _tagged(name: str) -> tuple[str, str, str]:
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    return head + slash + last, colon, tag


def statement(
    kind: str, predicate: Mapping[str, Any], subjects: Sequence[str], digest: str
) -> dict[str, Any]:
    """An in-toto statement that says PREDICATE of the manifest DIGEST."""
    algorithm, _, value = digest.partition(":")
    return {
        "_type": STATEMENT,
        "predicateType": kind,
        "subject": [
            {"name": name, "digest": {algorithm: value}} for name in (list(subjects) or ["_"])
        ],
        "predicate": predicate,
    }
