"""GrowthBook's Python SDK, features given in its own JSON."""

from __future__ import annotations

import json
from typing import Any

from growthbook import GrowthBook
from workloads import USER, Condition, Rule, Setting

OPERATORS = {"one_of": "$in", "equals": "$eq", "version_at_least": "$vgte"}


def _condition(condition: Condition) -> dict[str, Any]:
    value = condition.values if condition.op == "one_of" else condition.values[0]
    return {condition.attribute: {OPERATORS[condition.op]: value}}


def _rule(rule: Rule) -> dict[str, Any]:
    condition: dict[str, Any] = {}
    for part in rule.conditions:
        condition |= _condition(part)
    out: dict[str, Any] = {"force": rule.serve}
    if condition:
        out["condition"] = condition
    if rule.percent != 100:
        out |= {"coverage": rule.percent / 100, "hashAttribute": "id"}
    return out


def document(settings: list[Setting]) -> str:
    features = {
        setting.key: {
            "defaultValue": setting.default,
            "rules": [_rule(rule) for rule in setting.rules],
        }
        for setting in settings
    }
    return json.dumps(features)


def load(features: str) -> GrowthBook:
    return GrowthBook(features=json.loads(features))


def statement(book: GrowthBook, setting: Setting, context: dict[str, str]) -> tuple[str, Any]:
    book.set_attributes({"id": USER, **context})
    return f"get({setting.key!r}, None)", {"get": book.get_feature_value}
