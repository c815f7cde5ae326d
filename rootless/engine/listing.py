"""Containers and images as rows: what `ps` and `images` show, before any wording.

Reads the stores and gives plain values; knows no columns, no filters and no formats.  What vanishes
while it is listed is left out.
"""

from __future__ import annotations

from rootless import jsonc
from rootless.errors import NotFoundError
from rootless.plan.network import DEFAULT_NETWORK, mode

from . import endpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.store.containers import Container

    from .context import Context

    Port = tuple[int, str, str, int]

RUNNING = ("running", "restarting", "paused")


def ps_rows(ctx: Context, *, all: bool = False) -> list[dict[str, Any]]:  # noqa: A002
    """A row per container, the newest first; without ALL only those that run.

    Keys: id, name, image (as typed), image_id, command (list), created (epoch seconds), status, state
    (the state file), labels, mounts (list of MountRequest dicts), image_mounts (IDs of the images that are
    mounted), networks (names), ports (see :func:`ports`), driver, request, image_config, dir, health.
    """
    rows = []
    for container, state in ctx.containers.scan():
        if all or state["status"] in RUNNING:
            try:
                rows.append(_row(container, state))
            except NotFoundError:
                continue  # removed while we looked
    rows.sort(key=lambda row: (-row["created"], row["id"]))
    return rows


def _row(container: Container, state: dict[str, Any]) -> dict[str, Any]:
    record = container.record
    request = record.get("request") or {}
    image = record.get("image_config") or {}
    return {
        "id": container.id,
        "name": container.name,
        "image": record.get("image") or request.get("rootfs") or "",
        "image_id": record.get("image_id") or "",
        "command": [record.get("path") or "", *(record.get("args") or [])],
        "created": float(record.get("created") or 0),
        "status": state["status"],
        "state": state,
        "labels": labels(request, image),
        "mounts": request.get("mounts") or [],
        "networks": networks(request),
        "ports": ports(container.dir, request, image) if state["status"] in RUNNING else [],
        "image_mounts": [m["image_id"] for m in (record.get("image_mounts") or {}).values()],
        "driver": record.get("driver") or "",
        "request": request,
        "image_config": image,
        "dir": container.dir,
        "health": _health(container.dir, state["status"], request, image),
    }


def _health(
    directory: str, status: str, request: Mapping[str, Any], image: Mapping[str, Any]
) -> str:
    """starting, healthy or unhealthy; "" where nothing is checked."""
    if status not in RUNNING or not (request.get("health") or image.get("healthcheck")):
        return ""
    from . import health

    return health.status(directory, status, health.asked(request, image))


def labels(request: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, str]:
    """A container's labels: the image's, then the request's over them."""
    return {**(image.get("labels") or {}), **(request.get("labels") or {})}


def networks(request: Mapping[str, Any]) -> list[str]:
    """The names of a container's networks, sorted; none for one that shares another's, or has pasta."""
    name = str(request.get("network") or "")
    kind = mode(name)
    if kind in ("none", "host"):
        return [kind]
    if kind != "bridge" or request.get("unplugged"):
        return []
    found = [str(values["network"]) for values in request.get("endpoints") or ()]
    plain = DEFAULT_NETWORK if name in ("", "default") else name
    return sorted("bridge" if one in ("", "default") else one for one in found or [plain])


def ports(directory: str, request: Mapping[str, Any], image: Mapping[str, Any]) -> list[Port]:
    """Ports of a running container: (number, protocol, host address, host port), the last two "" and 0 where
    the port is exposed and not published.  None where it has no network of its own.
    """
    if mode(str(request.get("network") or "")) in ("host", "none", "container"):
        return []
    found: list[Port] = _own(request) or [
        (port["container_port"], port["protocol"], port["host_ip"], port["host_port"])
        for port in endpoints.report(directory)["ports"]
    ]
    if request.get("expose") or image.get("exposed_ports"):
        from rootless.plan import ports as grammar

        known = {(number, protocol) for number, protocol, _, _ in found}
        for name in grammar.exposed(request.get("expose") or (), image.get("exposed_ports") or {}):
            number, _, protocol = name.partition("/")
            if (int(number), protocol) not in known:
                found.append((int(number), protocol, "", 0))
    return found


def _own(request: Mapping[str, Any]) -> list[Port]:
    """What the program of a network of its own publishes: as it was settled at creation."""
    if mode(str(request.get("network") or "")) == "bridge" or not request.get("publish"):
        return []
    from rootless.plan import ports as grammar

    return [
        (port.container_port, port.protocol, port.host_ip or "0.0.0.0", port.host_port)
        for port in grammar.parse_ports(request["publish"])
    ]


def image_size(ctx: Context, image_id: str) -> int:
    """Bytes of an image's layers; 0 where the image is gone."""
    for image in ctx.images.list():
        if image.id == image_id:
            return int(image.size)
    return 0


def familiar(reference: str) -> str:
    """A full reference as people write it: without the default registry and namespace."""
    return reference.removeprefix("docker.io/").removeprefix("library/")


def split_reference(reference: str) -> tuple[str, str, str]:
    """(repository, tag, digest) of a reference; what it lacks is empty."""
    name, _, digest = reference.partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{head}{slash}{last}", tag, digest


def image_rows(ctx: Context) -> list[dict[str, Any]]:
    """A row per image, in no order.

    Keys: id, references (full names), repo_tags, repo_digests (familiar names), created (RFC 3339 or
    ""), size (bytes), labels, config.
    """
    rows = []
    for image in ctx.images.list():
        config = image.config or {}
        references = list(image.references)
        rows.append(
            {
                "id": image.id,
                "references": references,
                "repo_tags": [familiar(r) for r in references if "@" not in r],
                "repo_digests": [familiar(r) for r in image.repo_digests],
                "created": image.created,
                "size": int(image.size),
                "labels": (config.get("config") or {}).get("Labels") or {},
                "config": config,
            }
        )
    return rows


def users_of_images(ctx: Context) -> dict[str, list[tuple[str, bool]]]:
    """Image ID -> (container ID, whether it runs) of each container made from it."""
    found: dict[str, list[tuple[str, bool]]] = {}
    for row in ps_rows(ctx, all=True):
        user = (row["id"], row["status"] in RUNNING)
        for image_id in {row["image_id"], *row["image_mounts"]} - {""}:
            found.setdefault(image_id, []).append(user)
    return found


def spec_of(run_dir: str) -> dict[str, Any]:
    """The runtime spec a container was last started with in this boot, or an empty dict."""
    try:
        with open(f"{run_dir}/config.json", "rb") as file:
            found = jsonc.loads(file.read())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
