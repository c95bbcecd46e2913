"""The published JSON Schema: up to date, valid, and of one mind with the checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from holdfast.core.authoring import json_schema
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
    ],
)
def test_editors_see_mistakes_of_shape(document: dict[str, Any]) -> None:
    assert not jsonschema_rs.is_valid(json_schema(), document)
