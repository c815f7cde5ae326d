"""From a file's text to logical lines: parser directives, comments, continuations, heredocs, flags.

A logical line knows for each of its characters where it stands in the file.  What a line means is
parser.py's business.  Rules: only leading comment lines can be directives; a comment inside a
continuation vanishes, an empty line in it too (and is noted for the checks); a heredoc's body belongs
to the line that names it.
"""

from __future__ import annotations

import re
from bisect import bisect_right

from . import words
from .source import Position, Source

DIRECTIVES = ("syntax", "escape", "check")
_DIRECTIVE = re.compile(r"#[ \t]*([a-zA-Z][a-zA-Z0-9]*)[ \t]*=[ \t]*(.+?)[ \t]*$")
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]*)$")
_BLANK = " \t\v\f\r"


class Heredoc:
    """A body given in the file: NAME is its delimiter, EXPAND whether variables in it are replaced."""

    __slots__ = ("chomp", "content", "expand", "name", "position")

    def __init__(self, name: str, expand: bool, chomp: bool, position: Position) -> None:
        self.name = name
        self.expand = expand
        self.chomp = chomp
        self.content = ""
        self.position = position

    @property
    def text(self) -> str:
        """The body, without the leading tabs that <<- takes away."""
        if not self.chomp:
            return self.content
        return "".join(line.lstrip("\t") for line in self.content.splitlines(keepends=True))


class Line:
    """A logical line: TEXT, continuations joined, and where its characters stand.

    keyword    first word, as written
    flags      (text, offset) of the words that begin with -- after it
    start      offset of the keyword
    rest       what follows the flags, and its offset
    last       number of the last line of the file that belongs to it
    empty      numbers of empty lines within its continuations
    comments   comment lines directly above it
    """

    __slots__ = (
        "_marks",
        "comments",
        "empty",
        "flags",
        "heredocs",
        "keyword",
        "last",
        "offset",
        "rest",
        "source",
        "start",
        "text",
    )

    def __init__(self, source: Source, comments: list[str]) -> None:
        self.source = source
        self.text = ""
        self._marks: list[tuple[int, int, int]] = []
        self.keyword = ""
        self.flags: list[tuple[str, int]] = []
        self.rest = ""
        self.offset = self.start = 0
        self.heredocs: list[Heredoc] = []
        self.empty: list[int] = []
        self.last = 0
        self.comments = comments

    def add(self, text: str, line: int, column: int) -> None:
        """Append TEXT, which stands at LINE and COLUMN of the file."""
        self._marks.append((len(self.text), line, column))
        self.text += text
        self.last = line

    def position(self, offset: int = 0) -> Position:
        """Where the character at OFFSET of the text stands."""
        at = max(0, bisect_right(self._marks, (offset, 1 << 60, 0)) - 1)
        start, line, column = self._marks[at] if self._marks else (0, 1, 1)
        return Position(line, column + offset - start)

    def split(self, start: int = 0) -> None:
        """Find keyword, flags and rest in what stands from START on."""
        text = self.text
        at = self.start = _skip(text, start)
        end = at
        while end < len(text) and text[end] not in _BLANK:
            end += 1
        self.keyword = text[at:end]
        self.flags, end = _flags(text, end)
        at = _skip(text, end)
        self.offset = at
        self.rest = text[at:].rstrip(_BLANK)

    def within(self, offset: int) -> Line:
        """The line that begins at OFFSET of this one, as ONBUILD has it."""
        inner = Line(self.source, [])
        inner.text, inner._marks, inner.last = self.text, self._marks, self.last
        inner.heredocs = self.heredocs
        inner.split(offset)
        return inner

    def error(self, message: str, offset: int | None = None, hint: str = "") -> Exception:
        """The error MESSAGE at OFFSET of the text, else where the line begins."""
        return self.source.error(
            self.position(self.start if offset is None else offset), message, hint
        )


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _flags(text: str, at: int) -> tuple[list[tuple[str, int]], int]:
    """The flags from AT on, quotes and backslashes resolved, and where they end."""
    found: list[tuple[str, int]] = []
    while True:
        at = _skip(text, at)
        if not text.startswith("--", at):
            return found, at
        start, word, quote = at, "", ""
        while at < len(text):
            char = text[at]
            if quote:
                if char == quote:
                    quote = ""
                    at += 1
                    continue
            elif char in _BLANK:
                break
            elif char in "'\"":
                quote = char
                at += 1
                continue
            if char == "\\" and at + 1 < len(text):
                at += 1
                char = text[at]
            word += char
            at += 1
        if word == "--":
            return found, at
        found.append((word, start))


