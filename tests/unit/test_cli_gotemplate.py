"""Go templates: Docker's own answers as golden data, and no input that ends in a Python traceback."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.cli import formatted, gotemplate, govalue
from rootless.cli.rows import Sheet

HERE = os.path.dirname(__file__)

# What the golden templates were executed over, by Docker's CLI 28.2: its default context.
DATA: dict[str, Any] = {
    "Name": "default",
    "Metadata": govalue.Map(),
    "Endpoints": govalue.Map(
        docker={"Host": "unix:///var/run/docker.sock", "SkipTLSVerify": False}
    ),
    "TLSMaterial": govalue.Map(),
    "Storage": {"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"},
}

with open(os.path.join(HERE, "data", "go_templates.json"), encoding="utf-8") as _file:
    GOLDEN = json.load(_file)


def render(text: str, data: Any = None) -> str:
    return gotemplate.Template(text).render(DATA if data is None else data)


@pytest.mark.parametrize(("text", "code", "output"), GOLDEN, ids=[case[0] for case in GOLDEN])
def test_as_docker_answers(text: str, code: int, output: str) -> None:
    try:
        found, found_code = render(text), 0
    except gotemplate.TemplateError as error:
        found, found_code = error.message, error.code
    assert (found_code, found.strip("\n")) == (code, output)


def test_a_missing_field_of_a_struct_is_an_error_and_of_a_map_is_not() -> None:
    with pytest.raises(gotemplate.TemplateError) as caught:
        render("{{.State.Nope}}", {"State": {"Status": "x"}})
    assert caught.value.message == (
        'template parsing error: template: :1:8: executing "" at <.State.Nope>: '
        'map has no entry for key "Nope"'
    )
    assert render('{{index .L "x"}}|{{.L.x}}', {"L": govalue.StrMap()}) == "|<no value>"


def test_nil_lists_and_maps_print_empty_and_are_null_in_json() -> None:
    data = {"A": govalue.NilList(), "B": govalue.NilMap(), "C": None}
    assert render("{{.A}} {{.B}} {{.C}} {{len .A}}", data) == "[] map[] <no value> 0"
    assert render("{{json .}}", data) == '{"A":null,"B":null,"C":null}'


def test_json_keeps_letters_and_inspect_escapes_html() -> None:
    assert govalue.to_json({"a": "é<&>"}) == '{"a":"é<&>"}'
    assert govalue.indented({"a": ["é<"], "b": {}, "c": []}) == (
        '{\n    "a": [\n        "é\\u003c"\n    ],\n    "b": {},\n    "c": []\n}'
    )
    assert govalue.to_json("\udcff") == '"\ufffd"'


SHEET = Sheet(
    {"ID": lambda row: row["id"], "Name": lambda row: row["name"]},
    {"ID": "IMAGE ID", "Name": "NAME"},
    ("ID", "Name"),
    "*formatter.thing",
    methods={"Label": lambda row, name: row["labels"].get(name, "")},
)
ROWS = [
    {"id": "1", "name": "a", "labels": {"com.x.role": "web"}},
    {"id": "22", "name": "bb", "labels": {}},
]


@pytest.mark.parametrize(
    ("form", "output"),
    [
        ("{{.ID}}\\t{{.Name}}", "1\ta\n22\tbb\n"),
        ("json", '{"ID":"1","Name":"a"}\n{"ID":"22","Name":"bb"}\n'),
        ("table {{.Name}}\\t{{.ID}}", "NAME      IMAGE ID\na         1\nbb        22\n"),
        ("table {{upper .Name}}\\t{{.ID}}", "NAME      IMAGE ID\nA         1\nBB        22\n"),
        ('{{.Name}}={{.Label "com.x.role"}}', "a=web\nbb=\n"),
        ('table {{.Label "com.x.role"}}', "role\nweb\n\n"),
        ('{{if eq .Name "a"}}first{{else}}rest{{end}}', "first\nrest\n"),
    ],
)
def test_rows_by_format(form: str, output: str) -> None:
    assert formatted.render(SHEET, ROWS, form) == output


def test_an_unknown_field_names_the_kind_of_row() -> None:
    with pytest.raises(
        gotemplate.TemplateError, match=r"can't evaluate field Foo in type \*format"
    ):
        formatted.render(SHEET, ROWS, "{{.Foo}}")


ATOMS = st.sampled_from(
    [
        "{{",
        "}}",
        "{{-",
        "-}}",
        ".Name",
        ".Endpoints",
        ".docker",
        ".Host",
        ".",
        "$",
        "$x",
        ":=",
        "=",
        "|",
        ",",
        "(",
        ")",
        "if",
        "else",
        "end",
        "range",
        "with",
        "break",
        "continue",
        "define",
        "template",
        "block",
        "json",
        "len",
        "index",
        "slice",
        "printf",
        "print",
        '"a"',
        '"%d"',
        "`r`",
        "'c'",
        "1",
        "-2",
        "1.5",
        "true",
        "nil",
        "eq",
        "lt",
        "and",
        "or",
        "not",
        "split",
        "join",
        "upper",
        "pad",
        "truncate",
        "/*",
        "*/",
        "x",
        "\\",
        '"',
        "`",
        "'",
    ]
)


@settings(max_examples=1500, deadline=None)
@given(st.lists(ATOMS, max_size=12), st.sampled_from(["", " "]))
def test_any_template_gives_text_or_one_clear_error(parts: list[str], glue: str) -> None:
    check(glue.join(parts))
    check("{{" + glue.join(parts) + "}}")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30))
def test_any_text_gives_text_or_one_clear_error(text: str) -> None:
    check(text)
    check("{{" + text + "}}")


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="%+-# 0123456789.*[]vTtdsqxXcUfegob", max_size=12), st.integers(0, 3))
def test_any_printf_format_gives_text(form: str, kind: int) -> None:
    value = ['"a"', "7", "1.5", ".Endpoints"][kind]
    if any(len(digits) > 3 for digits in "".join(c if c.isdigit() else " " for c in form).split()):
        return
    check("{{printf `" + form + "` " + value + "}}")


def check(text: str) -> None:
    try:
        assert isinstance(render(text), str)
    except gotemplate.TemplateError as error:
        assert error.message.startswith("template parsing error: ")
        assert error.code in (1, 64)


@pytest.mark.parametrize(
    "text", ["{{" + "(" * 5000, "{{if 1}}" * 5000, "{{" + "(" * 90 + "1" + ")" * 90 + "}}"]
)
def test_deep_nesting_is_refused_or_done(text: str) -> None:
    check(text)
