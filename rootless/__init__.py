"""rootless: a Docker-compatible container engine and OCI runtime that never needs root.

Holds the version and the layer map, imports nothing.  Imports only go down; tests/lint enforces it.

    cli/ api/ __main__   L7  the fronts: parse, call the engine, print
    engine/              L6  use cases; the only code that combines the rest
    builder/             L5  Dockerfile to layers
    runtime/ registry/   L4  lifecycle of processes; distribution client
    drivers/ hpc/        L3  what varies by host
    store/               L3  what is on disk, below the drivers, which fill and show it
    plan/                L2  pure: request + image config + host facts to spec to tape
    config/              L1  settings and places, which ask the kernel about both
    oci/ linux/          L1  types of the specs; the kernel
    facts jsonc errors   L0  values
"""

__version__ = "0.1.0"

LAYERS = (
    ("errors", "facts", "jsonc"),
    ("oci", "linux"),
    ("config",),
    ("plan",),
    ("store",),
    ("drivers", "hpc"),
    ("runtime", "registry"),
    ("builder",),
    ("engine",),
    ("cli", "api", "__main__"),
)
