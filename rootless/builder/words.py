"""Shell words as Dockerfiles have them: quotes, the escape character and all forms of ${...}.

Pure.  Knows nothing of instructions; who expands what is instructions.py's business.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_END = ""
_SPECIAL = "@*#?-$!0"
_BLANK = " \t\r\n\v\f"


class WordError(Exception):
    """Why a word cannot be expanded, and at which of its characters."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


class Expander:
    """Expands one text.

    RAW keeps quotes and escapes as they are; QUOTES False takes quotes for ordinary characters; KEEP_UNSET
    leaves references to unset variables as written.  ``used`` and ``unset`` are the names it met.
    """

    def __init__(
        self,
        text: str,
        env: Mapping[str, str],
        *,
        escape: str = "\\",
        raw: bool = False,
        quotes: bool = True,
        keep_unset: bool = False,
    ) -> None:
        self._text = text
        self._at = 0
        self._env = env
        self._escape = escape
        self._raw = raw
        self._quotes = quotes
        self._keep_unset = keep_unset
        self.used: set[str] = set()
        self.unset: set[str] = set()
        self.words: list[str] = []
        self._word = ""
        self._in_word = False
        self._depth = 0

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else _END

    def _next(self) -> str:
        char = self._peek()
        self._at += 1
        return char

    def _fail(self, message: str) -> WordError:
        return WordError(message, min(self._at, len(self._text)))

    def run(self) -> str:
        """The text expanded; ``words`` are its words.  Raises WordError."""
        out = self._until(_END, raw_escapes=False)
        self._space()
        return out

    # words: blanks outside of quotes part them, those of a variable's value, too

    def _space(self) -> None:
        if self._in_word:
            self.words.append(self._word)
        self._word, self._in_word = "", False

    def _char(self, char: str) -> None:
        if self._depth:
            return
        if char in _BLANK:
            self._space()
        else:
            self._literal(char)

    def _literal(self, text: str) -> None:
        if not self._depth:
            self._word += text
            self._in_word = True

    # text

    def _until(self, stop: str, *, raw_escapes: bool) -> str:
        out: list[str] = []
        while True:
            char = self._peek()
            if char == stop:
                self._at += 1
                return "".join(out)
            if char == _END:
                raise self._fail(f"unexpected end of statement while looking for matching {stop}")
            if self._quotes and char == "'":
                out.append(self._single())
            elif self._quotes and char == '"':
                out.append(self._double())
            elif char == "$":
                value = self._dollar()
                for one in value:
                    self._char(one)
                out.append(value)
            else:
                self._at += 1
                if char == self._escape:
                    if self._raw or raw_escapes:
                        self._literal(char)
                        out.append(char)
                    char = self._next()
                    if char == _END:
                        continue
                    self._literal(char)
                else:
                    self._char(char)
                out.append(char)

    def _single(self) -> str:
        start = self._at
        end = self._text.find("'", start + 1)
        if end < 0:
            self._at = start
            raise self._fail("unexpected end of statement while looking for matching single-quote")
        self._at = end + 1
        found = self._text[start : end + 1] if self._raw else self._text[start + 1 : end]
        self._literal(found)
        return found

    def _double(self) -> str:
        start = self._at
        self._at += 1
        out = ['"'] if self._raw else []
        while True:
            char = self._peek()
            if char == _END:
                self._at = start
                raise self._fail(
                    "unexpected end of statement while looking for matching double-quote"
                )
            if char == '"':
                self._at += 1
                if self._raw:
                    out.append(char)
                break
            if char == "$":
                out.append(self._dollar())
                continue
            self._at += 1
            if char == self._escape:
                following = self._peek()
                if following == _END:
                    continue
                if self._raw or following not in ('"', "$", self._escape):
                    out.append(char)
                char = self._next()
            out.append(char)
        found = "".join(out)
        self._literal(found)
        return found

    # variables

    def _get(self, name: str) -> str | None:
        value = self._env.get(name)
        if value is None:
            self.unset.add(name)
        else:
            self.used.add(name)
        return value

    def _name(self) -> str:
        char = self._peek()
        start = self._at
        if char.isascii() and (char.isalpha() or char == "_"):
            while self._peek().isascii() and (self._peek().isalnum() or self._peek() == "_"):
                self._at += 1
        elif char.isascii() and char.isdigit():
            while self._peek().isascii() and self._peek().isdigit():
                self._at += 1
        elif char and char in _SPECIAL:
            self._at += 1
        return self._text[start : self._at]

    def _dollar(self) -> str:
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._get(name)
            if value is None:
                return f"${name}" if self._keep_unset else ""
            return value
        start = self._at - 1
        self._at += 1
        char = self._peek()
        if char == _END:
            raise self._fail("syntax error: missing '}'")
        if char in "{}:":
            raise self._fail("syntax error: bad substitution")
        name = self._name()
        self._depth += 1
        try:
            found = self._braced(name)
        finally:
            self._depth -= 1
        if found is None:
            return self._text[start : self._at]
        return found

    def _braced(self, name: str) -> str | None:
        """The value of ${NAME...} from after the name on; None leaves it as written."""
        operator = self._next()
        if operator == "}":
            value = self._get(name)
            return None if value is None and self._keep_unset else value or ""
        colon = operator == ":"
        if colon:
            operator = self._next()
        if operator == "/" and not colon:
            return self._replaced(name)
        if operator == _END:
            raise self._fail("syntax error: missing '}'")
        if operator not in "+-?#%" or (colon and operator in "#%"):
            self._at -= 1
            shown = f":{operator}" if colon else operator
            raise self._fail(f"unsupported modifier ({shown}) in substitution")
        word = self._argument("}", raw_escapes=operator in "#%")
        value = self._get(name)
        if value is None and self._keep_unset:
            return None
        given = value is not None and not (colon and not value)
        if operator == "-":
            if not given:
                self.unset.discard(name)  # it has a default
            return value or "" if given else word
        if operator == "+":
            self.unset.discard(name)
            return word if given else ""
        if operator == "?":
            if not given:
                what = (
                    "is not allowed to be unset" if value is None else "is not allowed to be empty"
                )
                raise self._fail(f"{name}: {word or what}")
            return value
        greedy = word[:1] == operator
        return _trimmed(value or "", word[1:] if greedy else word, operator, greedy=greedy)

    def _argument(self, stop: str, *, raw_escapes: bool) -> str:
        try:
            return self._until(stop, raw_escapes=raw_escapes)
        except WordError as error:
            if self._peek() == _END:
                raise WordError("syntax error: missing '}'", error.offset) from None
            raise

    def _replaced(self, name: str) -> str | None:
        every = self._peek() == "/"
        if every:
            self._at += 1
        pattern = self._argument("/", raw_escapes=True)
        replacement = self._argument("}", raw_escapes=True)
        value = self._get(name)
        if value is None:
            return None if self._keep_unset else ""
        compiled = re.compile(_regex(pattern, greedy=True), re.S)
        return compiled.sub(lambda _: replacement, value, count=0 if every else 1)


