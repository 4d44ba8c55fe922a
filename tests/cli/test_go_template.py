"""Templates print what Docker's own print: go_templates.json holds what docker 28.2.2 answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vxtool.cli.go_template import Template
from vxtool.errors import UsageError

FACTS = json.loads((Path(__file__).parent / "go_templates.json").read_text())
MISSING = "can't evaluate field {} in type context.contextWithTLSListing"


def rendered(template: str, data: Any = None) -> str:
    return Template(template).render(FACTS["data"] if data is None else data, MISSING)


@pytest.mark.parametrize("case", FACTS["cases"], ids=lambda case: case["template"])
def test_a_template_does_what_dockers_does(case: dict[str, str]) -> None:
    if "prints" in case:
        assert rendered(case["template"]) == case["prints"]
        return
    with pytest.raises(UsageError) as refusal:
        rendered(case["template"])
    assert str(refusal.value) == f"template parsing error: template: {case['error']}"


PIECES = ("{{", "}}", "{{-", "-}}", " ", ".", ".Name", "$x", ":=", "=", "|", "(", ")", ",", '"a"', "`b`", "'c'", "3", "1.5", "if", "else", "end")
WORDS = (
    "range",
    "with",
    "break",
    "define",
    "json",
    "index",
    "printf",
    "eq",
    "and",
    "len",
    "nil",
    "true",
    "/*",
    "*/",
    "\n",
    "text",
    "{{.}}",
    "{{end}}",
)


@given(st.lists(st.sampled_from(PIECES + WORDS), max_size=25).map("".join) | st.text(max_size=30))
def test_no_template_breaks_anything(template: str) -> None:
    try:
        assert isinstance(rendered(template, {"Name": "web", "List": [1, {"a": None}]}), str)
    except UsageError as refusal:
        assert "template parsing error: template: " in str(refusal)  # noqa: PT017


@pytest.mark.parametrize(
    "template", ["{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "{{if 1}}" * 5000 + "{{end}}" * 5000, "{{if 0}}{{else " * 2000 + "if 1}}"]
)
def test_a_template_that_is_nested_too_deeply_is_refused(template: str) -> None:
    with pytest.raises(UsageError):
        rendered(template)


def test_printf_pads_no_further_than_go_does() -> None:
    assert rendered('{{printf "%99999999999d" 1}}') == "%!(NOVERB)%!(EXTRA int=1)"
    assert rendered('{{printf "%*d" 99999999999 1}}') == "%!(BADWIDTH)1"
    assert rendered('{{printf "%*d|%.*f" 3 1 1 2.55}}') == "  1|2.5"


def test_a_method_takes_its_argument() -> None:
    row = {"Label": lambda key: f"<{key}>"}
    assert rendered('{{.Label "a"}} {{"b" | .Label}}', row) == "<a> <b>"
    with pytest.raises(UsageError, match="wrong number of args for Label: want 1 got 0"):
        rendered("{{.Label}}", row)


def test_a_heading_stays_as_it_is() -> None:
    assert (
        Template("{{upper .Name}} {{truncate .ID 2}} {{json .Mode}}").render({"Name": "Name", "ID": "Ident", "Mode": "MODE"}, header=True)
        == "Name Ident MODE"
    )


def test_what_may_be_absent_is_no_value() -> None:
    document = {"Spec": {"Labels": {"a": "b"}}}
    assert Template("{{.Spec.Labels.x}}{{if .UpdateStatus}}1{{else}}2{{end}}").render(document, may_lack=lambda parent, name: True) == "<no value>2"
    with pytest.raises(UsageError, match='map has no entry for key "Nothing"'):
        Template("{{.Nothing}}").render(document)
