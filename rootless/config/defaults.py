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
    "storage.local": "auto",
    "idmap.mode": "auto",
    "network.default": "auto",
    "network.host_access": [],
    "network.pools": [],
    "network.metadata": "deny",
    "network.idle": 30,
    "network.uplink": "auto",
    "network.ipv6": "no",
    "cgroup.driver": "auto",
    "run.detach_keys": "ctrl-p,ctrl-q",
    "run.log_driver": "json-file",
    "run.log_max_size": "0",
    "run.log_max_file": 1,
    "run.log_opts": [],
    "run.stop_timeout": 10,
    "run.advice": "once",
    "run.resume": "auto",
    "run.strict_limits": "no",
    "events.max_size": 4194304,
    "registry.insecure": [],
    "registry.mirrors": [],
    "pull.parallel": 3,
    "helpers.libexec": "",
}

# Words that are all there is.
CHOICES: dict[str, tuple[str, ...]] = {
    "network.ipv6": ("yes", "no"),
    "network.metadata": ("deny", "allow"),
    "run.resume": ("auto", "off"),
    "run.strict_limits": ("yes", "no"),
}

# Numbers below these make no sense.
LEAST: dict[str, int] = {
    "run.log_max_file": 1,
    "run.stop_timeout": -1,
    "pull.parallel": 1,
    "network.idle": 0,
    "events.max_size": 4096,
}
