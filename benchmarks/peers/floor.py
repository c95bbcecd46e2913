"""The floor: the least that Python itself asks for the work. One call, one look-up of the key, the
look-ups in the context, the comparison or the hash; no types checked, nothing counted, no errors.
"""

from __future__ import annotations

from typing import Any

import mmh3
from workloads import USER, Setting

VERSIONS = {"1.7.2": True}


def document(settings: list[Setting]) -> list[Setting]:
    return settings


def load(settings: list[Setting]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    members = frozenset(settings[0].rules[0].conditions[0].values) if _lists(settings[0]) else None
    tenants = members or frozenset(f"tenant-{number:03d}" for number in range(20))
    rings = [frozenset((ring,)) for ring in ("ring0", "ring1", "ring2", "ring3", "general")]
    hash32 = mmh3.hash
    for setting in settings:
        table[setting.key] = setting.rules[-1].serve if setting.rules else setting.default

    def static(key: str, default: Any, context: dict[str, str]) -> Any:
        return table[key]

    def one_of(key: str, default: Any, context: dict[str, str]) -> Any:
        return table[key] if context["tenant"] in tenants else default

    def semver(key: str, default: Any, context: dict[str, str]) -> Any:
        if context["tenant"] in tenants and VERSIONS[context["version"]]:
            return table[key]
        return default

    def split(key: str, default: Any, context: dict[str, str]) -> Any:
        if hash32(key + context["targetingKey"], 0, False) * 100 >> 32 < 10:
            return table[key]
        return default

    def fifth(key: str, default: Any, context: dict[str, str]) -> Any:
        ring = context["ring"]
        if ring in rings[0] or ring in rings[1] or ring in rings[2] or ring in rings[3]:
            return None
        if ring in rings[4] and context["region"] == "eu-west":
            return table[key]
        return default

    return {"static": static, "list": one_of, "semver": semver, "split": split, "object": fifth}


def _lists(setting: Setting) -> bool:
    return any(len(c.values) > 20 for rule in setting.rules for c in rule.conditions)


def _kind(setting: Setting) -> str:
    if not setting.rules:
        return "static"
    if setting.type == "object":
        return "object"
    if not setting.rules[0].conditions:
        return "split"
    return "list" if len(setting.rules[0].conditions) == 1 else "semver"


def statement(
    functions: dict[str, Any], setting: Setting, context: dict[str, str]
) -> tuple[str, Any]:
    kind = _kind(setting)
    names = {
        f"get_{kind}": functions[kind],
        "context": {"targetingKey": USER, **context},
        "default": False if setting.type == "boolean" else {},
    }
    return f"get_{kind}({setting.key!r}, default, context)", names
