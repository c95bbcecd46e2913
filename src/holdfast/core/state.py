"""`State`: everything that stands after a revision, and which revision touched it.

The bookkeeping here (`touched`, `revisions`, `removed`, `included_at`, `access`) is what makes
invariant 3, no unexplained change, decidable: an environment is touched by an entry exactly when
what the entry leaves behind differs there from what it found.

States are values: `core.fold` never changes the one that it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from holdfast.core.model import (
    GENESIS,
    JSON,
    Contract,
    Environment,
    Head,
    RolloutStatus,
    Segment,
    Service,
    Setting,
    Token,
)
from holdfast.core.policies import Plan

_encode = msgspec.json.Encoder(order="deterministic").encode


class SettingState(msgspec.Struct, frozen=True):
    """A setting, and per environment that it stands in the newest revision that changed it there.

    Type, variants, schema, metadata and probes belong to every environment; targeting to its own;
    description, expiry and the way variants were written to none.
    """

    setting: Setting
    revisions: dict[str, int] = {}


class SegmentState(msgspec.Struct, frozen=True):
    """A segment, and per environment the newest revision that changed who is in it there.

    An environment that is missing came after the segment: read it as 0.
    """

    segment: Segment
    revisions: dict[str, int] = {}


class ServiceState(msgspec.Struct, frozen=True):
    """One service.

    - `touched`: environment -> newest revision that changed anything of this service there. The
      pair is a subject once it stands here. Included services are not counted in: see `closure`.
    - `removed`: environment -> key -> revision of the removal, for keys that went away, included
      keys of a dropped include among them. A key that came back through an include stays here: its
      answer changed at that revision. Beyond `limits.SETTINGS_MAX` the oldest are forgotten, but
      for keys that some service has.
    - `included_at`: include -> revision that (last) added it.
    - `segments_removed`: segment -> revision that took it, or the include that brought it, away.
      Rules that find one of the same name further along the includes moved at that revision.
    """

    info: Service
    settings: dict[str, SettingState] = {}
    segments: dict[str, SegmentState] = {}
    touched: dict[str, int] = {}
    removed: dict[str, dict[str, int]] = {}
    included_at: dict[str, int] = {}
    segments_removed: dict[str, int] = {}


class EnvironmentState(msgspec.Struct, frozen=True):
    """An environment, and the newest revision that changed its bucketing (its first one too).

    `shaped` is the newest one that changed `policy.shape` or `pacing`, which every snapshot
    carries. `moved`: service -> newest one that changed the bucketing of this service by itself.
    """

    environment: Environment
    revision: int
    shaped: int = 0
    moved: dict[str, int] = {}

    def dealt(self, service: str) -> int:
        """The newest revision that changed the service's bucketing."""
        return max(self.revision, self.moved.get(service, 0))


class TokenState(msgspec.Struct, frozen=True):
    token: Token
    revision: int


class ContractState(msgspec.Struct, frozen=True):
    contract: Contract
    revision: int


class Before(msgspec.Struct, frozen=True):
    """What a rollout's change found: the nouns that it put or deleted, none for not there.

    Settings and segments by service and name, services' own facts by name.
    """

    settings: dict[str, dict[str, Setting | None]] = {}
    segments: dict[str, dict[str, Segment | None]] = {}
    services: dict[str, Service | None] = {}


class RolloutState(msgspec.Struct, frozen=True):
    """A change on its way out in one environment; ended ones stand in the journal only.

    Consumers that are exposed get the state as it is, all others what stands in `before`.
    `started` and `moved` are revisions, `moved_ms` the time of the entry `moved`.
    """

    environment: str
    plan: Plan
    before: Before
    started: int
    moved: int
    moved_ms: int
    stage: int = 0
    status: RolloutStatus = "running"
    actor: str = ""
    reason: str = ""


class OverrideState(msgspec.Struct, frozen=True):
    """What stands over one setting since `revision`; without a flag it was lifted then."""

    flag: JSON
    revision: int
    at_ms: int = 0
    actor: str = ""
    reason: str = ""


class Overridden(msgspec.Struct, frozen=True):
    """What stands over one subject, by key; `touched` counts for all of its settings."""

    keys: dict[str, OverrideState] = {}
    touched: int = 0

    @property
    def revision(self) -> int:
        return max([self.touched, *(one.revision for one in self.keys.values())])


