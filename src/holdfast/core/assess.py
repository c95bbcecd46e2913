"""A baseline of security and safety rules over a whole installation: facts in, findings out.

    assess(facts) -> Assessment

`core.assess_rules` has the rules: each is an id, a severity, why it matters, the way out, and a
small function from `Facts` to what was found. A rule whose facts could not be gathered is
`unknown`, never passed. Pure; whoever calls gathers the facts and shows the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, TypeAlias

import msgspec

from holdfast.core.model import Scope, Service, Setting
from holdfast.core.policies import Policy
from holdfast.core.reports import Refusal, Trust
from holdfast.core.roots import RootSet

Severity: TypeAlias = Literal["info", "low", "medium", "high", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = ("info", "low", "medium", "high", "critical")
Status: TypeAlias = Literal["passed", "failed", "unknown"]

FOUND_MAX: Final = 200
"""Places told for one rule; the rest is counted."""
_LIKE_PRODUCTION: Final = re.compile(r"(^|-)(prod|production|prd|live)(-|$)")


class TokenFacts(msgspec.Struct, frozen=True):
    """A token as the API lists it; `expires_s` is 0 for never."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    expires_s: int


class ServiceFacts(msgspec.Struct, frozen=True):
    """A service, its settings, and the consumers that published a contract."""

    info: Service
    settings: dict[str, Setting] = {}
    contracts: tuple[str, ...] = ()


class ConsumerFacts(msgspec.Struct, frozen=True):
    """A consumer by its newest report."""

    consumer: str
    kind: str
    environment: str
    service: str
    build: str
    revision: int
    trust: Trust
    stale: bool
    silent: bool
    behind: bool
    crashes: int
    witnesses: int
    age_s: float
    known_s: float
    refusals: tuple[Refusal, ...] = ()


class LocalFacts(msgspec.Struct, frozen=True):
    """What the machine of the control plane shows. `backup_s`: when the newest backup was written.

    `open_paths` are those of its files that others than their owner can read or write.
    """

    data_dir: str
    open_paths: tuple[str, ...]
    root_key_here: bool
    head_witness: bool
    backup_named: bool = False
    backup_s: float | None = None


class GlassFacts(msgspec.Struct, frozen=True):
    """A break-glass that is open now."""

    environment: str
    actor: str
    reason: str
    revision: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is looked at. None: could not be gathered, and rules that need it are unknown.

    `now_s` is in unix seconds. `production` names environments on top of those whose names say so.
    """

    now_s: float
    server: str
    revision: int
    build: str
    ready: str = ""
    loopback: bool = True
    encrypted: bool = False
    open_reads: bool | None = None
    rewritten: tuple[str, ...] | None = None
    root: RootSet | None = None
    production: tuple[str, ...] = ()
    environments: dict[str, Policy] | None = None
    tokens: tuple[TokenFacts, ...] | None = None
    services: dict[str, ServiceFacts] | None = None
    consumers: tuple[ConsumerFacts, ...] | None = None
    broken_glass: tuple[GlassFacts, ...] | None = None
    local: LocalFacts | None = None

    def in_production(self, environment: str) -> bool:
        return environment in self.production or bool(_LIKE_PRODUCTION.search(environment))

    def production_policies(self) -> Iterator[tuple[str, Policy]]:
        """The environments that count as production."""
        for name, policy in sorted((self.environments or {}).items()):
            if self.in_production(name):
                yield name, policy

    def settings(self) -> Iterator[tuple[str, str, Setting]]:
        """Every setting with its service and key."""
        for service, found in sorted((self.services or {}).items()):
            for key, setting in sorted(found.settings.items()):
                yield service, key, setting


class Found(msgspec.Struct, frozen=True):
    """One place where a rule does not hold."""

    where: str
    what: str


class Rule(msgspec.Struct, frozen=True):
    """`needs` names the facts without which nothing can be said."""

    id: str
    severity: Severity
    title: str
    why: str
    way_out: str
    needs: str
    find: Callable[[Facts], Iterable[Found]]


class Result(msgspec.Struct, frozen=True):
    """What became of one rule; `more` counts places beyond `FOUND_MAX`."""

    id: str
    severity: Severity
    title: str
    why: str
    way_out: str
    status: Status
    found: tuple[Found, ...] = ()
    more: int = 0


class Assessment(msgspec.Struct, frozen=True):
    """Failed rules first, the most severe first; `failed` counts them by severity."""

    server: str
    build: str
    revision: int
    at_s: int
    failed: dict[str, int]
    passed: int
    unknown: int
    results: tuple[Result, ...]

    def worst(self) -> Severity | None:
        """The highest severity among the failed rules."""
        failed = [one.severity for one in self.results if one.status == "failed"]
        return max(failed, key=SEVERITIES.index, default=None)

    def fails(self, at_or_above: Severity) -> bool:
        worst = self.worst()
        return worst is not None and SEVERITIES.index(worst) >= SEVERITIES.index(at_or_above)


def assess(facts: Facts, rules: Iterable[Rule]) -> Assessment:
    """Hold the facts to every rule."""
    results = tuple(sorted((_judge(facts, rule) for rule in rules), key=_order))
    failed = [one for one in results if one.status == "failed"]
    return Assessment(
        server=facts.server,
        build=facts.build,
        revision=facts.revision,
        at_s=int(facts.now_s),
        failed={
            severity: count
            for severity in reversed(SEVERITIES)
            if (count := sum(one.severity == severity for one in failed))
        },
        passed=sum(one.status == "passed" for one in results),
        unknown=sum(one.status == "unknown" for one in results),
        results=results,
    )


def _judge(facts: Facts, rule: Rule) -> Result:
    told = (rule.id, rule.severity, rule.title, rule.why, rule.way_out)
    if getattr(facts, rule.needs) is None:
        return Result(*told, "unknown")
    found = tuple(rule.find(facts))
    status: Status = "failed" if found else "passed"
    return Result(*told, status, found[:FOUND_MAX], max(0, len(found) - FOUND_MAX))


def _order(result: Result) -> tuple[int, int, str]:
    place = ("failed", "unknown", "passed").index(result.status)
    return place, -SEVERITIES.index(result.severity), result.id
