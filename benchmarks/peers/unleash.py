"""Unleash's client (a Rust core), bootstrapped from its own feature document."""

from __future__ import annotations

import json
import logging
from typing import Any

from UnleashClient import UnleashClient
from UnleashClient.cache import FileCache
from workloads import USER, Condition, Rule, Setting

logging.getLogger("UnleashClient").setLevel(logging.CRITICAL)


def _constraint(condition: Condition) -> dict[str, Any]:
    if condition.op == "version_at_least":
        return {
            "contextName": condition.attribute,
            "operator": "SEMVER_LT",
            "value": condition.values[0],
            "inverted": True,
        }
    return {"contextName": condition.attribute, "operator": "IN", "values": condition.values}


def _variant(setting: Setting, name: str, value: Any) -> list[dict[str, Any]]:
    if setting.type == "boolean":
        return []
    payload = {"type": "json", "value": json.dumps(value)}
    return [{"name": name, "weight": 1000, "stickiness": "userId", "payload": payload}]


def _strategy(setting: Setting, number: int, rule: Rule) -> dict[str, Any]:
    return {
        "name": "flexibleRollout",
        "constraints": [_constraint(condition) for condition in rule.conditions],
        "parameters": {
            "rollout": str(rule.percent),
            "stickiness": "userId",
            "groupId": setting.key,
        },
        "variants": _variant(setting, f"rule-{number}", rule.serve),
    }


def document(settings: list[Setting]) -> str:
    features = [
        {
            "name": setting.key,
            "type": "release",
            "enabled": True,
            "strategies": [
                _strategy(setting, number, rule) for number, rule in enumerate(setting.rules)
            ]
            or [{"name": "default", "parameters": {}}],
            "variants": [],
        }
        for setting in settings
    ]
    return json.dumps({"version": 2, "features": features, "segments": []})


def load(features: str) -> Any:
    cache = FileCache("bench")
    cache.bootstrap_from_dict(json.loads(features))
    client = UnleashClient(
        url="http://127.0.0.1:9/api",
        app_name="bench",
        cache=cache,
        refresh_interval=86_400,  # it would load its own cache anew, with what others left there
        disable_metrics=True,
        disable_registration=True,
    )
    client.initialize_client(fetch_toggles=False)
    return client


def statement(client: Any, setting: Setting, context: dict[str, str]) -> tuple[str, Any]:
    if setting.type == "boolean":
        names: dict[str, Any] = {"get": client.is_enabled}
        read = f"get({setting.key!r}, context)"
    else:
        names = {"get": client.get_variant, "loads": json.loads}
        read = f"loads(get({setting.key!r}, context)['payload']['value'])"
    names["context"] = {"userId": USER, "properties": dict(context)}
    return read, names
