"""Every setting with its default; conf/rootless.toml documents the same table (a test compares them)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    Value = Union[str, int, list[str]]

DEFAULTS: dict[str, Value] = {
    "storage.root": "",
    "storage.runtime_dir": "",
    "storage.driver": "auto",
    "idmap.mode": "auto",
    "run.network": "host",
    "run.detach_keys": "ctrl-p,ctrl-q",
    "run.log_driver": "json-file",
    "run.log_max_size": "0",
    "run.log_max_file": 1,
    "run.stop_timeout": 10,
    "registry.insecure": [],
    "registry.mirrors": [],
    "pull.parallel": 3,
    "helpers.libexec": "",
}

# Numbers below these make no sense.
LEAST: dict[str, int] = {"run.log_max_file": 1, "run.stop_timeout": -1, "pull.parallel": 1}