class State(msgspec.Struct, frozen=True):
    """All that stands after revision `head.revision`. Shared and read-only, its maps too.

    - `roots`: root documents as DSSE envelopes, version 1 first.
    - `access`: scope environment as written in tokens (`*` too) -> newest revision that added,
      changed or removed a token with such a scope.
    - `gone`: services that were deleted: no settings and segments any more, but their `touched` and
      `removed`, so that one made again under the same name goes on and not back.
    - `contracts`: service -> consumer -> what it needs.
    - `rollouts`: id -> a rollout that has not ended.
    - `contexts`: subject as `environment/service` -> contexts that probes are made from.
    - `overrides`: subject in the same way -> what was pushed over it (`core.overrides`).
    """

    head: Head = GENESIS
    services: dict[str, ServiceState] = {}
    environments: dict[str, EnvironmentState] = {}
    tokens: dict[str, TokenState] = {}
    roots: tuple[JSON, ...] = ()
    access: dict[str, int] = {}
    gone: dict[str, ServiceState] = {}
    contracts: dict[str, dict[str, ContractState]] = {}
    rollouts: dict[str, RolloutState] = {}
    contexts: dict[str, tuple[dict[str, JSON], ...]] = {}
    overrides: dict[str, Overridden] = {}


EMPTY = State()


def closure(services: Mapping[str, ServiceState], service: str) -> tuple[str, ...]:
    """`service` and all that it includes, directly or not, each once, in order of precedence.

    Depth first in the order written; names that don't exist are left out; a cycle ends.
    """
    found: dict[str, None] = {}
    waiting = [service]
    while waiting:
        name = waiting.pop()
        if name in found or name not in services:
            continue
        found[name] = None
        waiting.extend(reversed(services[name].info.includes))
    return tuple(found)


def declared(services: Mapping[str, ServiceState], service: str) -> tuple[str, ...]:
    """The attributes that a service and all that it includes declare, in order."""
    members = (services[name].info for name in closure(services, service))
    return tuple(sorted({name for info in members for name in info.attributes}))


def same(left: object, right: object) -> bool:
    """Whether two nouns are the same JSON. `==` is not enough: to Python, `True` equals 1."""
    return left is right or _encode(left) == _encode(right)


def setting_environments(old: Setting | None, new: Setting | None) -> set[str]:
    """Environments in which the two may answer differently; none stands for not being there."""
    if old is None or new is None:
        there = old or new
        return set(there.environments) if there else set()
    everywhere = old.environments.keys() | new.environments.keys()
    if _of_all_environments(old) != _of_all_environments(new):
        return set(everywhere)
    return {
        environment
        for environment in everywhere
        if not same(old.environments.get(environment), new.environments.get(environment))
    }


def segment_environments(
    old: Segment | None, new: Segment | None, environments: Iterable[str]
) -> set[str]:
    """Those of `environments` and of the segments' overrides in which the audience differs."""
    names = set(environments)
    for segment in (old, new):
        names.update(segment.environments if segment else ())
    return {name for name in names if not same(_audience(old, name), _audience(new, name))}


def _of_all_environments(setting: Setting) -> bytes:
    return _encode(
        (setting.type, setting.variants, setting.schema, setting.metadata, setting.probes)
    )


def _audience(segment: Segment | None, environment: str) -> object:
    return segment.environments.get(environment, segment.audience) if segment else None


def segment_owners(services: Mapping[str, ServiceState], service: str) -> dict[str, str]:
    """Every segment that the service's rules can name -> the service that owns it."""
    owners: dict[str, str] = {}
    for name in closure(services, service):
        for segment in services[name].segments:
            owners.setdefault(segment, name)
    return owners


def visible(services: Mapping[str, ServiceState], service: str) -> dict[tuple[str, str], str]:
    """(environment, key) of all that the service's snapshots hold -> the service that owns it."""
    owners: dict[tuple[str, str], str] = {}
    for name in closure(services, service):
        for key, found in services[name].settings.items():
            for environment in found.setting.environments:
                owners.setdefault((environment, key), name)
    return owners
