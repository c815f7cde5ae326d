"""Which proxy a URL goes through, by the environment variables that curl and Docker read.

Loopback never goes through a proxy: there it would mean another machine.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def is_loopback(host: str) -> bool:
    """Whether HOST, with or without a port, is this machine."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def proxy_for(url: str, env: Mapping[str, str]) -> str:
    """URL of the proxy for URL, or "" for a direct connection."""
    parts = urlsplit(url)
    name = f"{parts.scheme}_proxy"
    # An upper-case HTTP_PROXY is ignored in CGI, where a client can set it.
    upper = "" if name == "http_proxy" and env.get("REQUEST_METHOD") else env.get(name.upper(), "")
    proxy = env.get(name) or upper or env.get("all_proxy") or env.get("ALL_PROXY") or ""
    if not proxy or is_loopback(parts.netloc) or _excluded(parts.hostname or "", parts.port, env):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _excluded(host: str, port: int | None, env: Mapping[str, str]) -> bool:
    text = env.get("no_proxy") or env.get("NO_PROXY") or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for word in text.replace(",", " ").split():
        if word == "*":
            return True
        if "/" in word and address is not None:
            try:
                if address in ipaddress.ip_network(word, strict=False):
                    return True
            except ValueError:
                pass
            continue
        name, colon, wanted = word.rpartition(":")
        if not colon or not wanted.isdigit() or word.endswith("]"):
            name, wanted = word, ""
        name = name.strip("[]").lstrip("*").lstrip(".").lower()
        if wanted and wanted != str(port or ""):
            continue
        if name and (host == name or host.endswith("." + name)):
            return True
    return False
