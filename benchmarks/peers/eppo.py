"""Eppo's server SDK (a Rust core), configured from its universal flag configuration."""

from __future__ import annotations

import json
from typing import Any

import eppo_client
from eppo_client import ClientConfig, Configuration
from eppo_client.assignment_logger import AssignmentLogger
from workloads import USER, Condition, Rule, Setting

SHARDS = 10_000


def _condition(condition: Condition) -> dict[str, Any]:
    if condition.op == "version_at_least":
        return {
            "attribute": condition.attribute,
            "operator": "GTE",
            "value": condition.values[0],
        }
    return {"attribute": condition.attribute, "operator": "ONE_OF", "value": condition.values}


def _allocation(number: int, rule: Rule) -> dict[str, Any]:
    allocation: dict[str, Any] = {
        "key": f"allocation-{number}",
        "splits": [
            {
                "variationKey": f"rule-{number}",
                "shards": [
                    {
                        "salt": f"salt-{number}",
                        "ranges": [{"start": 0, "end": SHARDS * rule.percent // 100}],
                    }
                ]
                if rule.percent != 100
                else [],
            }
        ],
        "doLog": False,
    }
    if rule.conditions:
        allocation["rules"] = [{"conditions": [_condition(part) for part in rule.conditions]}]
    return allocation


def _flag(setting: Setting) -> dict[str, Any]:
    values = {"default": setting.default}
    values |= {f"rule-{number}": rule.serve for number, rule in enumerate(setting.rules)}
    as_json = setting.type == "object"
    default = {
        "key": "allocation-default",
        "splits": [{"variationKey": "default", "shards": []}],
        "doLog": False,
    }
    return {
        "key": setting.key,
        "enabled": True,
        "variationType": "JSON" if as_json else "BOOLEAN",
        "variations": {
            name: {"key": name, "value": json.dumps(value) if as_json else value}
            for name, value in values.items()
        },
        "allocations": [
            *(_allocation(number, rule) for number, rule in enumerate(setting.rules)),
            default,
        ],
        "totalShards": SHARDS,
    }


def document(settings: list[Setting]) -> bytes:
    flags = {
        "createdAt": "2026-11-01T00:00:00.000Z",
        "format": "SERVER",
        "environment": {"name": "production"},
        "flags": {setting.key: _flag(setting) for setting in settings},
    }
    return json.dumps(flags).encode()


def load(flags: bytes) -> Any:
    configuration = Configuration(flags_configuration=flags)
    return eppo_client.init(
        ClientConfig(
            api_key="none",
            base_url="http://127.0.0.1:9",
            assignment_logger=AssignmentLogger(),
            initial_configuration=configuration,
            poll_interval_seconds=None,
        )
    )


def statement(client: Any, setting: Setting, context: dict[str, str]) -> tuple[str, Any]:
    boolean = setting.type == "boolean"
    names = {
        "get": client.get_boolean_assignment if boolean else client.get_json_assignment,
        "default": False if boolean else {},
        "context": dict(context),
    }
    return f"get({setting.key!r}, {USER!r}, context, default)", names
