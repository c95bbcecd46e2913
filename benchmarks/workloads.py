"""The six workloads of in-process evaluation, in words that every product can be told.

A setting is a type, variants, and rules from a small common vocabulary: an attribute is one of a
list, equals, or is a version at least; a share of users by key. Each peer translates these into
its own format, and every translation must give `expected` before it is timed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TENANTS_20 = [f"tenant-{number:03d}" for number in range(20)]
TENANTS_100K = [f"tenant-{number:06d}" for number in range(100_000)]


@dataclass(frozen=True)
class Condition:
    """`op` is one_of (values), equals (one value) or version_at_least (one value)."""

    attribute: str
    op: str
    values: list[str]


@dataclass(frozen=True)
class Rule:
    """All conditions must hold; then `serve`, to `percent` of the users."""

    conditions: list[Condition]
    serve: Any
    percent: int = 100


@dataclass(frozen=True)
class Setting:
    key: str
    type: str  # boolean | object
    default: Any
    rules: list[Rule] = field(default_factory=list)


@dataclass(frozen=True)
class Workload:
    """Evaluate each setting once, in `context`; `expected` holds the answers, none where the
    product's own hash decides."""

    name: str
    title: str
    settings: list[Setting]
    context: dict[str, str]
    expected: list[Any]


USER = "user-4711"
CONTEXT = {"tenant": "tenant-007", "version": "1.7.2", "ring": "general", "region": "eu-west"}


def _object(size: str) -> dict[str, Any]:
    return {"size": size, "tiles": 49, "codecs": ["av1", "h264"], "limits": {"up": 4, "down": 8}}


def static(key: str = "static") -> Setting:
    return Setting(key, "boolean", default=True)


def tenant_semver(key: str = "tenant-semver") -> Setting:
    both = [
        Condition("tenant", "one_of", TENANTS_20),
        Condition("version", "version_at_least", ["1.5.0"]),
    ]
    return Setting(key, "boolean", default=False, rules=[Rule(both, serve=True)])


def split(key: str = "split") -> Setting:
    return Setting(key, "boolean", default=False, rules=[Rule([], serve=True, percent=10)])


def object_fifth(key: str = "object-fifth") -> Setting:
    """One rule a ring, as a staged rollout leaves them behind; the caller is in the last."""
    rules = []
    for name in ("ring0", "ring1", "ring2", "ring3", "general"):
        rings = [name, f"{name}_1", f"{name}_2"]
        conditions = [
            Condition("ring", "one_of", rings),
            Condition("region", "equals", ["eu-west"]),
        ]
        rules.append(Rule(conditions, serve=_object(name)))
    return Setting(key, "object", default=_object("default"), rules=rules)


def tenant_100k(key: str = "tenant-100k") -> Setting:
    rule = Rule([Condition("tenant", "one_of", TENANTS_100K)], serve=True)
    return Setting(key, "boolean", default=False, rules=[rule])


def mixed(count: int) -> list[Setting]:
    """`count` settings, the four everyday kinds in turn."""
    kinds = (static, tenant_semver, split, object_fifth)
    return [kinds[number % 4](f"setting-{number:05d}") for number in range(count)]


def _answers(settings: list[Setting]) -> list[Any]:
    by_kind = [True, True, None, _object("general")]
    return [by_kind[number % 4] for number in range(len(settings))]


def workloads() -> list[Workload]:
    many = mixed(200)
    in_100k = CONTEXT | {"tenant": "tenant-070707"}
    return [
        Workload("static", "static boolean", [static()], CONTEXT, [True]),
        Workload("semver", "tenant list + version", [tenant_semver()], CONTEXT, [True]),
        Workload("split", "10 % split", [split()], CONTEXT, [None]),
        Workload("object", "object, 5th rule", [object_fifth()], CONTEXT, [_object("general")]),
        Workload("many", "200 settings", many, CONTEXT, _answers(many)),
        Workload("list", "tenant in 100,000", [tenant_100k()], in_100k, [True]),
    ]
