"""Go templates for --format: text/template as far as Docker's documentation uses it, and its messages.

Values are JSON's, with Go's distinctions kept by type: a plain dict is a struct (a name it does not have
is an error), a :class:`Map` is a map (a missing key is empty), an :class:`Object` computes its fields when
asked.  Loaded only where --format was given.  golex.py and goparse.py read the text, gofuncs.py has
the functions, govalue.py says how values print.
"""

from __future__ import annotations

from . import gofuncs, golex, goparse, govalue
from .golex import TemplateError
from .govalue import Map, Object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .goparse import Node

MAX_CALLS = 100  # templates that call each other


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Template:
    """A parsed template; raises TemplateError where TEXT is malformed."""

    def __init__(self, text: str, extra: Mapping[str, gofuncs.Function] | None = None) -> None:
        self.functions = {**gofuncs.FUNCTIONS, **(extra or {})}
        self.text = text
        try:
            parsed = goparse.Parser(text, self.functions)
        except RecursionError:
            raise golex.fail(text, 0, "template is nested too deeply") from None
        self.nodes = parsed.nodes
        self.defined = parsed.defined

    def render(self, data: Any) -> str:
        """What the template makes of DATA; raises TemplateError."""
        run = _Run(self, data)
        try:
            run.walk(self.nodes, data)
        except RecursionError:
            raise TemplateError(
                "template parsing error: template: exceeded maximum template depth", exit_code=1
            ) from None
        return "".join(run.out)


