"""Some settings of a subject as a state has them, ready to evaluate: what changes, and how.

Rollouts are left out, so that what stands is what a change means in the end, and so are probes and
contracts: nothing but answers is asked for. Only settings whose source may differ are lowered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import msgspec

from holdfast.core.build import build
from holdfast.core.errors import Damaged, NotFound
from holdfast.core.evaluate import Evaluator
from holdfast.core.logic_check import references
from holdfast.core.model import JSON, TARGETING_KEY, Head, Segment, Setting, Subject, Targeting
from holdfast.core.snapshot import Snapshot
from holdfast.core.state import ServiceState, SettingState, State, closure
from holdfast.core.subjects import environment_of, subject_revision
from holdfast.core.targeting.segments import SegmentTable


class Side(msgspec.Struct, frozen=True):
    """Settings on one side of a change; `sources` maps each key to the digest of its source."""

    evaluator: Evaluator
    sources: Mapping[str, str]
    snapshot: Snapshot | None = None


def place_of(state: State, subject: Subject) -> dict[str, tuple[str, Setting]]:
    """Key -> (owner, setting) of all that the subject's snapshot has."""
    found: dict[str, tuple[str, Setting]] = {}
    for name in closure(state.services, subject.service):
        for key, kept in state.services[name].settings.items():
            if key not in found and subject.environment in kept.setting.environments:
                found[key] = (name, kept.setting)
    return found


def suspects(old: State, new: State, subject: Subject) -> set[str]:
    """Keys of the subject whose answers may differ between the two states; no other's can."""
    environment = subject.environment
    bucketing = [
        environment_of(each, environment).environment.bucketing_of(subject.service)
        for each in (old, new)
    ]
    members = closure(new.services, subject.service)
    untouched = all(old.services.get(name) is new.services[name] for name in members)
    if bucketing[0] == bucketing[1] and untouched and subject.service in new.services:
        return set()
    before, after = place_of(old, subject), place_of(new, subject)
    if bucketing[0] != bucketing[1]:
        return before.keys() | after.keys()
    found = before.keys() ^ after.keys()
    resolve = _Segments(old, new)
    for key in before.keys() & after.keys():
        (was_owner, was), (owner, now) = before[key], after[key]
        if was is not now or was_owner != owner:
            found.add(key)
        elif resolve.may_differ(owner):
            names = _references(now.environments[environment])
            if any(resolve.differs(owner, name) for name in names):
                found.add(key)
    return found


class _Segments:
    """Which segments names stand for in two states."""

    def __init__(self, old: State, new: State) -> None:
        self._states = (old, new)
        self._moved: dict[str, bool] = {}

    def may_differ(self, owner: str) -> bool:
        """Whether the owner's rules may find other segments than before."""
        known = self._moved.get(owner)
        if known is None:
            known = self._moved[owner] = self._compared(owner)
        return known

    def differs(self, owner: str, name: str) -> bool:
        was, now = (_segment(state, owner, name) for state in self._states)
        return was is not now

    def _compared(self, owner: str) -> bool:
        old, new = (closure(state.services, owner) for state in self._states)
        return old != new or any(
            self._states[0].services[name].segments is not self._states[1].services[name].segments
            for name in new
        )


def _segment(state: State, owner: str, name: str) -> Segment | None:
    for service in closure(state.services, owner):
        found = state.services[service].segments.get(name)
        if found is not None:
            return found.segment
    return None


def _references(targeting: Targeting) -> set[str]:
    logics = [targeting.logic, *(rule.logic for rule in targeting.rules)]
    return {name for logic in logics for name in (*references(logic), *_looked_into(logic))}


def _looked_into(logic: JSON) -> Iterator[str]:
    """Segments that are named by `in_segment`."""
    if isinstance(logic, dict):
        given = logic.get("in_segment")
        if isinstance(given, list) and len(given) == 2 and isinstance(given[1], str):
            yield given[1]
        for inner in logic.values():
            yield from _looked_into(inner)
    elif isinstance(logic, list):
        for inner in logic:
            yield from _looked_into(inner)


def side_of(
    state: State,
    subject: Subject,
    keys: Collection[str],
    tables: Callable[[str], bytes | None],
    now_s: float,
) -> Side:
    """These settings of a subject as `state` has them, at one moment; those not there left out.

    `tables` gives a segment table's bytes by digest, none when they are not at hand. Raises
    `Invalid` for what can't be built.
    """
    try:
        snapshot = _partial(state, subject, keys)
    except NotFound:
        return Side(Evaluator({}, now_s=lambda: now_s), {})
    facts = snapshot.holdfast
    sources = {key: snapshot.setting(key) for key in facts.settings}
    evaluator = Evaluator(
        snapshot.flags,
        evaluators=snapshot.evaluators,
        bucketing=facts.semantics.bucketing,
        types={key: each.type for key, each in sources.items()},
        segments=_tables(snapshot, tables),
        now_s=lambda: now_s,
    )
    return Side(evaluator, {key: each.digest for key, each in sources.items()}, snapshot)


def _partial(state: State, subject: Subject, keys: Collection[str]) -> Snapshot:
    """The snapshot with these settings alone, of a state with nothing on its way."""
    services = dict(state.services)
    for name in closure(state.services, subject.service):
        services[name] = _reduced(services[name], keys)
    part = msgspec.structs.replace(state, services=services, contracts={}, contexts={}, rollouts={})
    head = Head(subject_revision(part, subject), state.head.hash)
    return build(part, subject, None, head=head)


def _reduced(service: ServiceState, keys: Collection[str]) -> ServiceState:
    settings = {}
    for key in keys:
        kept = service.settings.get(key)
        if kept is not None:
            setting = msgspec.structs.replace(kept.setting, probes=())
            settings[key] = SettingState(setting, kept.revisions)
    return msgspec.structs.replace(service, settings=settings)


def _tables(snapshot: Snapshot, tables: Callable[[str], bytes | None]) -> dict[str, SegmentTable]:
    found = {}
    for name, each in snapshot.holdfast.segments.items():
        body = tables(each.digest)
        if body is not None:
            try:
                found[name] = SegmentTable(body)
            except Damaged:
                continue  # evaluating says that it is not loaded
    return found


def attributes_read(side: Side, key: str) -> frozenset[str] | None:
    """Attributes of the context that a setting reads, the first part of dotted names.

    None when it may read any: a name that is computed, or the context as a whole.
    """
    if side.snapshot is None or key not in side.snapshot.flags:
        return frozenset()
    logic = msgspec.json.decode(side.snapshot.flags[key]).get("targeting")
    found: set[str] = set()
    waiting: list[JSON] = [logic]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        if not isinstance(item, dict):
            continue
        for operator, given in item.items():
            if operator in ("missing", "missing_some"):
                return None
            if operator == "fractional" and not _names_its_key(given):
                found.add(TARGETING_KEY)
            if operator == "$ref" and isinstance(given, str):
                waiting.append(_evaluator_logic(side.snapshot, given))
            elif operator == "var":
                name = given[0] if isinstance(given, list) and given else given
                if not isinstance(name, str) or not name:
                    return None
                found.add(name.split(".", maxsplit=1)[0])
            waiting.append(given)
    return frozenset(found)


def _names_its_key(arms: JSON) -> bool:
    """Whether a split says what it hashes; without that it is the targetingKey."""
    return isinstance(arms, list) and bool(arms) and not isinstance(arms[0], list)


def _evaluator_logic(snapshot: Snapshot, name: str) -> JSON:
    body = snapshot.evaluators.get(name)
    return None if body is None else msgspec.json.decode(body)