def _regex(pattern: str, *, greedy: bool) -> str:
    """A shell pattern (* and ?, backslash escapes) as a regular expression."""
    out = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            while pattern.startswith("*", at + 1):
                at += 1
            out.append(".*" if greedy else ".*?")
        elif char == "?":
            out.append(".")
        elif char == "\\" and at + 1 < len(pattern):
            at += 1
            out.append(re.escape(pattern[at]))
        else:
            out.append(re.escape(char))
        at += 1
    return "".join(out)


def _trimmed(value: str, pattern: str, operator: str, *, greedy: bool) -> str:
    if operator == "#":
        match = re.match(_regex(pattern, greedy=greedy), value, re.S)
        return value[match.end() :] if match else value
    compiled = re.compile(_regex(pattern, greedy=True) + r"\Z", re.S)
    starts = range(len(value) + 1) if greedy else range(len(value), -1, -1)
    for start in starts:
        if compiled.match(value, start):
            return value[:start]
    return value


def process_word(
    text: str,
    env: Mapping[str, str],
    *,
    escape: str = "\\",
    quotes: bool = True,
    unset: set[str] | None = None,
) -> str:
    """TEXT as one word: variables replaced, quotes resolved.  Names without a value go into UNSET."""
    expander = Expander(text, env, escape=escape, quotes=quotes)
    out = expander.run()
    if unset is not None:
        unset |= expander.unset
    return out


def process_words(
    text: str,
    env: Mapping[str, str],
    *,
    escape: str = "\\",
    keep_unset: bool = False,
    unset: set[str] | None = None,
) -> list[str]:
    """The words of TEXT, each expanded."""
    expander = Expander(text, env, escape=escape, keep_unset=keep_unset)
    expander.run()
    if unset is not None:
        unset |= expander.unset
    return expander.words


def split(text: str, escape: str) -> list[str]:
    """The words of TEXT as they are written, quotes and variables included."""
    expander = Expander(text, {}, escape=escape, raw=True, keep_unset=True)
    expander.run()
    return expander.words


def parse_words(text: str, escape: str) -> list[tuple[str, int]]:
    """(word, offset) of ENV, LABEL and ARG: parted by blanks outside of quotes, nothing resolved."""
    found: list[tuple[str, int]] = []
    at = 0
    while True:
        while at < len(text) and text[at] in _BLANK:
            at += 1
        if at >= len(text):
            return found
        start, word, quote = at, "", ""
        while at < len(text):
            char = text[at]
            if not quote and char in _BLANK:
                break
            if char == escape and quote != "'":
                if at + 1 >= len(text):
                    at += 1
                    continue
                word += char
                at += 1
                char = text[at]
            elif quote:
                if char == quote:
                    quote = ""
            elif char in "'\"":
                quote = char
            word += char
            at += 1
        found.append((word, start))
