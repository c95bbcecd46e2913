"""The published JSON Schema: up to date, valid, and of one mind with the checks."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from holdfast.core.authoring import SourceFile, json_schema, plan
from holdfast.core.authoring.tree import read_tree

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "docs" / "reference" / "settings.schema.json"
CONTOSO = sorted((ROOT / "examples" / "contoso").glob("*.yaml"))


def test_the_published_schema_is_up_to_date() -> None:
    """`holdfast schema > docs/reference/settings.schema.json` makes it anew."""
    assert json.loads(PUBLISHED.read_text()) == json_schema()


def test_the_schema_is_valid() -> None:
    jsonschema_rs.meta.validate(json_schema())


@pytest.mark.parametrize("file", CONTOSO, ids=lambda file: file.stem)
def test_the_examples_fit_it_and_point_editors_at_it(file: Path) -> None:
    tree = read_tree(file.read_bytes(), file.name)
    assert tree.root is not None
    assert jsonschema_rs.is_valid(json_schema(), tree.root.plain())
    first = file.read_text().split("\n")[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (file.parent / first.split("=")[1]).resolve() == PUBLISHED


def _setting(**fields: Any) -> dict[str, Any]:
    setting = {"type": "boolean", "variants": {"on": True}, **fields}
    return {"service": "s", "settings": {"a": setting}}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"service": "Upper"},
        {"service": "s", "servce": "t"},
        {"service": "s", "settings": {"a/b": {"type": "boolean", "variants": {"on": True}}}},
        {"service": "s", "settings": {"a": {"type": "int", "variants": {"on": 1}}}},
        {"service": "s", "settings": {"a": {"type": "integer", "variants": {}}}},
        {"service": "s", "segments": {"p": {"by": "tenant"}}},
        {"service": "s", "segments": {"p": {"when": "true", "logic": True}}},
        {"service": "s", "segments": {"p": {"when": "true", "by": "targetingKey"}}},
        {"service": "s", "segments": {"p": {"when": "true", "members": ["a"]}}},
        {"service": "s", "segments": {"p": {"by": "now", "members": [], "member_count": 2}}},
        {"service": "s", "segments": {"p": {"by": "", "members": ["a"]}}},
        _setting(expires="2027-01-0\u0661"),
        _setting(environments={"e": {"rules": [{"serve": ""}]}}),
        _setting(environments={"e": {"rules": [{"split": {"weights": {"on": 1}, "by": ""}}]}}),
        _setting(environments={"e": {"rules": [{"serve": "on"}], "targeting": {"var": "a"}}}),
    ],
)
def test_editors_see_mistakes_of_shape(document: dict[str, Any]) -> None:
    """As the reader does."""
    assert not jsonschema_rs.is_valid(json_schema(), document)
    assert plan([SourceFile("f.json", json.dumps(document).encode())], {}).problems


@pytest.mark.parametrize("targeting", [{"rules": [], "targeting": {"var": "a"}},
                                       {"rules": [{"serve": "on"}], "targeting": {}}])  # fmt: skip
def test_editors_see_no_mistake_where_there_is_none(targeting: dict[str, Any]) -> None:
    document = _setting(environments={"e": targeting})
    assert jsonschema_rs.is_valid(json_schema(), document)
    assert not plan([SourceFile("f.json", json.dumps(document).encode())], {}).problems


SOURCES = [
    path
    for pattern in (
        "authoring/*.py",
        "cel/*.py",
        "*_check.py",
        "content.py",
        "validate.py",
        "flagd.py",
        "evaluators.py",
    )
    for path in sorted((ROOT / "src" / "holdfast" / "core").glob(pattern))
    if path.suffix == ".py"
]
REPORTERS = {"_report", "_refuse", "_mend", "_note", "_broken", "_problem", "problem"}
CODE = re.compile(r"[a-z]+(-[a-z]+)*")


def codes_of(path: Path) -> Iterator[str]:
    """Every literal that stands where a problem's code does."""
    for call in ast.walk(ast.parse(path.read_text())):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        places = [word.value for word in call.keywords if word.arg == "code"]
        places += call.args[:2] if name in REPORTERS else []
        texts = [place.value for place in places if isinstance(place, ast.Constant)]
        yield from (text for text in texts if isinstance(text, str) and CODE.fullmatch(text))


def test_every_problem_code_is_in_the_reference_and_none_besides() -> None:
    reference = (ROOT / "docs" / "reference" / "authoring.md").read_text()
    tables = reference.split("## Problem codes")[1]
    rows = [line.split("|")[1] for line in tables.split("\n") if line.startswith("| `")]
    documented = {code for row in rows for code in re.findall(r"`([a-z-]+)`", row)}
    emitted = {code for path in SOURCES for code in codes_of(path)}
    computed = {"unknown-service", "unknown-environment", "syntax", "lone-surrogate"}
    by_the_command_line = {"members-file-outside"}
    assert emitted | computed | by_the_command_line == documented
