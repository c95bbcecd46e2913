"""Explanations as a tree, of real evaluations."""

from __future__ import annotations

import io

import msgspec
from rich.console import Console

from holdfast.apps.cli.explained import tree_of
from holdfast.core.evaluate import Evaluator

RULES = {
    "if": [
        {"==": [{"var": "tenant"}, "contoso"]},
        "many",
        {"fractional": [["many", 10], ["few", 90]]},
    ]
}
FLAG = {
    "state": "ENABLED",
    "variants": {"few": 9, "many": 49},
    "defaultVariant": "few",
    "targeting": RULES,
}


def shown(flag: dict[str, object], **context: object) -> list[str]:
    evaluator = Evaluator({"tiles": msgspec.json.encode(flag)}, now_s=lambda: 0)
    out = io.StringIO()
    console = Console(file=out, width=200, color_system=None)
    console.print(tree_of("production/calling/tiles", evaluator.explain("tiles", context)))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_the_rule_that_decided_is_named_with_its_condition() -> None:
    lines = shown(FLAG, tenant="contoso", targetingKey="u")
    assert lines[0] == "production/calling/tiles = 49   variant many, TARGETING_MATCH"
    assert any('tenant = "contoso"' in line for line in lines)
    assert any("rule 1: yes, it decided" in line for line in lines)
    assert any("→ true" in line for line in lines)


def test_a_split_shows_the_bucket_and_the_arm() -> None:
    lines = shown(FLAG, tenant="other", targetingKey="u")
    assert any("rule 1: no" in line for line in lines)
    [split] = [line for line in lines if "split by" in line]
    assert "of 100" in split
    assert sum("← here" in line for line in lines) == 1


def test_without_rules_it_is_the_default() -> None:
    lines = shown({**FLAG, "targeting": {}})
    assert lines[0] == "production/calling/tiles = 9   variant few, STATIC"
    assert "it has no rules" in lines[1]


def test_what_failed_is_told() -> None:
    lines = shown({**FLAG, "targeting": {"if": [True, "absent"]}})
    assert "no value" in lines[0]
    assert "GENERAL" in lines[1]
