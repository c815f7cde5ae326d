"""Verbs over several containers: each is tried, its name printed when done, errors told at the end."""

from __future__ import annotations

import os
import sys

from rootless.errors import NotFoundError, NotModifiedError, RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Callable


def each(names: Iterable[str], act: Callable[[str], object], *, exit_code: int = 1) -> int:
    """Call ACT for each name; print the name where it worked, the error where not.

    The exit code is 0 if all worked, else EXIT_CODE.
    """
    failed = False
    for name in names:
        try:
            answer = act(name)
        except NotModifiedError:
            answer = name
        except RootlessError as error:
            failed = True
            sys.stderr.write(f"rootless: {error.message}\n")
            if error.hint:
                sys.stderr.write(f"hint: {error.hint}\n")
            continue
        if answer is not None:
            os.write(1, f"{answer}\n".encode())
    return exit_code if failed else 0


def remove(names: Iterable[str], act: Callable[[str], object], *, force: bool) -> int:
    """Call ACT for each name and print the name; with FORCE what is not there is as good as removed."""

    def one(name: str) -> str:
        try:
            act(name)
        except NotFoundError:
            if not force:
                raise
        return name

    return each(names, one)
