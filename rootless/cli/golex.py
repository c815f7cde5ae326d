"""The text of a Go template to tokens: Go's text/template lexer, for --format.

Knows characters, not grammar (goparse.py) and not meaning (gotemplate.py).  Positions are offsets into
the template.
"""

from __future__ import annotations

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LEFT, RIGHT = "{{", "}}"
SPACE = " \t\r\n"
KEYWORDS = (
    *("if", "else", "end", "range", "with", "break", "continue"),
    *("define", "template", "block"),
)


class TemplateError(UsageError):
    """A --format template is malformed (exit code 64) or cannot be executed (1)."""

    slug = "template"


class Token:
    """A piece of a template.

    kind is one of text, left, right, space, field, variable, word, keyword, string, number, char, dot,
    nil, bool, pipe, paren, close, declare, assign, comma, other, eof.
    """

    __slots__ = ("kind", "pos", "text")

    def __init__(self, kind: str, text: str, pos: int) -> None:
        self.kind = kind
        self.text = text
        self.pos = pos

    def shown(self) -> str:
        """The token as an error message names it."""
        if self.kind == "eof":
            return "EOF"
        if self.kind in ("keyword", "dot", "nil"):
            return f"<{self.text}>"
        if len(self.text) > 10:
            return f"{quote(self.text[:10])}..."
        return quote(self.text)


def quote(text: str) -> str:
    """TEXT as a Go string constant."""
    out = ['"']
    for c in text:
        code = ord(c)
        if c in '"\\':
            out.append("\\" + c)
        elif c in _ESCAPED:
            out.append(_ESCAPED[c])
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif code < 32 or code == 127:
            out.append(f"\\x{code:02x}")
        elif c.isprintable():
            out.append(c)
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    out.append('"')
    return "".join(out)


_ESCAPED = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}
_UNESCAPED = {escape[1]: c for c, escape in _ESCAPED.items()}
_NUMERIC = {"x": (2, 16), "u": (4, 16), "U": (8, 16)}


def unquote(body: str, delimiter: str) -> str | None:
    """The text that the inside of a quoted Go constant stands for, or None where it is malformed."""
    out: list[str] = []
    at = 0
    while at < len(body):
        c = body[at]
        at += 1
        if c == "\n":
            return None
        if c != "\\":
            out.append(c)
            continue
        if at >= len(body):
            return None
        e = body[at]
        at += 1
        if e in _UNESCAPED or e in ("\\", delimiter):
            out.append(_UNESCAPED.get(e, e))
            continue
        if e in _NUMERIC:
            size, base = _NUMERIC[e]
        elif e in "01234567":
            size, base, at = 3, 8, at - 1
        else:
            return None
        digits = body[at : at + size]
        at += size
        code = _code(digits, size, base)
        if code is None:
            return None
        out.append(chr(code))
    return "".join(out)


def _code(digits: str, size: int, base: int) -> int | None:
    allowed = "01234567" if base == 8 else "0123456789abcdefABCDEF"
    if len(digits) != size or digits.strip(allowed):
        return None
    code = int(digits, base)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000 or (base == 8 and code > 255):
        return None
    return code


def fail(text: str, pos: int, why: str) -> TemplateError:
    """The error for a template that cannot be parsed, naming the line."""
    line = text.count("\n", 0, pos) + 1
    return TemplateError(f"template parsing error: template: :{line}: {why}", exit_code=64)


