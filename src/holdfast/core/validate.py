"""The write door's checks of a resulting state: nothing dangles or collides, all is in bounds.

Each noun that an edit leaves behind is checked by itself (`core.content`) and against the rest.
Only services that the edits touch are looked at, and those that include them: a change of one
setting costs the same in a large state as in a small one, but for the snapshots that it is in.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from holdfast.core import limits
from holdfast.core.content import check_segment, check_service, check_setting
from holdfast.core.context_check import check_contexts
from holdfast.core.errors import Problem
from holdfast.core.fold import after
from holdfast.core.logic_check import references
from holdfast.core.model import (
    NAME,
    RESERVED_ENVIRONMENTS,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    Edit,
    MoveRollout,
    PutContract,
    PutEnvironment,
    PutRoot,
    PutSegment,
    PutService,
    PutSetting,
    Setting,
)
from holdfast.core.needs import check_contract
from holdfast.core.override_check import check_overrides
from holdfast.core.pointer import below, near, pointer
from holdfast.core.policy_check import check_pace, check_policy
from holdfast.core.rollback import taken_back
from holdfast.core.rollout_check import check_rollouts
from holdfast.core.state import ServiceState, State, closure

_ServiceEdit = PutService | DeleteService | PutSetting | DeleteSetting | PutSegment | DeleteSegment
_encode = msgspec.json.encode


def validate(old: State, edits: Iterable[Edit], new: State | None = None) -> list[Problem]:
    """All problems of the state that `edits` make of `old`; an empty list lets the change through.

    `new` is that state, where the caller has folded it already. Paths point into it:
    `/services/<name>/settings/<key>/…`.
    """
    edits = tuple(edits)
    moves = any(isinstance(one, MoveRollout) for one in edits)  # takes back as much as was let out
    if len(edits) > limits.EDITS_MAX and not moves:
        message = f"{len(edits)} edits in one change; {limits.EDITS_MAX} are the most"
        return [Problem(code="too-many", message=message, hint="split the change")]
    new = new or after(old, edits)
    touched = {edit.service for edit in edits if isinstance(edit, _ServiceEdit)}
    affected = _with_includers(touched, old, new)
    found = [
        *_counts(new),
        *_environments(edits, new),
        *_roots(old, edits),
        *_owners(old, edits),
        *_nouns(new, edits),
    ]
    found += _services(new, affected, touched)
    found += _collisions(taken_back(old, edits), new, touched, affected)
    found += _references(old, new, edits, affected)
    found += check_rollouts(old, edits, new)
    found += check_overrides(old, edits, new)
    found += check_contexts(old, edits)
    if not found:  # what has problems may have no bytes to measure
        found += _sizes(old, new, touched, affected)
    return list(dict.fromkeys(found))


def _with_includers(touched: Collection[str], *states: State) -> set[str]:
    """The services, and all that include them, in any of the states."""
    includers: defaultdict[str, set[str]] = defaultdict(set)
    for state in states:
        for name, service in state.services.items():
            for included in service.info.includes:
                includers[included].add(name)
    found: set[str] = set()
    waiting = list(touched)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += includers.get(name, ())
    return found


# What stands by itself ----------------------------------------------------------------------------


def _counts(new: State) -> Iterator[Problem]:
    bounds = (
        ("services", new.services, limits.SERVICES_MAX),
        ("environments", new.environments, limits.ENVIRONMENTS_MAX),
        ("tokens", new.tokens, limits.TOKENS_MAX),
    )
    for what, there, most in bounds:
        if len(there) > most:
            message = f"{len(there)} {what}; {most} are the most"
            yield Problem(code="too-many", message=message, path=f"/{what}", hint="delete some")


def _environments(edits: Iterable[Edit], new: State) -> Iterator[Problem]:
    for edit in edits:
        if not isinstance(edit, PutEnvironment):
            continue
        name, path = edit.environment, pointer(("environments", edit.environment))
        if name in RESERVED_ENVIRONMENTS or not re.fullmatch(NAME, name):
            hint = "use lower-case letters, digits and dashes, at most 63, and not a route's name"
            message = f"`{name[:80]}` can't name an environment"
            yield Problem(code="wrong-name", message=message, path=path, hint=hint)
        if len(edit.to.description) > limits.TEXT_CHARS_MAX:
            message = f"more than {limits.TEXT_CHARS_MAX} characters"
            yield Problem(code="too-long", message=message, path=f"{path}/description")
        yield from below(f"{path}/policy", [*check_policy(edit.to.policy)])
        yield from below(f"{path}/pacing", [*check_pace(edit.to.pacing)])
        for service in edit.to.ahead.services if edit.to.ahead else ():
            if service not in new.services:
                hint = near(service, new.services) or "name services that stand"
                message = f"there is no service `{service[:80]}`"
                yield Problem(code="unknown-service", message=message, path=path, hint=hint)


def _owners(old: State, edits: tuple[Edit, ...]) -> Iterator[Problem]:
    """Settings and segments belong to a service that stands, or that the same change puts."""
    put = {edit.service for edit in edits if isinstance(edit, PutService)}
    standing = old.services.keys() - {e.service for e in edits if isinstance(e, DeleteService)}
    known = standing | put
    for edit in edits:
        if isinstance(edit, PutSetting | PutSegment | PutContract) and edit.service not in known:
            hint = near(edit.service, known) or "put the service in the same change"
            message = f"there is no service `{edit.service[:80]}`"
            path = pointer(("services", edit.service))
            yield Problem(code="unknown-service", message=message, path=path, hint=hint)


def _roots(old: State, edits: Iterable[Edit]) -> Iterator[Problem]:
    """Root documents come one after the other: with two of one version nobody trusts the chain."""
    version = len(old.roots)
    for edit in edits:
        if not isinstance(edit, PutRoot):
            continue
        version += 1
        path = pointer(("roots", str(version - 1)))
        if edit.version != version:
            message = f"root version {edit.version} in the place of {version}"
            hint = "make the next version from the newest chain"
            yield Problem(code="root-version", message=message, path=path, hint=hint)
        elif version > limits.ROOTS_MAX:
            message = f"{version} root documents; {limits.ROOTS_MAX} are the most"
            yield Problem(code="too-many", message=message, path=path)


def _nouns(new: State, edits: Iterable[Edit]) -> Iterator[Problem]:
    """Each noun that an edit leaves behind, checked once."""
    seen: set[str] = set()
    for edit in edits:
        match edit:
            case PutService(service=name):
                path = pointer(("services", name))
                found = new.services.get(name)
                problems = check_service(name, found.info) if found else []
            case PutSetting(service=name, key=key):
                path = pointer(("services", name, "settings", key))
                problems = _setting(new, name, key)
            case PutSegment(service=name, segment=key):
                path = pointer(("services", name, "segments", key))
                problems = _segment(new, name, key)
            case PutContract(service=name, consumer=key):
                path = pointer(("services", name, "contracts", key))
                problems = _contract(new, name, key)
            case _:
                continue
        if path not in seen:
            seen.add(path)
            yield from below(path, problems)


def _setting(new: State, service: str, key: str) -> list[Problem]:
    owner = new.services.get(service)
    if owner is None or key not in owner.settings:
        return []  # a later edit took it away again
    setting = owner.settings[key].setting
    return [*check_setting(key, setting), *_unknown_environments(new, setting.environments)]


def _segment(new: State, service: str, name: str) -> list[Problem]:
    owner = new.services.get(service)
    if owner is None or name not in owner.segments:
        return []
    segment = owner.segments[name].segment
    return [*check_segment(name, segment), *_unknown_environments(new, segment.environments)]


def _contract(new: State, service: str, consumer: str) -> list[Problem]:
    kept = new.contracts.get(service, {})
    if consumer not in kept:
        return []
    contract = kept[consumer].contract
    found = [*check_contract(consumer, contract)]
    found += _unknown_environments(new, contract.environments)
    if len(kept) > limits.CONTRACTS_MAX:
        message = f"{len(kept)} contracts of `{service}`; {limits.CONTRACTS_MAX} are the most"
        found.append(Problem(code="too-many", message=message, hint="delete those of the past"))
    return found


def _unknown_environments(new: State, used: Iterable[str]) -> Iterator[Problem]:
    for name in used:
        if name not in new.environments:
            hint = near(name, new.environments) or "create it first: holdfast env put NAME"
            message = f"there is no environment `{name[:80]}`"
            path = pointer(("environments", name))
            yield Problem(code="unknown-environment", message=message, path=path, hint=hint)


# What hangs together ------------------------------------------------------------------------------


def _services(new: State, affected: Iterable[str], touched: Collection[str]) -> Iterator[Problem]:
    """Includes and dependencies of affected services, and of all where one was deleted."""
    gone = {name for name in touched if name not in new.services}
    for name in sorted(affected):
        service = new.services.get(name)
        if service is None:
            continue
        path = pointer(("services", name))
        yield from _missing(new, service, path)
        yield from _cycle(new, name, path)
        if len(service.segments) > limits.SEGMENTS_MAX:
            message = f"{len(service.segments)} segments; {limits.SEGMENTS_MAX} are the most"
            yield Problem(code="too-many", message=message, path=f"{path}/segments")
    if gone:
        for name in sorted(new.services.keys() - set(affected)):
            yield from _missing(new, new.services[name], pointer(("services", name)))


def _missing(new: State, service: ServiceState, path: str) -> Iterator[Problem]:
    info = service.info
    for field, names in (("includes", info.includes), ("depends_on", info.depends_on)):
        for number, name in enumerate(names):
            if name not in new.services:
                hint = near(name, new.services) or "create it in the same change, or take it out"
                message = f"there is no service `{name[:80]}`"
                place = f"{path}/{field}/{number}"
                yield Problem(code="unknown-service", message=message, path=place, hint=hint)


def _cycle(new: State, service: str, path: str) -> Iterator[Problem]:
    """A way from the service through its includes back to it."""
    ways: dict[str, tuple[str, ...]] = {service: (service,)}
    waiting = [service]
    while waiting:
        name = waiting.pop()
        for included in new.services[name].info.includes if name in new.services else ():
            if included == service:
                way = " includes ".join((*ways[name], service))
                hint = "move what both need into a third service"
                place = f"{path}/includes"
                yield Problem(
                    code="include-cycle", message=f"a circle: {way}", path=place, hint=hint
                )
                return
            if included not in ways:
                ways[included] = (*ways[name], included)
                waiting.append(included)


def _collisions(
    old: State, new: State, touched: Collection[str], affected: Iterable[str]
) -> Iterator[Problem]:
    """One key from two services in one snapshot: consumers could not tell which they get.

    What comes of taking a rollout back counts as `old`: where it is not taken back, both stand.
    """
    for name in sorted(affected):
        if name not in new.services:
            continue
        members = closure(new.services, name)
        if members == closure(old.services, name):
            fresh = {m: _added(old, new, m) for m in members if m in touched}
        else:
            fresh = {m: new.services[m].settings.keys() for m in members}
        for owner, keys in fresh.items():
            for other in members:
                if other != owner:
                    shared = keys & new.services[other].settings.keys()
                    yield from _collision(name, owner, other, shared)


def _added(old: State, new: State, service: str) -> Collection[str]:
    before = old.services[service].settings.keys() if service in old.services else set()
    return new.services[service].settings.keys() - before


def _collision(service: str, owner: str, other: str, keys: Iterable[str]) -> Iterator[Problem]:
    first, second = sorted((owner, other))
    for key in sorted(keys):
        path = pointer(("services", first, "settings", key))
        message = f"`{key}` stands in `{first}` and in `{second}`, and `{service}` has both"
        hint = "rename one of them, or take it out"
        yield Problem(code="key-collision", message=message, path=path, hint=hint)


def _references(
    old: State, new: State, edits: Iterable[Edit], affected: Iterable[str]
) -> Iterator[Problem]:
    """References of edited settings; of all settings where segments went out of reach."""
    edited: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for edit in edits:
        if isinstance(edit, PutSetting):
            edited[edit.service][edit.key] = None
    for name in sorted(affected):
        service = new.services.get(name)
        if service is None:
            continue
        segments = _visible_segments(new.services, name)
        lost = _visible_segments(old.services, name) - segments
        for key in service.settings if lost else edited[name]:
            if key in service.settings:
                path = pointer(("services", name, "settings", key))
                yield from below(path, _unresolved(service.settings[key].setting, segments))


def _visible_segments(services: Mapping[str, ServiceState], service: str) -> set[str]:
    return {name for owner in closure(services, service) for name in services[owner].segments}


def _unresolved(setting: Setting, segments: Collection[str]) -> Iterator[Problem]:
    for environment, targeting in setting.environments.items():
        places = [("targeting", targeting.logic)]
        places += [(f"rules/{n}", rule.logic) for n, rule in enumerate(targeting.rules)]
        for place, logic in places:
            for name in sorted(references(logic) - set(segments)):
                path = f"{pointer(('environments', environment))}/{place}"
                hint = near(name, segments) or "declare it, or change the rule first"
                message = f"no segment `{name[:80]}` is visible here"
                yield Problem(code="unknown-segment", message=message, path=path, hint=hint)


def _sizes(
    old: State, new: State, touched: Collection[str], affected: Iterable[str]
) -> Iterator[Problem]:
    """Snapshots that a change makes larger, measured by what goes into them."""
    sizes: dict[str, int] = {}
    rough: dict[str, int] = {}
    grown = {name for name in touched if _grew(old.services.get(name), new.services.get(name))}
    for name in sorted(affected):
        members = closure(new.services, name)
        count = sum(len(new.services[member].settings) for member in members)
        path = pointer(("services", name, "settings"))
        if count > limits.SETTINGS_MAX:
            message = f"`{name}` has {count} settings; {limits.SETTINGS_MAX} are the most"
            hint = "split the service; included settings count too"
            yield Problem(code="too-many", message=message, path=path, hint=hint)
        elif not grown.isdisjoint(members):
            rough.update(
                (one, _rough_size(new.services[one])) for one in members if one not in rough
            )
            if sum(rough[one] for one in members) <= limits.SNAPSHOT_BYTES_MAX:
                continue
            for member in members:
                if member not in sizes:
                    sizes[member] = _size(new.services[member])
            total = sum(sizes[member] for member in members)
            if total > limits.SNAPSHOT_BYTES_MAX:
                message = f"the snapshot of `{name}` would have more than {total} bytes"
                hint = f"{limits.SNAPSHOT_BYTES_MAX} are the most: split the service"
                yield Problem(code="too-large", message=message, path=path, hint=hint)


def _grew(old: ServiceState | None, new: ServiceState | None) -> bool:
    """Whether a touched service may have become larger; its settings are compared by identity."""
    if old is None or new is None:
        return new is not None
    fresh = [s for key, s in new.settings.items() if old.settings.get(key) is not s]
    before = [old.settings[key] for key in new.settings if key in old.settings
              and old.settings[key] is not new.settings[key]]  # fmt: skip
    return len(_encode(fresh)) > len(_encode(before)) or old.info != new.info


def _rough_size(service: ServiceState) -> int:
    """At least `_size`, and found ten times as fast: all that the settings say, everywhere."""
    return len(_encode({key: state.setting for key, state in service.settings.items()}))


def _size(service: ServiceState) -> int:
    """Bytes of the largest environment's share, a little less than a snapshot makes of it."""
    shares: defaultdict[str, int] = defaultdict(int)
    for key, state in service.settings.items():
        setting = state.setting
        common = len(key) + len(_encode(setting.variants)) + len(_encode(setting.schema))
        for environment, targeting in setting.environments.items():
            logic = targeting.logic or [rule.logic for rule in targeting.rules]
            shares[environment] += common + len(_encode(logic))
    return max(shares.values(), default=0)
