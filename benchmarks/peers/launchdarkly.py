"""LaunchDarkly's server SDK on its file data source, events off."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import ldclient
from ldclient import Context
from ldclient.config import Config
from ldclient.integrations import Files
from workloads import USER, Condition, Rule, Setting

logging.getLogger("ldclient.util").setLevel(logging.CRITICAL)


LISTED_MAX = 1_000
"""Longer lists become segments of tenants, the product's own way for them (a hashed look-up)."""


def _is_long(condition: Condition) -> bool:
    return len(condition.values) > LISTED_MAX


def _clause(condition: Condition) -> dict[str, Any]:
    if _is_long(condition):
        return {"attribute": "", "op": "segmentMatch", "values": ["long"], "negate": False}
    clause = {
        "contextKind": "user",
        "attribute": condition.attribute,
        "op": "in",
        "values": condition.values,
        "negate": False,
    }
    if condition.op == "version_at_least":
        clause |= {"op": "semVerLessThan", "negate": True}
    return clause


def _rule(number: int, rule: Rule) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": f"rule-{number}",
        "clauses": [_clause(condition) for condition in rule.conditions],
    }
    if rule.percent == 100:
        return out | {"variation": number + 1}
    return out | _rollout(number, rule)


def _rollout(number: int, rule: Rule) -> dict[str, Any]:
    share = rule.percent * 1000
    return {
        "rollout": {
            "contextKind": "user",
            "variations": [
                {"variation": number + 1, "weight": share},
                {"variation": 0, "weight": 100_000 - share},
            ],
        }
    }


def _flag(setting: Setting) -> dict[str, Any]:
    targeted = [rule for rule in setting.rules if rule.conditions]
    fallthrough: dict[str, Any] = {"variation": 0}
    if setting.rules and not setting.rules[-1].conditions:
        fallthrough = _rollout(len(setting.rules) - 1, setting.rules[-1])
    return {
        "key": setting.key,
        "version": 1,
        "on": True,
        "salt": setting.key,
        "variations": [setting.default, *(rule.serve for rule in setting.rules)],
        "rules": [_rule(number, rule) for number, rule in enumerate(targeted)],
        "fallthrough": fallthrough,
        "offVariation": 0,
        "targets": [],
        "prerequisites": [],
    }


def _segments(settings: list[Setting]) -> dict[str, Any]:
    for setting in settings:
        for rule in setting.rules:
            for condition in filter(_is_long, rule.conditions):
                members = {"contextKind": condition.attribute, "values": condition.values}
                return {"long": {"key": "long", "version": 1, "includedContexts": [members]}}
    return {}


def document(settings: list[Setting]) -> str:
    flags = {setting.key: _flag(setting) for setting in settings}
    return json.dumps({"flags": flags, "segments": _segments(settings)})


def load(flags: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flags.json"
        path.write_text(flags)
        return ldclient.LDClient(
            Config(
                sdk_key="none",
                update_processor_class=Files.new_data_source(paths=[str(path)]),
                send_events=False,
            ),
            start_wait=30,
        )


def statement(client: Any, setting: Setting, context: dict[str, str]) -> tuple[str, Any]:
    builder = Context.builder(USER)
    for name, value in context.items():
        builder.set(name, value)
    who = builder.build()
    if _segments([setting]):
        who = Context.create_multi(who, Context.create(context["tenant"], "tenant"))
    names = {"get": client.variation, "context": who}
    return f"get({setting.key!r}, context, None)", names
