"""Which certificates vouch for a registry.

The system's authorities, or those of $SSL_CERT_FILE and $SSL_CERT_DIR in their place; and beside them the
``*.crt`` files of the first certs.d directory that knows the host, with ``NAME.cert`` and ``NAME.key`` as our
own certificate for it.
"""

from __future__ import annotations

import os
import ssl

from rootless.errors import RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Where distributions keep their authorities; for a Python that was built elsewhere and looks elsewhere.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def certs_dirs(host: str, env: Mapping[str, str]) -> list[str]:
    """Where certificates for HOST (with its port) may lie; the first that exists wins."""
    home = env.get("HOME") or "/nonexistent"
    config = env.get("XDG_CONFIG_HOME") or f"{home}/.config"
    docker = env.get("DOCKER_CONFIG") or f"{home}/.docker"
    bases = (
        f"{config}/rootless/certs.d",
        f"{config}/docker/certs.d",
        f"{docker}/certs.d",
        f"{config}/containers/certs.d",
        "/etc/rootless/certs.d",
        "/etc/containers/certs.d",
        "/etc/docker/certs.d",
    )
    return [f"{base}/{host}" for base in bases]


def context(host: str, env: Mapping[str, str], *, verify: bool = True) -> ssl.SSLContext:
    """How to speak TLS to HOST; raises RegistryError naming the file that cannot be used."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    else:
        _load_authorities(made, env)
    for directory in certs_dirs(host, env):
        try:
            names = sorted(os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _unusable(directory, error) from None
        _load_directory(made, directory, names)
        break
    return made


def _load_authorities(made: ssl.SSLContext, env: Mapping[str, str]) -> None:
    bundle, directory = env.get("SSL_CERT_FILE"), env.get("SSL_CERT_DIR")
    if bundle:
        _load_file(made, bundle)
    if directory:
        made.load_verify_locations(capath=directory)
    if bundle or directory:
        return
    made.load_default_certs()
    found = ssl.get_default_verify_paths()
    if not made.cert_store_stats()["x509_ca"] and not (found.cafile or found.capath):
        for path in _BUNDLES:
            if os.path.exists(path):
                _load_file(made, path)
                return


def _load_directory(made: ssl.SSLContext, directory: str, names: list[str]) -> None:
    for name in names:
        path = f"{directory}/{name}"
        if name.endswith(".crt"):
            _load_file(made, path)
        elif name.endswith(".cert"):
            key = f"{path[: -len('.cert')]}.key"
            try:
                os.stat(key)
                made.load_cert_chain(path, key, password="")  # never ask on the terminal
            except (OSError, ValueError) as error:
                raise _unusable(f"{path} with {key}", error) from None


def _load_file(made: ssl.SSLContext, path: str) -> None:
    try:
        made.load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from None


def _unusable(path: str, error: Exception) -> RegistryError:
    if isinstance(error, ssl.SSLError):
        reason = "it holds no PEM certificate"
        if "KEY" in str(error):
            reason = "they are no certificate and its key"
    elif isinstance(error, OSError):
        reason = os.strerror(error.errno or 0).lower()
    else:
        reason = str(error)
    return RegistryError(f"cannot use certificate {path}: {reason}")
