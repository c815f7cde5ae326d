# ruff: noqa: E501  (a table reads best one row to a line)
"""Flags of `run` and `create`, as data; see options.py for what a row holds.

The whole grammar of Docker is here.  What rootless does not do yet is parsed and checked all the same
and says so in its ``later`` text, which the verb prints as a warning: nothing is dropped silently.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Row

_WINDOWS = "it concerns Windows containers only"
_TRUST = "signatures are not verified; digests always are"

_COMMON: tuple[Row, ...] = (
    ("add-host", "", "list", "list", "Add a line to /etc/hosts: name:address or name=address; host-gateway is the host"),
    ("annotation", "", "list", "map", "Add an annotation to the runtime spec: key=value"),
    ("attach", "a", "list", "list", "Attach to stdin, stdout or stderr"),
    ("blkio-weight", "", "int", "uint16", "Block I/O weight, 10 to 1000"),
    ("blkio-weight-device", "", "list", "list", "Block I/O weight of a device"),
    ("cap-add", "", "list", "list", "Add a capability"),
    ("cap-drop", "", "list", "list", "Drop a capability"),
    ("cgroup-conf", "", "list", "map", "Set a file of the container's control group: memory.high=64M"),
    ("cgroup-parent", "", "str", "string", "Parent control group"),
    ("cgroupns", "", "str", "string", "Cgroup namespace: host or private", "", None, (), ("host", "private")),
    ("cidfile", "", "str", "file", "Write the container ID to a file that does not exist yet"),
    ("cpu-count", "", "int", "int", "Number of CPUs (Windows)", _WINDOWS),
    ("cpu-percent", "", "int", "int", "Share of CPUs (Windows)", _WINDOWS),
    ("cpu-period", "", "int", "int", "Length of a CPU quota period, in microseconds"),
    ("cpu-quota", "", "int", "int", "CPU time per period, in microseconds"),
    ("cpu-rt-period", "", "int", "int", "Real-time CPU period"),
    ("cpu-rt-runtime", "", "int", "int", "Real-time CPU time per period"),
    ("cpu-shares", "c", "int", "int", "CPU weight relative to other containers"),
    ("cpus", "", "decimal", "decimal", "Number of CPUs, as 1.5"),
    ("cpuset-cpus", "", "str", "string", "CPUs to run on: 0-3 or 0,1"),
    ("cpuset-mems", "", "str", "string", "Memory nodes to use: 0-3 or 0,1"),
    ("device", "", "list", "list", "Add a device: host[:container[:rwm]]"),
    ("device-cgroup-rule", "", "list", "list", "Device access rule", "device access is what the host gives its user"),
    ("device-read-bps", "", "list", "list", "Limit bytes read per second from a device"),
    ("device-read-iops", "", "list", "list", "Limit reads per second from a device"),
    ("device-write-bps", "", "list", "list", "Limit bytes written per second to a device"),
    ("device-write-iops", "", "list", "list", "Limit writes per second to a device"),
    ("disable-content-trust", "", "bool", "", "Skip image signature verification", _TRUST),
    ("dns", "", "list", "list", "Use this name server"),
    ("dns-option", "", "list", "list", "Set a resolver option", "", None, ("dns-opt",)),
    ("dns-search", "", "list", "list", "Search names in this domain"),
    ("domainname", "", "str", "string", "NIS domain name of the container"),
    ("entrypoint", "", "str", "string", "Run this instead of the image's entrypoint"),
    ("env", "e", "list", "list", "Set an environment variable: KEY=VALUE, or KEY for the caller's"),
    ("env-file", "", "list", "file", "Read environment variables from a file"),
    ("expose", "", "list", "list", "Note a port as used by the container"),
    ("gpus", "", "str", "gpu-request", "Add GPUs", "GPUs cannot be added yet"),
    ("group-add", "", "list", "list", "Add a supplementary group"),
    ("health-cmd", "", "str", "string", "Command that checks health"),
    ("health-interval", "", "duration", "duration", "Time between health checks"),
    ("health-on-failure", "", "str", "string", "What to do with an unhealthy container: none, kill, restart or stop", "", "none", (), ("none", "kill", "restart", "stop")),
    ("health-retries", "", "int", "int", "Failures in a row that mean unhealthy"),
    ("health-start-interval", "", "duration", "duration", "Time between health checks at start"),
    ("health-start-period", "", "duration", "duration", "Time to start before failures count"),
    ("health-timeout", "", "duration", "duration", "Longest time a health check may take"),
    ("hostname", "h", "str", "string", "Host name of the container"),
    ("init", "", "bool", "", "Run an init that forwards signals and reaps processes"),
    ("interactive", "i", "bool", "", "Keep stdin open"),
    ("io-maxbandwidth", "", "bytes", "bytes", "Limit I/O bandwidth (Windows)", _WINDOWS),
    ("io-maxiops", "", "int", "uint", "Limit I/O operations (Windows)", _WINDOWS),
    ("ip", "", "str", "string", "IPv4 address"),
    ("ip6", "", "str", "string", "IPv6 address"),
    ("ipc", "", "str", "string", "IPC namespace: private, shareable, none, host or container:NAME"),
    ("isolation", "", "str", "string", "Isolation technology (Windows)", _WINDOWS),
    ("kernel-memory", "", "bytes", "bytes", "Limit kernel memory"),
    ("label", "l", "list", "list", "Set a label: key=value"),
    ("label-file", "", "list", "file", "Read labels from a file"),
    ("link", "", "list", "list", "Reach another container by a further name: name:alias"),
    ("link-local-ip", "", "list", "list", "Link-local address"),
    ("log-driver", "", "str", "string", "Where output is logged: json-file, local, journald, syslog, none or passthrough", "", None, (), ("json-file", "local", "journald", "syslog", "none", "passthrough")),
    ("log-opt", "", "list", "list", "Option of the log driver: max-size=10m, max-file=3, compress=true, mode=non-blocking, tag={{.Name}}"),
    ("mac-address", "", "str", "string", "MAC address"),
    ("memory", "m", "bytes", "bytes", "Limit memory"),
    ("memory-reservation", "", "bytes", "bytes", "Memory to keep under pressure"),
    ("memory-swap", "", "bytes", "bytes", "Limit memory and swap together; -1 for no limit"),
    ("memory-swappiness", "", "int", "int", "Readiness to swap, 0 to 100"),
    ("mount", "", "list", "mount", "Mount something: type=volume|bind|tmpfs|image, source and target"),
    ("name", "", "str", "string", "Name of the container"),
    ("network", "", "list", "network", "Network: bridge, host, none, container:NAME, pasta, slirp4netns, a name, or name=NAME,alias=NAME,ip=ADDRESS", "", None, ("net",), ("bridge", "host", "none", "pasta", "slirp4netns")),
    ("network-alias", "", "list", "list", "Further name on the network", "", None, ("net-alias",)),
    ("network-opt", "", "list", "map", "Option of the network: fast=connect"),
    ("no-healthcheck", "", "bool", "", "Do not run the image's health check"),
    ("oom-kill-disable", "", "bool", "", "Do not kill processes when memory runs out"),
    ("oom-score-adj", "", "int", "int", "Tune the kernel's choice when memory runs out, -1000 to 1000"),
    ("pid", "", "str", "string", "PID namespace: private, host or container:NAME"),
    ("pids-limit", "", "int", "int", "Limit processes and threads; -1 for no limit"),
    ("platform", "", "str", "string", "Platform of the image: os[/arch[/variant]]"),
    ("privileged", "", "bool", "", "Give all capabilities of the container's user namespace"),
    ("publish", "p", "list", "list", "Publish a port: [[address:]host port:]container port[/protocol]"),
    ("publish-all", "P", "bool", "", "Publish every exposed port"),
    ("pull", "", "str", "string", "When to pull the image: always, missing or never", "", "missing", (), ("always", "missing", "never")),
    ("quiet", "q", "bool", "", "Show no progress of a pull"),
    ("read-only", "", "bool", "", "Make the root filesystem read-only"),
    ("restart", "", "str", "string", "Restart policy: no, on-failure[:N], always, unless-stopped", "", "no", (), ("no", "on-failure", "always", "unless-stopped")),
    ("rm", "", "bool", "", "Remove the container when it ends"),
    ("rootfs", "", "str", "DIR", "Use a directory as root filesystem instead of an image; DIR:O keeps changes apart"),
    ("runtime", "", "str", "string", "OCI runtime", "rootless is its own runtime"),
    ("security-opt", "", "list", "list", "Security option: seccomp=FILE, no-new-privileges, systempaths=unconfined, writable-cgroups"),
    ("shm-size", "", "bytes", "bytes", "Size of /dev/shm"),
    ("stop-signal", "", "str", "string", "Signal that stops the container"),
    ("stop-timeout", "", "int", "int", "Seconds to wait before a stop kills; -1 without end"),
    ("storage-opt", "", "list", "list", "Option of the storage driver: size=BYTES limits the writable layer"),
    ("strict-limits", "", "bool", "", "Refuse a limit that cannot be enforced instead of warning"),
    ("sysctl", "", "list", "map", "Set a kernel parameter of the container's namespaces"),
    ("tmpfs", "", "list", "list", "Mount an empty tmpfs: path[:options]"),
    ("tty", "t", "bool", "", "Give the container a terminal"),
    ("ulimit", "", "list", "ulimit", "Set a limit: name=soft[:hard]"),
    ("use-api-socket", "", "bool", "", "Bind the engine's API socket", "there is no API socket yet"),
    ("user", "u", "str", "string", "User to run as: name or UID, and :group or :GID"),
    ("userns", "", "str", "string", "User namespace: host, single, keep-id[:uid=,gid=] or auto[:size=]"),
    ("uts", "", "str", "string", "UTS namespace: private or host", "", None, (), ("host", "private")),
    ("volume", "v", "list", "list", "Mount a volume, a directory or a file: [source:]target[:options]"),
    ("volume-driver", "", "str", "string", "Driver of the volumes that -v makes", "", None, (), ("local",)),
    ("volumes-from", "", "list", "list", "Take the mounts of another container: CONTAINER[:ro|rw]"),
    ("workdir", "w", "str", "string", "Directory inside the container to run in"),
)  # fmt: skip

CREATE: tuple[Row, ...] = _COMMON

_CHANGEABLE = (
    *(
        "blkio-weight",
        "blkio-weight-device",
        "cgroup-conf",
        "cpu-period",
        "cpu-quota",
        "cpu-rt-period",
    ),
    *("cpu-rt-runtime", "cpu-shares", "cpus", "cpuset-cpus", "cpuset-mems", "device-read-bps"),
    *("device-read-iops", "device-write-bps", "device-write-iops", "kernel-memory", "memory"),
    *("memory-reservation", "memory-swap", "pids-limit"),
)
_POLICY: Row = ("restart", "", "str", "string", "Restart policy: no, on-failure[:N], always, unless-stopped", "", None, (), ("no", "on-failure", "always", "unless-stopped"))  # fmt: skip

UPDATE: tuple[Row, ...] = (*(row for row in _COMMON if row[0] in _CHANGEABLE), _POLICY)

RUN: tuple[Row, ...] = tuple(
    sorted(
        (
            *_COMMON,
            ("detach", "d", "bool", "", "Leave the container running and print its ID"),
            ("detach-keys", "", "str", "string", "Key sequence that detaches from the container"),
            ("explain", "", "bool", "", "Print the runtime spec and the tape, run nothing"),
            ("sig-proxy", "", "bool", "", "Forward signals to the container", "", True),
        )
    )
)  # fmt: skip
