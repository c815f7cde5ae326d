"""Signal names and numbers of Linux (the generic numbering: x86, arm, ppc, s390, riscv)."""

from __future__ import annotations

from rootless.errors import UsageError

_NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP "
    "TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)
BY_NAME = {name: index for index, name in enumerate(_NAMES.split(), 1)}
BY_NAME.update(IOT=6, CLD=17, POLL=29)
RTMIN, RTMAX = 34, 64  # what libc leaves to programs


def number(text: str) -> int:
    """The number of a signal given as 9, KILL, SIGKILL, RTMIN+3 or rtmax-1; raises UsageError."""
    word = text.strip().upper()
    if word.isdigit() and word.isascii() and 0 < int(word) <= RTMAX:
        return int(word)
    word = word[3:] if word.startswith("SIG") else word
    if word in BY_NAME:
        return BY_NAME[word]
    for base, start, sign in (("RTMIN", RTMIN, 1), ("RTMAX", RTMAX, -1)):
        if word == base:
            return start
        offset = word[len(base) + 1 :]
        if word.startswith(base + ("+" if sign == 1 else "-")) and offset.isdigit():
            value = start + sign * int(offset)
            if RTMIN <= value <= RTMAX:
                return value
    raise UsageError(f"invalid signal: {text}")
