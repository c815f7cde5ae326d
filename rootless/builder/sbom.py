"""A list of an image's packages as an SPDX document, from what package managers write down.

Knows dpkg (with distroless' one file each), apk and Python's installed distributions.  Pure: it is given
files, which are hostile; what does not read as expected is passed over.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

MAX_FILE = 64 << 20
MAX_PACKAGES = 200_000


class Package:
    """A package: KIND (deb, apk, pypi), NAME, VERSION, ARCH or "", where it was found."""

    __slots__ = ("arch", "kind", "name", "version")

    def __init__(self, kind: str, name: str, version: str, arch: str = "") -> None:
        self.kind = kind
        self.name = name
        self.version = version
        self.arch = arch

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes it another."""
        return self.kind, self.name, self.version, self.arch


def wants(name: str) -> bool:
    """Whether the file NAME (a path below the root) says something of packages."""
    return bool(_kind(name))


def _kind(name: str) -> str:
    if name == "var/lib/dpkg/status" or (
        name.startswith("var/lib/dpkg/status.d/") and not name.endswith(".md5sums")
    ):
        return "deb"
    if name in ("lib/apk/db/installed", "usr/lib/apk/db/installed"):
        return "apk"
    parts = name.split("/")
    metadata = (
        parts[-1] == "METADATA" and parts[-2].endswith(".dist-info") if len(parts) > 1 else False
    )
    legacy = (
        parts[-1] == "PKG-INFO" and parts[-2].endswith(".egg-info") if len(parts) > 1 else False
    )
    return "pypi" if metadata or legacy else ""


def packages(name: str, data: bytes) -> list[Package]:
    """The packages that the file NAME tells of."""
    kind, text = _kind(name), data.decode("utf-8", "replace")
    if kind == "pypi":
        head = _fields(text.split("\n\n", 1)[0], ": ")
        found = [Package("pypi", head.get("Name", ""), head.get("Version", ""))]
    elif kind == "apk":
        blocks = [_fields(block, ":") for block in text.split("\n\n")]
        found = [Package("apk", b.get("P", ""), b.get("V", ""), b.get("A", "")) for b in blocks]
    else:
        blocks = [_fields(block, ": ") for block in text.split("\n\n")]
        found = [
            Package("deb", b.get("Package", ""), b.get("Version", ""), b.get("Architecture", ""))
            for b in blocks
            if b.get("Status", "install ok installed").endswith(" installed")
        ]
    return [package for package in found if package.name and package.version]


def _fields(block: str, separator: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in block.split("\n"):
        key, found_one, value = line.partition(separator)
        if found_one and key and not key[0].isspace():
            found.setdefault(key, value.strip())
    return found


def distribution(data: bytes) -> str:
    """The ID of an os-release file."""
    fields = _fields(data.decode("utf-8", "replace"), "=")
    return fields.get("ID", "").strip("\"'")


def document(
    found: Iterable[Package], name: str, distro: str, created: str, tool: str
) -> dict[str, Any]:
    """The SPDX document; the same packages give the same bytes."""
    listed = sorted({package.key: package for package in found}.values(), key=lambda p: p.key)
    listed = listed[:MAX_PACKAGES]
    entries = [_entry(package, distro) for package in listed]
    joined = "\n".join("\t".join(package.key) for package in listed)
    unique = hashlib.sha256(f"{name}\n{created}\n{joined}".encode()).hexdigest()
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"urn:rootless:sbom:{unique}",
        "creationInfo": {"created": created, "creators": [f"Tool: {tool}"]},
        "packages": entries,
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": entry["SPDXID"],
            }
            for entry in entries
        ],
    }


def _entry(package: Package, distro: str) -> dict[str, Any]:
    unique = hashlib.sha256("\t".join(package.key).encode()).hexdigest()[:16]
    name = package.name.lower().replace("_", "-") if package.kind == "pypi" else package.name
    space = f"{quote(distro)}/" if package.kind != "pypi" and distro else ""
    arch = f"?arch={quote(package.arch)}" if package.arch else ""
    place = f"pkg:{package.kind}/{space}{quote(name)}@{quote(package.version)}{arch}"
    return {
        "SPDXID": f"SPDXRef-Package-{package.kind}-{unique}",
        "name": package.name,
        "versionInfo": package.version,
        "supplier": "NOASSERTION",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": place,
            }
        ],
    }