class Lexed:
    """All logical lines of a file, its directives by name with their lines, and its escape character."""

    __slots__ = ("directives", "escape", "lines", "source")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.escape = "\\"
        self.directives: dict[str, tuple[str, int]] = {}
        self.lines: list[Line] = []


def lex(source: Source) -> Lexed:
    """Split SOURCE; raises DockerfileError."""
    found = Lexed(source)
    _directives(found)
    ends = re.compile(rf"(?:^|(?<=[^{re.escape(found.escape)}])){re.escape(found.escape)}[ \t]*$")
    comments: list[str] = []
    number = 0
    while number < len(source.lines):
        raw = source.lines[number]
        number += 1
        text = raw.lstrip(_BLANK)
        if text.startswith("#"):
            comments.append(text[1:].strip())
            continue
        if not text:
            comments = []
            continue
        line = Line(source, comments)
        comments = []
        number = _continued(found, line, raw, number, ends)
        if not line.text.strip(_BLANK):
            continue
        line.split()
        if "<<" in line.text and _takes_heredoc(line):
            number = _heredocs(found, line, number)
        found.lines.append(line)
    return found


def _continued(found: Lexed, line: Line, raw: str, number: int, ends: re.Pattern[str]) -> int:
    """Put a line of the file and its continuations into LINE; the number of the next line."""
    lines = found.source.lines
    indent = len(raw) - len(raw.lstrip(_BLANK))
    text, column = raw[indent:], indent + 1
    while True:
        end = ends.search(text)
        if end is None:
            line.add(text, number, column)
            return number
        line.add(text[: end.start()], number, column)
        while number < len(lines):
            text, column = lines[number], 1
            number += 1
            bare = text.strip(_BLANK)
            if bare.startswith("#"):
                continue
            if bare:
                break
            line.empty.append(number)
        else:
            return number


def _directives(found: Lexed) -> None:
    for number, raw in enumerate(found.source.lines, 1):
        match = _DIRECTIVE.match(raw.strip(_BLANK))
        if match is None:
            return
        name, value = match[1].lower(), match[2]
        if name not in DIRECTIVES:
            continue
        place = Position(number, raw.index("#") + 1)
        if name in found.directives:
            raise found.source.error(place, f"only one {name} parser directive can be used")
        if name == "escape":
            if value not in ("\\", "`"):
                raise found.source.error(
                    place, f"invalid escape token '{value}' does not match ` or \\"
                )
            found.escape = value
        found.directives[name] = (value, number)


def _takes_heredoc(line: Line) -> bool:
    keyword = line.keyword.upper()
    if keyword == "ONBUILD":
        keyword = line.within(line.offset).keyword.upper()
    return keyword in ("RUN", "COPY", "ADD")


def _heredocs(found: Lexed, line: Line, number: int) -> int:
    """Take the bodies of the heredocs that LINE names; the number of the next line."""
    try:
        named = words.split(line.text, found.escape)
    except words.WordError:
        return number
    lines = found.source.lines
    for word in named:
        heredoc = heredoc_of(word, line)
        if heredoc is None:
            continue
        heredoc.position = Position(number + 1, 1)
        while True:
            if number >= len(lines):
                raise line.error(
                    f"unterminated heredoc: no line is {heredoc.name}", line.text.find(word)
                )
            text = lines[number]
            number += 1
            if (text.lstrip("\t") if heredoc.chomp else text) == heredoc.name:
                break
            heredoc.content += text + "\n"
        line.heredocs.append(heredoc)
        line.last = number
    return number


def heredoc_of(word: str, line: Line) -> Heredoc | None:
    """What WORD (with its quotes) announces as a heredoc, or None."""
    match = _HEREDOC.match(word)
    if match is None or not match[3]:
        return None
    try:
        raw = words.split(match[3], "\\")
        names = words.process_words(match[3], {}, escape="\\", keep_unset=True)
    except words.WordError:
        return None
    if len(raw) != 1 or len(names) != 1:
        return None
    return Heredoc(names[0], raw[0] == names[0], bool(match[2]), line.position(0))
