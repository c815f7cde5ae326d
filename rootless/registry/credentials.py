"""Credentials: Docker's config.json and credential helpers, Podman's auth.json.

Looked up in this order: $REGISTRY_AUTH_FILE, $DOCKER_CONFIG/config.json (or ~/.docker/config.json),
$XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json.  The first file that knows the
registry wins.  Nothing is written, and no secret is ever part of a message.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import subprocess

from rootless.errors import RegistryAuthError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

HUB = "docker.io"
HUB_KEY = "https://index.docker.io/v1/"
HELPER_TIMEOUT = 60


class Credentials:
    """A user name with a password, or an identity token (password of the OAuth2 kind)."""

    __slots__ = ("identity_token", "password", "user")

    def __init__(self, user: str = "", password: str = "", identity_token: str = "") -> None:
        self.user = user
        self.password = password
        self.identity_token = identity_token

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, ...)"


def lookup(domain: str, path: str, env: Mapping[str, str]) -> Credentials | None:
    """What is known for a repository, most specific first; None for an anonymous request."""
    for name in files(env):
        try:
            with open(name, encoding="utf-8") as file:
                config = json.load(file)
        except FileNotFoundError:
            continue
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise RegistryAuthError(f"cannot read credentials from {name}: {reason}") from None
        except (ValueError, RecursionError):
            raise RegistryAuthError(f"cannot read credentials from {name}: not JSON") from None
        if isinstance(config, dict):
            found = _from_config(config, domain, path, name, env)
            if found is not None:
                return found
    return None


def files(env: Mapping[str, str]) -> list[str]:
    """Paths where credentials may lie, in the order they are asked."""
    home = env.get("HOME") or "/nonexistent"
    docker = env.get("DOCKER_CONFIG") or f"{home}/.docker"
    found = [f"{docker}/config.json"]
    if env.get("XDG_RUNTIME_DIR"):
        found.append(f"{env['XDG_RUNTIME_DIR']}/containers/auth.json")
    if env.get("REGISTRY_AUTH_FILE"):
        found.insert(0, env["REGISTRY_AUTH_FILE"])
    found.append(f"{env.get('XDG_CONFIG_HOME') or f'{home}/.config'}/containers/auth.json")
    return found


def _keys(domain: str, path: str) -> list[str]:
    parts = path.split("/")
    keys = [f"{domain}/{'/'.join(parts[:end])}" for end in range(len(parts), 0, -1)]
    keys += [domain, f"https://{domain}", f"http://{domain}"]
    keys += [f"https://{domain}/v1/", f"https://{domain}/v2/"]
    if domain == HUB:
        keys += [HUB_KEY, "index.docker.io"]
    return keys


def _from_config(
    config: dict[str, Any], domain: str, path: str, name: str, env: Mapping[str, str]
) -> Credentials | None:
    helpers = config.get("credHelpers")
    known = helpers if isinstance(helpers, dict) else {}
    helper = known.get(domain) or (known.get(HUB_KEY) if domain == HUB else None)
    helper = helper or config.get("credsStore")
    if isinstance(helper, str) and helper:
        found = _ask_helper(helper, HUB_KEY if domain == HUB else domain, env)
        if found is not None:
            return found
    auths = config.get("auths")
    if not isinstance(auths, dict):
        return None
    for key in _keys(domain, path):
        entry = auths.get(key)
        if isinstance(entry, dict):
            return _from_entry(entry, key, name)
    return None


def _from_entry(entry: dict[str, Any], key: str, name: str) -> Credentials | None:
    if entry.get("identitytoken"):
        return Credentials(identity_token=str(entry["identitytoken"]))
    if entry.get("username"):
        return Credentials(str(entry["username"]), str(entry.get("password", "")))
    text = entry.get("auth")
    if not text:
        return None
    try:
        user, _, password = base64.b64decode(text).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise RegistryAuthError(
            f"cannot read credentials from {name}: the entry for {key} is not base64"
        ) from None
    return Credentials(user, password.rstrip("\0"))


def _ask_helper(helper: str, server: str, env: Mapping[str, str]) -> Credentials | None:
    """Run docker-credential-HELPER get; None where it knows nothing of SERVER."""
    program = shutil.which(f"docker-credential-{helper}", path=env.get("PATH"))
    if program is None or "/" in helper:
        raise RegistryAuthError(
            f"cannot run credential helper docker-credential-{helper}: it is not in PATH"
        )
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=HELPER_TIMEOUT,
            check=False,
            env=dict(env),
        )
    except subprocess.TimeoutExpired:
        raise RegistryAuthError(
            f"cannot run credential helper {program}: no answer in {HELPER_TIMEOUT} seconds"
        ) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise RegistryAuthError(f"cannot run credential helper {program}: {reason}") from None
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).decode("utf-8", "replace").split())
        if "credentials not found" in said:  # the protocol's only way to say so
            return None
        raise RegistryAuthError(f"cannot get credentials from {program}: {said[:200]}")
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise RegistryAuthError(
            f"cannot get credentials from {program}: its answer is not what the protocol says"
        ) from None
    if user == "<token>":
        return Credentials(identity_token=secret)
    return Credentials(user, secret) if user or secret else None
