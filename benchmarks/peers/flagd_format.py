"""The workloads as flagd flag definitions: for flagd's own core, and for Holdfast."""

from __future__ import annotations

from typing import Any

from workloads import Condition, Rule, Setting


def _condition(condition: Condition) -> dict[str, Any]:
    attribute = {"var": condition.attribute}
    if condition.op == "one_of":
        return {"in": [attribute, condition.values]}
    if condition.op == "equals":
        return {"===": [attribute, condition.values[0]]}
    return {"sem_ver": [attribute, ">=", condition.values[0]]}


def _flag(setting: Setting) -> dict[str, Any]:
    variants = {"default": setting.default}
    branches: list[Any] = []
    for number, rule in enumerate(setting.rules):
        variant = f"rule-{number}"
        variants[variant] = rule.serve
        branches += [*_when(rule), _serve(rule, variant)]
    flag: dict[str, Any] = {"state": "ENABLED", "variants": variants, "defaultVariant": "default"}
    if len(branches) == 1:
        flag["targeting"] = branches[0]
    elif branches:
        flag["targeting"] = {"if": branches}
    return flag


def _when(rule: Rule) -> list[Any]:
    conditions = [_condition(condition) for condition in rule.conditions]
    if not conditions:
        return []
    return conditions if len(conditions) == 1 else [{"and": conditions}]


def _serve(rule: Rule, variant: str) -> Any:
    if rule.percent == 100:
        return variant
    return {"fractional": [[variant, rule.percent], ["default", 100 - rule.percent]]}


def flag_set(settings: list[Setting]) -> dict[str, Any]:
    return {"flags": {setting.key: _flag(setting) for setting in settings}}
