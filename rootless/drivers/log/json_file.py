"""The drivers ``json-file`` and ``local``: lines in files beside the container, rotated by size.

Docker's ``local`` has a format of its own, which nothing but Docker reads.  Ours writes what json-file writes,
with local's defaults: 20 MB, five files, the older ones compressed.
"""

from __future__ import annotations

import os
import sys

from rootless import jsonc
from rootless.errors import UsageError

from .base import ATTRIBUTES, FAILED, LogDriver, LogInfo, Plan, attributes, parse_size, ring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PACKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "packer.py")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


class JsonFileDriver(LogDriver):
    """Docker's default: one JSON object per line."""

    name = "json-file"
    known = ("max-size", "max-file", "compress", *ATTRIBUTES)
    reader = "files"
    defaults: Mapping[str, str] = {}

    def check(self, options: Mapping[str, str]) -> None:
        """Sizes, counts and their combinations as Docker wants them."""
        super().check(options)
        limits(self._with_defaults(options))

    def _with_defaults(self, options: Mapping[str, str]) -> dict[str, str]:
        return {**self.defaults, **options}

    def path(self, info: LogInfo) -> str:
        """The newest of the log's files."""
        return f"{info.directory}/{info.id}-json.log"

    def plan(self, options: Mapping[str, str], info: LogInfo) -> Plan:
        """The file, its limits, and what each entry carries."""
        plan = Plan(self.path(info))
        size, files, compress = limits(self._with_defaults(options))
        plan.words.update({"driver": "json-file", "max-size": size, "max-file": files})
        plan.words["buffer"] = ring(options)
        if compress:
            plan.words.update({"packer": sys.executable, "packer-program": PACKER})
        carried = attributes(options, info)
        if options.get("tag"):
            from . import tag

            carried["tag"] = tag.expand(options["tag"], info)
        if carried:
            text = jsonc.dumps({key: carried[key] for key in sorted(carried)})
            plan.words["attrs"] = f'"attrs":{text.translate(_ESCAPES)},'
        return plan


class LocalDriver(JsonFileDriver):
    """json-file with the limits of Docker's ``local``."""

    name = "local"
    defaults = {"max-size": "20m", "max-file": "5", "compress": "true"}

    def _with_defaults(self, options: Mapping[str, str]) -> dict[str, str]:
        merged = {**self.defaults, **options}
        if merged["max-file"] == "1" and "compress" not in options:
            merged["compress"] = "false"
        return merged


def limits(options: Mapping[str, str]) -> tuple[int, int, bool]:
    """(bytes before a file is rotated, 0 for never; files kept; whether older ones are compressed)."""
    size, files = 0, 1
    text = options.get("max-size", "-1")
    if text not in ("-1", "0"):
        try:
            size = parse_size(text, 1000)
        except ValueError as error:
            raise UsageError(f"{FAILED}{error}") from None
        if size <= 0:
            raise UsageError(f"{FAILED}max-size must be a positive number")
    text = options.get("max-file", "1")
    digits = text.removeprefix("+").removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 9:
        raise UsageError(f'{FAILED}strconv.Atoi: parsing "{text}": invalid syntax')
    files = int(text)
    if files < 1:
        raise UsageError(f"{FAILED}max-file cannot be less than 1")
    text = options.get("compress", "false")
    if text not in _TRUE + _FALSE:
        raise UsageError(f'{FAILED}strconv.ParseBool: parsing "{text}": invalid syntax')
    compress = text in _TRUE
    if compress and (files == 1 or not size):
        raise UsageError(
            f"{FAILED}compress cannot be true when max-file is less than 2 or max-size is not set"
        )
    return size, files, compress
