"""rootless doctor: what this machine can do, and what would make it better."""

from __future__ import annotations

import sys

from rootless import jsonc
from rootless.engine import doctor
from rootless.engine.context import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .parse import Parsed


def main(args: Parsed, env: Mapping[str, str]) -> int:
    """Print the report; 0 if a container can run here, 1 if not."""
    report = doctor.report(Context.load(env))
    if args.get("json"):
        sys.stdout.write(jsonc.dumps(report, compact=False) + "\n")
    else:
        sys.stdout.write(text(report))
    return 0 if report["usable"] else 1


def text(report: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [
        f"rootless for {report['user']} (uid {report['uid']}) "
        f"on Linux {report['kernel']} {report['architecture']}",
        f"data in {report['data']}",
        "",
    ]
    for ladder in report["ladders"]:
        lines.append(f"{ladder['name']}: {ladder['chosen'] or _nothing(ladder['wanted'])}")
        for one in ladder["rungs"]:
            mark = "->" if one["name"] == ladder["chosen"] else "ok" if one["usable"] else " -"
            lines.append(f"  {mark} {one['name']:<15} {one['why']}")
    lines.append("features:")
    for one in report["features"]:
        lines.append(f"  {'ok' if one['usable'] else ' -'} {one['name']:<15} {one['why']}")
    lines.append("")
    if report["advice"]:
        lines.append("An administrator could:")
        said = "an administrator can "  # as hints of errors say, which stand alone
        lines += [f"  {advice.removeprefix(said)}" for advice in report["advice"]]
    verdict = "containers can run here" if report["usable"] else "containers cannot run here"
    return "\n".join([*lines, verdict, ""])


def _nothing(wanted: str) -> str:
    if wanted in ("", "auto"):
        return "nothing works"
    return f"nothing works, as {wanted} is what the settings ask for"