class _Run:
    """One execution."""

    def __init__(self, template: Template, data: Any) -> None:
        self.template = template
        self.functions = template.functions
        self.out: list[str] = []
        self.scope: list[tuple[str, list[Any]]] = [("$", [data])]
        self.calls = 0

    def fail(self, node: Node, why: str) -> TemplateError:
        """The error WHY at NODE, with line, column and source text as Go names them."""
        text = self.template.text
        line = text.count("\n", 0, node.pos) + 1
        column = len(text[text.rfind("\n", 0, node.pos) + 1 : node.pos].encode("utf-8", "replace"))
        return TemplateError(
            f'template parsing error: template: :{line}:{column}: executing "" at <{node.text}>: {why}',
            exit_code=1,
        )

    def walk(self, nodes: Sequence[Node], dot: Any) -> None:
        """Execute a list of nodes."""
        for node in nodes:
            if node.kind == "text":
                self.out.append(node.value)
            else:
                getattr(self, f"_do_{node.kind}")(node, dot)

    def _do_action(self, node: Node, dot: Any) -> None:
        pipe = node.children[0]
        value = self.pipe(pipe, dot)
        if not pipe.declares:
            self.out.append("<no value>" if value is None else govalue.show(value))

    def _do_if(self, node: Node, dot: Any) -> None:
        mark = len(self.scope)
        chosen = node.body if govalue.truth(self.pipe(node.children[0], dot)) else node.other
        self.walk(chosen, dot)
        del self.scope[mark:]

    def _do_with(self, node: Node, dot: Any) -> None:
        mark = len(self.scope)
        value = self.pipe(node.children[0], dot)
        if govalue.truth(value):
            self.walk(node.body, value)
        else:
            self.walk(node.other, dot)
        del self.scope[mark:]

    def _do_range(self, node: Node, dot: Any) -> None:
        mark = len(self.scope)
        pipe = node.children[0]
        value = self.commands(pipe, dot)
        cells: list[list[Any]] = [[None] for _ in pipe.declares]
        if not pipe.value:
            self.scope.extend(zip(pipe.declares, cells))
        inner = len(self.scope)
        empty = True
        try:
            for key, item in self._items(pipe, value):
                empty = False
                self._bind(pipe, cells, key, item)
                try:
                    self.walk(node.body, item)
                except _Continue:
                    pass
                del self.scope[inner:]
        except _Break:
            pass
        del self.scope[mark:]
        if empty:
            self.walk(node.other, dot)

    def _bind(self, pipe: Node, cells: list[list[Any]], key: Any, item: Any) -> None:
        values = [item] if len(cells) == 1 else [key, item]
        for name, cell, value in zip(pipe.declares, cells, values):
            if pipe.value:
                self._variable(name)[0] = value
            else:
                cell[0] = value

    def _items(self, pipe: Node, value: Any) -> Any:
        if value is None:
            return ()
        if isinstance(value, (list, tuple)):
            return enumerate(value)
        if isinstance(value, dict):
            return [(key, value[key]) for key in sorted(value, key=str)]
        if isinstance(value, int) and not isinstance(value, bool):
            return ((number, number) for number in range(value))
        raise self.fail(pipe.children[-1], f"range can't iterate over {govalue.show(value)}")

    def _do_break(self, node: Node, dot: Any) -> None:  # noqa: ARG002
        raise _Break

    def _do_continue(self, node: Node, dot: Any) -> None:  # noqa: ARG002
        raise _Continue

    def _do_template(self, node: Node, dot: Any) -> None:
        nodes = self.template.defined.get(node.value)
        if nodes is None:
            raise self.fail(node, f'template "{node.value}" not defined')
        if self.calls >= MAX_CALLS:
            raise self.fail(node, f"exceeded maximum template depth ({MAX_CALLS})")
        value = self.pipe(node.children[0], dot) if node.children else None
        held, self.scope = self.scope, [("$", [value])]
        self.calls += 1
        self.walk(nodes, value)
        self.calls -= 1
        self.scope = held

    def pipe(self, pipe: Node, dot: Any) -> Any:
        """The value of a pipeline, its variable set."""
        value = self.commands(pipe, dot)
        for name in pipe.declares:
            if pipe.value:
                self._variable(name)[0] = value
            else:
                self.scope.append((name, [value]))
        return value

    def commands(self, pipe: Node, dot: Any) -> Any:
        """The value of a pipeline's last command."""
        value: Any = None
        final: tuple[Any, ...] = ()
        for command in pipe.children:
            value = self._command(command, dot, final)
            final = (value,)
        return value

    def _variable(self, name: str) -> list[Any]:
        for known, cell in reversed(self.scope):
            if known == name:
                return cell
        raise TemplateError(f'template parsing error: undefined variable "{name}"', exit_code=1)

    def _command(self, command: Node, dot: Any, final: tuple[Any, ...]) -> Any:
        first = command.children[0]
        arguments = command.children[1:]
        if first.kind == "word":
            return self._call(command, first, arguments, dot, final)
        if first.kind == "nil":
            raise self.fail(first, "nil is not a command")
        if (arguments or final) and first.kind in ("field", "variable", "chain"):
            return self._method(first, arguments, dot, final)
        if arguments or final:
            raise self.fail(first, f"can't give argument to non-function {first.text}")
        return self._operand(first, dot)

    def _method(
        self, first: Node, arguments: Sequence[Node], dot: Any, final: tuple[Any, ...]
    ) -> Any:
        """A field with arguments: a method of the value that holds it."""
        name = first.value[-1]
        if first.kind == "field":
            holder = self._fields(first, dot, first.value[:-1])
        elif first.kind == "variable":
            cell = self._variable(first.value[0])[0]
            holder = self._fields(first, cell, first.value[1:-1])
        else:
            holder = self._fields(first, self._operand(first.children[0], dot), first.value[:-1])
        values = [self._operand(argument, dot) for argument in arguments] + list(final)
        if isinstance(holder, Object) and len(first.value) > (first.kind == "variable"):
            if len(values) != 1:
                raise self.fail(first, f"wrong number of args for {name}: want 1 got {len(values)}")
            if not isinstance(values[0], str):
                raise self.fail(first, f"expected string; found {govalue.show(values[0])}")
            try:
                return holder.call(name, values)
            except KeyError:
                pass
        self._operand(first, dot)
        raise self.fail(first, f"{name} has arguments but cannot be invoked as function")

    def _call(
        self, command: Node, name: Node, arguments: Sequence[Node], dot: Any, final: tuple[Any, ...]
    ) -> Any:
        function = self.functions[name.value]
        count = len(arguments) + len(final)
        if count < function.least or (function.most >= 0 and count > function.most):
            least = "at least " if function.most < 0 else ""
            raise self.fail(
                name,
                f"wrong number of args for {name.value}: want {least}{function.least} got {count}",
            )
        if name.value in ("and", "or"):
            return self._short_circuit(name.value, arguments, dot, final)
        values: list[Any] = []
        for at, argument in enumerate(arguments):
            value = None if argument.kind == "nil" else self._operand(argument, dot)
            self._check_type(function, at, value, argument)
            values.append(value)
        if final:
            self._check_type(function, len(values), final[0], command)
            values.append(final[0])
        if name.value == "call":
            shown = arguments[0].text if arguments else govalue.show(values[0])
            kind = govalue.kind(values[0])
            raise self.fail(command, f"error calling call: non-function {shown} of type {kind}")
        try:
            return function.run(*values)
        except gofuncs.CallError as error:
            raise self.fail(command, f"error calling {name.value}: {error}") from None
        except (OverflowError, MemoryError):
            raise self.fail(command, f"error calling {name.value}: value out of range") from None

    def _short_circuit(
        self, name: str, arguments: Sequence[Node], dot: Any, final: tuple[Any, ...]
    ) -> Any:
        value: Any = None
        for argument in arguments:
            value = None if argument.kind == "nil" else self._operand(argument, dot)
            if govalue.truth(value) == (name == "or"):
                return value
        return final[0] if final else value

    def _check_type(self, function: gofuncs.Function, at: int, value: Any, node: Node) -> None:
        wanted = function.type_at(at)
        if not wanted or govalue.fits(value, wanted):
            return
        if node.kind in ("string", "number", "bool", "nil", "dot"):
            raise self.fail(node, f"expected {wanted}; found {node.text}")
        raise self.fail(node, f"wrong type for value; expected {wanted}; got {govalue.kind(value)}")

    def _operand(self, node: Node, dot: Any) -> Any:
        kind = node.kind
        if kind == "dot":
            return dot
        if kind in ("string", "number", "bool"):
            return node.value
        if kind == "field":
            return self._fields(node, dot, node.value)
        if kind == "variable":
            return self._fields(node, self._variable(node.value[0])[0], node.value[1:])
        if kind == "pipe":
            mark = len(self.scope)
            value = self.pipe(node, dot)
            del self.scope[mark:]
            return value
        if kind == "chain":
            inner = node.children[0]
            if inner.kind == "nil":
                raise self.fail(node, f"indirection through explicit nil in {node.text}")
            return self._fields(node, self._operand(inner, dot), node.value)
        if kind == "word":
            return self._call(node, node, (), dot, ())
        raise self.fail(node, f"can't handle {node.text}")

    def _fields(self, node: Node, value: Any, names: Sequence[str]) -> Any:
        for name in names:
            value = self._field(node, value, name)
        return value

    def _field(self, node: Node, value: Any, name: str) -> Any:
        if isinstance(value, Map):
            return value.get(name)
        if isinstance(value, dict):
            if name in value:
                return value[name]
            raise self.fail(node, f'map has no entry for key "{name}"')
        if isinstance(value, Object):
            try:
                return value.field(name)
            except KeyError:
                raise self.fail(
                    node, f"can't evaluate field {name} in type {value.type_name}"
                ) from None
        if value is None:
            raise self.fail(node, f"nil pointer evaluating interface {{}}.{name}")
        raise self.fail(node, f"can't evaluate field {name} in type {govalue.kind(value)}")


__all__ = ["Map", "Object", "Template", "TemplateError"]
