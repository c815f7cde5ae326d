"""Tokens of a Go template to a tree: Go's text/template parser, for --format.

Knows the grammar, the names of functions (to refuse unknown ones) and variables in scope, not what
anything means (gotemplate.py).
"""

from __future__ import annotations

from . import golex
from .golex import Token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

MAX_DEPTH = 100  # nested blocks and parentheses; Python's own stack is the limit behind it


class Node:
    """A part of the tree.

    kind      text, action, if, with, range, break, continue, template; pipe, command; and the operands
              dot, nil, bool, number, string, word (a function), field, variable, chain
    text      how it was written, for messages
    value     constants: the value; field, variable, chain: the names; text: the text
    children  operands of a command, commands of a pipe, pipe of an action ...
    """

    __slots__ = ("body", "children", "declares", "kind", "other", "pos", "text", "value")

    def __init__(
        self,
        kind: str,
        pos: int,
        text: str,
        value: Any = None,
        children: Sequence[Node] = (),
    ) -> None:
        self.kind = kind
        self.pos = pos
        self.text = text
        self.value = value
        self.children = list(children)
        self.body: list[Node] = []
        self.other: list[Node] = []
        self.declares: tuple[str, ...] = ()


class Parser:
    """One template's tree: ``nodes``, and ``defined`` templates by name."""

    def __init__(self, text: str, functions: Collection[str]) -> None:
        self.text = text
        self.functions = functions
        self.defined: dict[str, list[Node]] = {}
        self.variables = ["$"]
        self.loops = 0
        self.depth = 0
        self._source = golex.Lexer(text).tokens()
        self._back: list[Token] = []
        self.nodes, end = self._list(0)
        if end:
            raise self._fail(f"unexpected {{{{{end}}}}}")

    def _fail(self, why: str, token: Token | None = None) -> golex.TemplateError:
        return golex.fail(self.text, len(self.text) if token is None else token.pos, why)

    def _unexpected(self, token: Token, where: str) -> golex.TemplateError:
        return self._fail(f"unexpected {token.shown()} in {where}", token)

    def _next(self) -> Token:
        return self._back.pop() if self._back else next(self._source)

    def _peek(self) -> Token:
        token = self._next()
        self._back.append(token)
        return token

    def _next_word(self) -> Token:
        token = self._next()
        while token.kind == "space":
            token = self._next()
        return token

    def _peek_word(self) -> Token:
        token = self._next_word()
        self._back.append(token)
        return token

    def _expect(self, kind: str, where: str) -> Token:
        token = self._next_word()
        if token.kind != kind:
            raise self._unexpected(token, where)
        return token

    def _deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._fail("template is nested too deeply", self._peek())

    def _list(self, level: int) -> tuple[list[Node], str]:
        """(nodes, the keyword that ended them: end, else or nothing at the end of the text)."""
        nodes: list[Node] = []
        while True:
            token = self._next()
            if token.kind == "eof":
                if level:
                    raise self._fail("unexpected EOF", token)
                return nodes, ""
            if token.kind == "text":
                nodes.append(Node("text", token.pos, token.text, token.text))
                continue
            first = self._peek_word()
            if first.kind == "keyword":
                self._next_word()
                if first.text in ("end", "else"):
                    return nodes, first.text
                node = self._keyword(first, level)
                if node is not None:
                    nodes.append(node)
                continue
            nodes.append(self._action(first))

    def _action(self, first: Token) -> Node:
        pipe = self._pipeline("command", "right")
        return Node("action", first.pos, f"{{{{{pipe.text}}}}}", None, [pipe])

    def _keyword(self, token: Token, level: int) -> Node | None:
        word = token.text
        if word in ("break", "continue"):
            if not self.loops:
                raise self._fail(f"{{{{{word}}}}} outside {{{{range}}}}", token)
            after = self._next_word()
            if after.kind != "right":
                raise self._unexpected(after, f"{{{{{word}}}}}")
            return Node(word, token.pos, f"{{{{{word}}}}}")
        if word in ("if", "with", "range"):
            return self._control(word, token, level)
        if word == "define":
            if level:
                raise self._fail("unexpected {{define}}", token)
            self._define(self._name("define clause"), "define clause")
            return None
        name = self._name(f"{word} clause")
        pipe = None
        if self._peek_word().kind != "right":
            pipe = self._pipeline(f"{word} clause", "right")
        else:
            self._next_word()
        if word == "block":
            if pipe is None:
                raise self._fail("missing value for block clause", token)
            self._body(name)
        shown = f"{{{{template {golex.quote(name)}{f' {pipe.text}' if pipe else ''}}}}}"
        return Node("template", token.pos + len(word) + 1, shown, name, [pipe] if pipe else [])

    def _name(self, where: str) -> str:
        token = self._next_word()
        if token.kind != "string":
            raise self._unexpected(token, where)
        return str(self._constant(token).value)

    def _define(self, name: str, where: str) -> None:
        self._expect("right", where)
        self._body(name)

    def _body(self, name: str) -> None:
        held, self.variables = self.variables, ["$"]
        loops, self.loops = self.loops, 0
        self._deeper()
        nodes, end = self._list(1)
        self.depth -= 1
        if end != "end":
            raise self._fail("unexpected {{else}} in define clause", self._peek())
        self._expect("right", "end")
        self.variables, self.loops = held, loops
        self.defined[name] = nodes

    def _control(self, word: str, token: Token, level: int) -> Node:
        """An if, with or range with all it holds, its {{end}} taken."""
        self._deeper()
        scope = len(self.variables)
        pipe = self._pipeline(word, "right")
        node = Node(word, token.pos, f"{{{{{word} {pipe.text}}}}}", None, [pipe])
        self.loops += word == "range"
        node.body, end = self._list(level + 1)
        self.loops -= word == "range"
        if end == "else":
            after = self._peek_word()
            if after.kind == "keyword" and after.text == word and word != "range":
                self._next_word()
                node.other = [self._control(word, after, level + 1)]
                del self.variables[scope:]
                self.depth -= 1
                return node
            self._expect("right", "else")
            node.other, end = self._list(level + 1)
            if end != "end":
                raise self._fail("expected end; found {{else}}", self._peek())
        self._expect("right", "end")
        del self.variables[scope:]
        self.depth -= 1
        return node

    def _pipeline(self, where: str, end: str) -> Node:
        start = self._peek_word()
        declares, assigns = self._declarations(where)
        commands: list[Node] = []
        while True:
            token = self._next_word()
            if token.kind == end:
                break
            if token.kind in _OPERANDS:
                self._back.append(token)
                commands.append(self._command())
                continue
            raise self._unexpected(token, where)
        if not commands:
            raise self._fail(f"missing value for {where}", token)
        for command in commands[1:]:
            if command.children[0].kind in _CONSTANTS:
                raise self._fail(
                    f"non executable command in pipeline stage {commands.index(command) + 1}", token
                )
        text = " | ".join(command.text for command in commands)
        if declares:
            text = f"{', '.join(declares)} {'=' if assigns else ':='} {text}"
        node = Node("pipe", start.pos, text, assigns, commands)
        node.declares = tuple(declares)
        return node

    def _declarations(self, where: str) -> tuple[list[str], bool]:
        names: list[str] = []
        while True:
            token = self._peek_word()
            if token.kind != "variable":
                break
            self._next_word()
            spaces = [self._next()] if self._peek().kind == "space" else []
            after = self._peek()
            if after.kind in ("declare", "assign"):
                self._next()
                names.append(token.text)
                if after.kind == "declare":
                    self.variables.extend(names)
                else:
                    for name in names:
                        self._check_variable(name, token)
                return names, after.kind == "assign"
            if after.kind == "comma":
                self._next()
                names.append(token.text)
                if where != "range" or len(names) == 2:
                    raise self._fail(f"too many declarations in {where}", token)
                continue
            self._back.extend([*spaces, token])
            break
        if names:
            raise self._fail("range can only initialize variables", self._peek())
        return names, False

    def _check_variable(self, name: str, token: Token) -> None:
        if name not in self.variables:
            raise self._fail(f'undefined variable "{name}"', token)

    def _command(self) -> Node:
        first = self._peek_word()
        operands: list[Node] = []
        while True:
            self._peek_word()
            operand = self._operand()
            if operand is not None:
                operands.append(operand)
            token = self._next()
            if token.kind == "space":
                continue
            if token.kind in ("right", "close"):
                self._back.append(token)
            elif token.kind != "pipe":
                raise self._unexpected(token, "operand")
            break
        if not operands:
            raise self._fail("empty command", token)
        text = " ".join(f"({o.text})" if o.kind == "pipe" else o.text for o in operands)
        return Node("command", first.pos, text, None, operands)

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None:
            return None
        following = self._peek()
        if following.kind != "field":
            return node
        names: list[str] = []
        while self._peek().kind == "field":
            names.append(self._next().text[1:])
        shown = f"({node.text})" if node.kind == "pipe" else node.text
        text = f"{shown}.{'.'.join(names)}"
        if node.kind in ("field", "variable"):
            return Node(node.kind, following.pos, text, [*node.value, *names])
        if node.kind in _CONSTANTS:
            raise self._fail(f"unexpected . after term {golex.quote(node.text)}", following)
        return Node("chain", following.pos, text, names, [node])

    def _term(self) -> Node | None:
        token = self._next_word()
        kind = token.kind
        if kind in ("string", "char", "number", "bool"):
            return self._constant(token)
        if kind in ("dot", "nil"):
            return Node(kind, token.pos, token.text)
        if kind == "word":
            if token.text not in self.functions:
                raise self._fail(f'function "{token.text}" not defined', token)
            return Node("word", token.pos, token.text, token.text)
        if kind == "field":
            return Node("field", token.pos, token.text, [token.text[1:]])
        if kind == "variable":
            self._check_variable(token.text, token)
            return Node("variable", token.pos, token.text, [token.text])
        if kind == "paren":
            self._deeper()
            node = self._pipeline("parenthesized pipeline", "close")
            self.depth -= 1
            return node
        self._back.append(token)
        return None

    def _constant(self, token: Token) -> Node:
        text = token.text
        if token.kind == "bool":
            return Node("bool", token.pos, text, text == "true")
        if token.kind == "number":
            return Node("number", token.pos, text, golex.parse_number(text))
        if text[0] == "`":
            return Node("string", token.pos, text, text[1:-1].replace("\r", ""))
        value = golex.unquote(text[1:-1], text[0])
        if token.kind == "char":
            if value is None or len(value) != 1:
                raise self._fail(f"malformed character constant: {text}", token)
            return Node("number", token.pos, text, ord(value))
        if value is None:
            raise self._fail("invalid syntax", token)
        return Node("string", token.pos, text, value)


_CONSTANTS = ("bool", "number", "string", "nil", "dot")
_OPERANDS = (
    *("bool", "char", "number", "string", "nil", "dot"),
    *("field", "word", "variable", "paren"),
)
