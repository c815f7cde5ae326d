"""Third-party packages for a process that was started with -S, in which none is found yet."""

from __future__ import annotations

from rootless.errors import RootlessError


def enable(package: str) -> None:
    """Make PACKAGE importable: as things are, else by letting Python look beside the interpreter.

    Raises RootlessError where it is not installed.
    """
    try:
        __import__(package)
    except ImportError:
        import site

        site.main()
        try:
            __import__(package)
        except ImportError as missing:
            raise RootlessError(
                f"cannot import {missing.name or package}: the installation is incomplete",
                hint="run install.sh again",
            ) from None
