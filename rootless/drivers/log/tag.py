"""The option ``tag``: a template of a container's names, as ``{{.Name}}/{{.ID}}``.

Docker expands any Go template here; its documentation names the fields below, and those are known.
"""

from __future__ import annotations

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .base import LogInfo

DEFAULT = "{{.ID}}"


def _fields(info: LogInfo) -> dict[str, str]:
    image_id = info.image_id.partition(":")[2] or info.image_id
    return {
        "ID": info.id[:12],
        "FullID": info.id,
        "ContainerID": info.id,
        "Name": info.name,
        "ContainerName": f"/{info.name}",
        "ImageID": image_id[:12],
        "ImageFullID": info.image_id,
        "ContainerImageID": info.image_id,
        "ImageName": info.image,
        "ContainerImageName": info.image,
        "Command": info.command,
        "Hostname": info.host,
        "DaemonName": "rootless",
    }


def expand(template: str, info: LogInfo) -> str:
    """TEMPLATE with its fields filled in, on one line; raises UsageError for others than those above."""
    fields = _fields(info)
    out, rest = "", template
    while rest:
        before, begin, rest = rest.partition("{{")
        out += before
        if not begin:
            break
        inside, end, rest = rest.partition("}}")
        name = inside.strip("- ").removeprefix(".")
        if not end or not inside.strip("- ").startswith(".") or name not in fields:
            raise UsageError(
                f"failed to initialize logging driver: cannot parse tag {template!r}: "
                f"known are {', '.join(f'{{{{.{field}}}}}' for field in fields)}"
            )
        out += fields[name]
    return "".join(c if c >= " " and c != "\x7f" else "_" for c in out)
