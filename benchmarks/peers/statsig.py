"""Statsig's server core (Rust), its specs handed over by a data store; network off."""

from __future__ import annotations

import json
from typing import Any

from statsig_python_core import Statsig, StatsigOptions, StatsigUser
from statsig_python_core.data_store import DataStore, DataStoreResponse
from workloads import USER, Condition, Rule, Setting

OPERATORS = {"one_of": "any_case_sensitive", "equals": "any_case_sensitive"}


class Specs(DataStore):
    """Holds the specs and gives them to whoever asks."""

    specs = ""

    def get(self, key: str) -> DataStoreResponse:
        return DataStoreResponse(result=self.specs, time=1)


def _condition(condition: Condition) -> dict[str, Any]:
    version = condition.op == "version_at_least"
    return {
        "type": "user_field",
        "targetValue": condition.values[0] if version else condition.values,
        "operator": "version_gte" if version else OPERATORS[condition.op],
        "field": condition.attribute,
        "additionalValues": {},
        "isDeviceBased": False,
        "idType": "userID",
    }


def _rule(setting: Setting, number: int, rule: Rule, names: list[str]) -> dict[str, Any]:
    return {
        "name": f"rule-{number}",
        "id": f"{setting.key}-{number}",
        "salt": f"{setting.key}-{number}",
        "passPercentage": rule.percent,
        "conditions": names,
        "returnValue": rule.serve,
        "idType": "userID",
    }


def _spec(setting: Setting, conditions: dict[str, Any]) -> dict[str, Any]:
    boolean = setting.type == "boolean"
    rules = list(setting.rules)
    if setting.default is True:
        rules.append(Rule([], serve=True))
    out = []
    for number, rule in enumerate(rules):
        names = []
        for place, condition in enumerate(rule.conditions):
            name = f"{setting.key}-{number}-{place}"
            conditions[name] = _condition(condition)
            names.append(name)
        if not names:
            conditions["everyone"] = {
                "type": "public",
                "targetValue": None,
                "operator": None,
                "field": None,
                "additionalValues": {},
                "isDeviceBased": False,
                "idType": "userID",
            }
            names = ["everyone"]
        out.append(_rule(setting, number, rule, names))
    return {
        "name": setting.key,
        "type": "feature_gate" if boolean else "dynamic_config",
        "salt": setting.key,
        "enabled": True,
        "defaultValue": False if boolean else setting.default,
        "rules": out,
        "idType": "userID",
        "entity": "feature_gate" if boolean else "dynamic_config",
        "version": 1,
    }


def document(settings: list[Setting]) -> str:
    conditions: dict[str, Any] = {}
    gates = {s.key: _spec(s, conditions) for s in settings if s.type == "boolean"}
    configs = {s.key: _spec(s, conditions) for s in settings if s.type != "boolean"}
    return json.dumps(
        {
            "feature_gates": gates,
            "dynamic_configs": configs,
            "layer_configs": {},
            "condition_map": conditions,
            "experiment_to_layer": {},
            "has_updates": True,
            "time": 1,
            "response_format": "dcs-v2",
        }
    )


def load(specs: str) -> Any:
    store = Specs()
    store.specs = specs
    statsig = Statsig(
        "secret-none",
        StatsigOptions(
            data_store=store,
            disable_network=True,
            disable_all_logging=True,
            output_log_level="none",
        ),
    )
    statsig.initialize().wait()
    return statsig


def statement(statsig: Any, setting: Setting, context: dict[str, str]) -> tuple[str, Any]:
    user = StatsigUser(user_id=USER, custom=dict(context))
    if setting.type == "boolean":
        return f"get(user, {setting.key!r})", {"get": statsig.check_gate, "user": user}
    names = {"get": statsig.get_dynamic_config, "user": user}
    return f"get(user, {setting.key!r}).value", names
