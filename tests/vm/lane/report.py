"""The guest's report: lines in the Test Anything Protocol, and proof that none is missing.

    # plan STEP/NAME          before anything is run, one for each test of each step
    ok STEP/NAME # 1.2 s
    not ok STEP/NAME # 0.3 s
    # ...                     what a failed test printed
    # end                     after the last

A planned test without a line has not passed, a step without tests is an error, and so is the lack of an end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

LINE = re.compile(r"(ok|not ok) (\S+/\S+)(?: # (.*))?$")


class Report(NamedTuple):
    """What became of the tests, in the order in which they were planned."""

    passed: tuple[str, ...]
    failed: tuple[str, ...]
    missing: tuple[str, ...]
    wrong: tuple[str, ...]  # faults of the report itself

    @property
    def good(self) -> bool:
        """Whether everything planned was run and passed."""
        return bool(self.passed) and not (self.failed or self.missing or self.wrong)


def read(text: str, steps: Sequence[str]) -> Report:
    """Judge a guest's report against the STEPS it was sent."""
    planned: list[str] = []
    results: dict[str, bool] = {}
    wrong: list[str] = []
    ended = False
    for line in text.splitlines():
        match = LINE.match(line)
        if line.startswith("# plan "):
            planned.append(line[len("# plan ") :].strip())
        elif line == "# end":
            ended = True
        elif match:
            name = match.group(2)
            if name in results:
                wrong.append(f"{name} was reported twice")
            results[name] = results.get(name, True) and match.group(1) == "ok"
    wrong += [f"{name} was reported and not planned" for name in results if name not in planned]
    wrong += [
        f"the step {step} has no tests"
        for step in steps
        if not any(name.startswith(f"{step}/") for name in planned)
    ]
    if not ended:
        wrong.append("the report has no end")
    return Report(
        tuple(name for name in planned if results.get(name)),
        tuple(name for name in planned if results.get(name) is False),
        tuple(name for name in planned if name not in results),
        tuple(wrong),
    )