class Lexer:
    """Tokens of one template."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def tokens(self) -> Iterator[Token]:
        """All tokens, the last of kind eof; raises TemplateError."""
        text = self.text
        trim = False
        while True:
            left = text.find(LEFT, self.at)
            chunk = text[self.at :] if left < 0 else text[self.at : left]
            start = self.at
            if trim:
                start += len(chunk) - len(chunk.lstrip(SPACE))
                chunk = chunk.lstrip(SPACE)
            if left >= 0 and self._trims_left(left):
                chunk = chunk.rstrip(SPACE)
            if chunk:
                yield Token("text", chunk, start)
            if left < 0:
                yield Token("eof", "", len(text))
                return
            self.at = left + 2 + (2 if self._trims_left(left) else 0)
            if text.startswith("/*", self.at):
                trim = self._comment()
                continue
            yield Token("left", LEFT, left)
            self.depth = 0
            while True:
                token = self._inside()
                yield token
                if token.kind == "right":
                    trim = token.text[0] == "-"
                    break

    def _trims_left(self, left: int) -> bool:
        return self.text[left + 2 : left + 3] == "-" and self.text[left + 3 : left + 4] in tuple(
            SPACE
        )

    def _fail(self, why: str, pos: int | None = None) -> TemplateError:
        return fail(self.text, self.at if pos is None else pos, why)

    def _comment(self) -> bool:
        end = self.text.find("*/", self.at)
        if end < 0:
            raise self._fail("unclosed comment")
        self.at = end + 2
        trim = self.text[self.at : self.at + 1] in tuple(SPACE) and self.text.startswith(
            "-}}", self.at + 1
        )
        if trim:
            self.at += 2
        if not self.text.startswith(RIGHT, self.at):
            raise self._fail("comment ends before closing delimiter")
        self.at += 2
        return trim

    def _inside(self) -> Token:
        text, start = self.text, self.at
        c = text[start : start + 1]
        if text.startswith(RIGHT, start):
            return self._right(start, RIGHT)
        if c in ("", "\0"):
            raise self._fail("unclosed action")
        if c in SPACE:
            return self._space(start)
        if c == '"':
            return self._quoted(start, '"', "string", "unterminated quoted string")
        if c == "`":
            return self._raw(start)
        if c == "'":
            return self._quoted(start, "'", "char", "unterminated character constant")
        if c == "$":
            return self._word(start, "variable")
        if c == "." and text[start + 1 : start + 2] not in tuple("0123456789"):
            return self._word(start, "field")
        if c in "+-0123456789.":
            return self._number(start)
        if c == "_" or c.isalpha():
            return self._word(start, "word")
        return self._mark(start, c)

    def _right(self, start: int, mark: str) -> Token:
        if self.depth:
            raise self._fail("unclosed left paren")
        self.at = start + len(mark)
        return Token("right", mark, start)

    def _space(self, start: int) -> Token:
        if self.text.startswith(" -}}", start) or (
            self.text[start] in SPACE and self.text.startswith("-}}", start + 1)
        ):
            token = self._right(start + 1, "-}}")
            token.pos = start
            return token
        end = start
        while self.text[end : end + 1] in tuple(SPACE):
            if self.text.startswith("-}}", end + 1):
                break
            end += 1
        end = max(end, start + 1)
        self.at = end
        return Token("space", self.text[start:end], start)

    def _quoted(self, start: int, delimiter: str, kind: str, why: str) -> Token:
        at = start + 1
        while True:
            c = self.text[at : at + 1]
            if c in ("", "\n"):
                raise self._fail(why, start)
            if c == "\\":
                at += 2
                continue
            at += 1
            if c == delimiter:
                break
        self.at = at
        return Token(kind, self.text[start:at], start)

    def _raw(self, start: int) -> Token:
        end = self.text.find("`", start + 1)
        if end < 0:
            raise self._fail("unterminated raw quoted string", start)
        self.at = end + 1
        return Token("string", self.text[start : end + 1], start)

    def _word(self, start: int, kind: str) -> Token:
        end = start if kind == "word" else start + 1
        while self.text[end : end + 1] == "_" or self.text[end : end + 1].isalnum():
            end += 1
        word = self.text[start:end]
        after = self.text[end : end + 1]
        if not (
            after == "" or after in SPACE or after in ".,|:)(" or self.text.startswith(RIGHT, end)
        ):
            raise self._fail(f"bad character U+{ord(after):04X} '{after}'", end)
        self.at = end
        if kind == "field" and word == ".":
            kind = "dot"
        elif word in KEYWORDS:
            kind = "keyword"
        elif word in ("true", "false"):
            kind = "bool"
        elif word == "nil":
            kind = "nil"
        return Token(kind, word, start)

    def _number(self, start: int) -> Token:
        end = start
        while True:
            c = self.text[end : end + 1]
            sign = c in ("+", "-") and (end == start or self.text[end - 1] in "eEpP")
            if not (sign or c in ("_", ".") or (c and c.isalnum())):
                break
            end += 1
        word = self.text[start:end]
        if parse_number(word) is None:
            raise self._fail(f"bad number syntax: {quote(word)}", start)
        self.at = end
        return Token("number", word, start)

    def _mark(self, start: int, c: str) -> Token:
        self.at = start + 1
        if c == "(":
            self.depth += 1
            return Token("paren", c, start)
        if c == ")":
            self.depth -= 1
            if self.depth < 0:
                raise self._fail("unexpected right paren", start)
            return Token("close", c, start)
        if c == ":":
            if self.text[start + 1 : start + 2] != "=":
                raise self._fail("expected :=", start)
            self.at = start + 2
            return Token("declare", ":=", start)
        kind = {"=": "assign", "|": "pipe", ",": "comma"}.get(c)
        if kind is None:
            if not (c.isascii() and c.isprintable()):
                raise self._fail(f"unrecognized character in action: U+{ord(c):04X}", start)
            kind = "other"
        return Token(kind, c, start)


def parse_number(word: str) -> int | float | None:
    """The number a Go constant stands for, or None where it is none."""
    if not word.isascii() or len(word) > 400:
        return None
    body = word.lower()
    sign = body[:1] if body[:1] in ("+", "-") else ""
    digits = body[len(sign) :]
    try:
        if len(digits) > 1 and digits[0] == "0" and digits.replace("_", "").isdigit():
            return int(f"{sign}{digits.replace('_', '')}", 8)
        if digits[:1].isdigit() and "." not in digits and ("e" not in digits or digits[:2] == "0x"):
            return int(f"{sign}{digits}", 0)
        if digits[:1] in tuple("0123456789.") and not digits.strip("0123456789._e+-"):
            number = float(f"{sign}{digits}")
            whole = "e" in digits and number.is_integer() and abs(number) < 1 << 63
            return int(number) if whole else number
    except (ValueError, OverflowError):
        pass
    return None
