"""What consumers need, held against what stands: by every change, and by `can_deploy`.

A need is broken when its setting is missing, has a type that can't be read as the one needed, or
can answer with a value outside of the needed schema. An example is broken when another value comes
out in its context than the consumer counts on. A setting that is switched off breaks nothing: then
the consumer's own code default applies, and a kill switch has to work whatever others need.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from holdfast.core.build import build
from holdfast.core.compatibility import History, no_history
from holdfast.core.content import validator_of
from holdfast.core.covered import overlay, rollouts_in
from holdfast.core.errors import Damaged, Invalid, Problem
from holdfast.core.evaluate import Evaluator
from holdfast.core.model import (
    JSON,
    Contract,
    Edit,
    Example,
    Head,
    Need,
    PutContract,
    Setting,
    Subject,
    Targeting,
)
from holdfast.core.needs import holds_in
from holdfast.core.pointer import near, pointer, short
from holdfast.core.snapshot import Snapshot
from holdfast.core.state import SettingState, State, closure, same
from holdfast.core.subjects import affected, subject_revision
from holdfast.core.targeting.outcome import Outcome
from holdfast.core.targeting.segments import SegmentTable

Tables: TypeAlias = Callable[[str], bytes | None]
"""A segment table's digest -> its bytes, none when they are not at hand."""
Clock: TypeAlias = Callable[[], float]

NAMED_MAX: Final = 5
"""Consumers, and environments, that one problem names."""
UNCHECKED: Final = "contract-unchecked"
NO_TABLE: Final = "is not loaded"


class World(msgspec.Struct, frozen=True):
    """What a state alone does not hold: segment tables, the time, and settings' past versions."""

    tables: Tables
    now_s: Clock
    history: History = no_history


class Reader(msgspec.Struct, frozen=True):
    """A consumer of a service, and what it needs."""

    service: str
    consumer: str
    contract: Contract


class Break(msgspec.Struct, frozen=True):
    """One way in which a contract is not kept in one environment.

    `what` says it of the key; `path` points into the contract.
    """

    code: str
    environment: str
    consumer: str
    key: str
    what: str
    path: str
    hint: str
    severity: Literal["error", "warning"] = "error"


def check_contracts(old: State, edits: Sequence[Edit], new: State, world: World) -> list[Problem]:
    """What the change from `old` to `new` would break of all contracts that hold then.

    What was broken before and is no worse now is a warning, and told only where the change moves
    what is needed. Paths point at the setting, and for
    contracts that the change itself puts at their own part.
    """
    put = {(edit.service, edit.consumer) for edit in edits if isinstance(edit, PutContract)}
    found: list[Problem] = [*_orphans(old, new)]
    others: list[tuple[str, Break]] = []
    for reader, environment in _put(new, put):
        path = pointer(("services", reader.service, "contracts", reader.consumer))
        found += [_told(one, path + one.path) for one in _anywhere(new, environment, reader, world)]
    for reader, environment in _concerned(old, new, put):
        now = broken(new, environment, reader, world)
        was = set(broken(old, environment, reader, world)) if now else set()
        others += [(reader.service, _warned(one) if one in was else one) for one in now]
    found += _grouped(new, old, others)
    return found


def can_deploy(
    state: State, reader: Reader, environments: Iterable[str], world: World
) -> list[Problem]:
    """May a consumer with this contract run against what stands in these environments?

    Paths point into the contract. Environments in which it does not hold are passed over.
    """
    return [
        _told(one, one.path)
        for environment in environments
        if holds_in(reader.contract, environment)
        for one in _anywhere(state, environment, reader, world)
    ]


def _anywhere(state: State, environment: str, reader: Reader, world: World) -> list[Break]:
    """What is broken as things stand, or for whoever a running rollout does not expose yet.

    What such a rollout adds is no break: who is not exposed has the code default of it.
    """
    found = dict.fromkeys(broken(state, environment, reader, world))
    for rollout in rollouts_in(state, environment).values():
        services = dict(overlay(state.services, rollout.before))
        before = msgspec.structs.replace(state, services=services)
        for one in broken(before, environment, reader, world):
            if one.code != "contract-missing":
                found[one] = None
    return list(found)


def environments_of(state: State, service: str, contract: Contract) -> list[str]:
    """Where a contract holds: where it says, and else wherever its service stands."""
    if contract.environments:
        return sorted(contract.environments)
    return sorted(
        {
            environment
            for name in closure(state.services, service)
            for environment in state.services[name].touched
        }
    )


def broken(state: State, environment: str, reader: Reader, world: World) -> list[Break]:
    """All that `state` breaks of one contract in one environment, once its rollouts are through."""
    subject = Subject(environment, reader.service)
    found: list[Break] = []
    sound: set[str] = set()
    for key, need in reader.contract.needs.items():
        wrong = [*_unmet(state, subject, key, need)]
        if not wrong:
            sound.add(key)
        path = pointer(("needs", key))
        found += [
            Break(code, environment, reader.consumer, key, what, path, hint)
            for code, what, hint in wrong
        ]
    for number, key, code, what in _examples(state, subject, reader.contract, sound, world):
        path = pointer(("examples", number, "expected", key))
        hint = "agree with the consumer on what it counts on"
        one = Break(code, environment, reader.consumer, key, what, path, hint)
        found.append(_warned(one) if code == UNCHECKED else one)
    return found


# One need -----------------------------------------------------------------------------------------


def _find(state: State, subject: Subject, key: str) -> Setting | None:
    """The setting that the subject's snapshot has under a key."""
    for name in closure(state.services, subject.service):
        kept = state.services[name].settings.get(key)
        if kept is not None and subject.environment in kept.setting.environments:
            return kept.setting
    return None


def _keys(state: State, subject: Subject) -> Iterable[str]:
    for name in closure(state.services, subject.service):
        yield from state.services[name].settings


def _unmet(state: State, subject: Subject, key: str, need: Need) -> Iterator[tuple[str, str, str]]:
    """(code, what is wrong, the way out)."""
    setting = _find(state, subject, key)
    if setting is not None:
        yield from _unfit(setting, need, subject.environment)
    elif need.required:
        hint = near(key, _keys(state, subject)) or "publish the setting before who needs it"
        yield "contract-missing", "does not exist", hint


def _unfit(setting: Setting, need: Need, environment: str) -> Iterator[tuple[str, str, str]]:
    if not readable(setting.type, need.type):
        what = f"is of type {setting.type}, and {need.type} is needed"
        hint = "add a new setting of the new type, and take this one away when nobody reads it"
        yield "contract-type", what, hint
        return
    if need.schema is None:
        return
    validator = validator_of(need.schema)
    if isinstance(validator, str):
        return  # a problem of the contract itself: `core.needs`
    for name in reachable(setting.environments[environment], setting.variants):
        for error in validator.iter_errors(setting.variants[name]):
            what = f"can answer with the variant `{short(name)}`: {short(error.message, 200)}"
            hint = "serve another variant, or let the consumer accept it first"
            yield "contract-value", what, hint
            break


def readable(setting_type: str, needed: str) -> bool:
    """Whether a setting's values can be read as the needed type: integers as numbers too."""
    return setting_type == needed or (setting_type, needed) == ("integer", "number")


def reachable(targeting: Targeting, variants: Mapping[str, JSON]) -> list[str]:
    """The variants that may come out. Raw logic may give any; a switched off setting gives none."""
    if not targeting.enabled:
        return []
    if targeting.logic is not None:
        return [*variants]
    named = {targeting.default}
    for rule in targeting.rules:
        named.add(rule.serve)
        if rule.split is not None:
            named.update(name for name, weight in rule.split.weights.items() if weight > 0)
    return [name for name in variants if name in named]


# Examples -----------------------------------------------------------------------------------------


def _examples(
    state: State, subject: Subject, contract: Contract, sound: Collection[str], world: World
) -> Iterator[tuple[int, str, str, str]]:
    """(number, key, code, what comes out) of what is not as expected, for keys that fit as such."""
    keys = {key for example in contract.examples for key in example.expected}.intersection(sound)
    if not keys:
        return
    try:
        snapshot = _partial(state, subject, keys)
    except Invalid:
        return  # what can't be built is not published: building says why
    evaluator = _evaluator(snapshot, world)
    for number, example in enumerate(contract.examples):
        for key, outcome in _answers(evaluator, example, keys):
            if (told := _other(outcome, example.expected[key])) is not None:
                yield number, key, *told


def _answers(
    evaluator: Evaluator, example: Example, keys: Collection[str]
) -> Iterator[tuple[str, Outcome]]:
    for key in example.expected:
        if key in keys:
            yield key, evaluator.evaluate(key, example.context)


def _other(outcome: Outcome, expected: JSON) -> tuple[str, str] | None:
    """(code, what comes out instead); none when it is what is expected, or switched off."""
    if outcome.reason == "DISABLED":
        return None
    if outcome.error_code is not None:
        why = outcome.error_message or ""
        code = UNCHECKED if NO_TABLE in why else "contract-example"
        return code, f"can't be evaluated for an example: {why}"
    if outcome.variant is not None and _equal(outcome.value, expected):
        return None
    given = "no value" if outcome.variant is None else _brief(outcome.value)
    return "contract-example", f"gives {given}, where {_brief(expected)} is counted on"


def _equal(value: JSON, expected: JSON) -> bool:
    """As JSON: 1.0 is 1, and true is not."""
    if isinstance(value, int | float) and isinstance(expected, int | float):
        return isinstance(value, bool) == isinstance(expected, bool) and value == expected
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(
            _equal(value[key], expected[key]) for key in value
        )
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(_equal, value, expected))
    return same(value, expected)


def _brief(value: JSON) -> str:
    return short(msgspec.json.encode(value).decode(), 100)


def _partial(state: State, subject: Subject, keys: Collection[str]) -> Snapshot:
    """The subject's snapshot with these settings alone: what others hold is not lowered.

    No rollout divides it, and nothing is probed.
    """
    services = dict(state.services)
    for name in closure(state.services, subject.service):
        service = services[name]
        kept = {key: _bare(service.settings[key]) for key in keys if key in service.settings}
        services[name] = msgspec.structs.replace(service, settings=kept)
    part = msgspec.structs.replace(state, services=services, contracts={}, rollouts={}, contexts={})
    head = Head(subject_revision(part, subject), state.head.hash)
    return build(part, subject, None, head=head)


def _bare(kept: SettingState) -> SettingState:
    return SettingState(msgspec.structs.replace(kept.setting, probes=()), kept.revisions)


def _evaluator(snapshot: Snapshot, world: World) -> Evaluator:
    facts = snapshot.holdfast
    tables: dict[str, SegmentTable] = {}
    for name, each in facts.segments.items():
        body = world.tables(each.digest)
        if body is not None:
            try:
                tables[name] = SegmentTable(body)
            except Damaged:
                continue  # evaluating says that it is not loaded
    return Evaluator(
        snapshot.flags,
        evaluators=snapshot.evaluators,
        metadata=snapshot.metadata,
        bucketing=facts.semantics.bucketing,
        types={key: snapshot.setting(key).type for key in facts.settings},
        segments=tables,
        now_s=world.now_s,
    )


# A change -----------------------------------------------------------------------------------------


def _put(new: State, put: Collection[tuple[str, str]]) -> Iterator[tuple[Reader, str]]:
    """The contracts that a change puts, and the environments in which they hold."""
    for service, consumer in sorted(put):
        kept = new.contracts.get(service, {}).get(consumer)
        if kept is not None and service in new.services:
            for environment in environments_of(new, service, kept.contract):
                yield Reader(service, consumer, kept.contract), environment


def _concerned(
    old: State, new: State, put: Collection[tuple[str, str]]
) -> Iterator[tuple[Reader, str]]:
    """All other contracts that hold where the change moves what they name, cut down to that."""
    if not new.contracts:
        return
    subjects = ((one.environment, one.service) for one in affected(old, new))
    for environment, service in sorted(subjects):
        there = new.contracts.get(service, {})
        moved = _moved(old, new, environment, service) if there else set()
        for consumer, kept in there.items():
            if (service, consumer) not in put and holds_in(kept.contract, environment):
                contract = _about(kept.contract, moved)
                if contract.needs:
                    yield Reader(service, consumer, contract), environment


def _moved(old: State, new: State, environment: str, service: str) -> set[str] | None:
    """Keys whose settings differ; none when segments, includes or semantics do: then all may."""
    members = closure(new.services, service)
    was, now = old.environments.get(environment), new.environments.get(environment)
    if members != closure(old.services, service) or (was and was.revision) != (
        now and now.revision
    ):
        return None
    keys: set[str] = set()
    for name in members:
        before, after = old.services[name], new.services[name]
        if before is after:
            continue
        if _differ(before.segments, after.segments):
            return None
        keys |= _differ(before.settings, after.settings)
    return keys


def _differ(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    """Names whose values are not the same object: fold keeps all that it does not touch."""
    names = before.keys() | after.keys()
    return {name for name in names if before.get(name) is not after.get(name)}


def _about(contract: Contract, keys: set[str] | None) -> Contract:
    """The part of a contract that speaks of these settings; all of it without."""
    if keys is None:
        return contract
    needs = {key: need for key, need in contract.needs.items() if key in keys}
    examples = tuple(
        Example(one.context, {key: one.expected[key] for key in needs if key in one.expected})
        for one in contract.examples
    )
    return msgspec.structs.replace(contract, needs=needs, examples=examples)


def _orphans(old: State, new: State) -> Iterator[Problem]:
    """Services that go while somebody counts on them."""
    for service in sorted(new.contracts.keys() - new.services.keys()):
        if service in old.services:
            consumers = _names([f"`{name}`" for name in sorted(new.contracts[service])])
            yield Problem(
                code="contract-missing",
                message=f"`{service}` is read by {consumers}: it can't be deleted",
                path=pointer(("services", service)),
                hint="delete their contracts first (holdfast contract delete)",
            )


def _grouped(new: State, old: State, breaks: Iterable[tuple[str, Break]]) -> Iterator[Problem]:
    """One problem for all consumers and environments in which the same is wrong."""
    groups: defaultdict[tuple[str, ...], list[Break]] = defaultdict(list)
    for service, one in breaks:
        groups[service, one.key, one.code, one.what, one.hint, one.severity].append(one)
    for (service, key, *_), alike in groups.items():
        consumers = _names(list(dict.fromkeys(f"`{one.consumer}`" for one in alike)))
        places = _names(sorted({one.environment for one in alike}))
        before = _owner(old, service, key)
        gone = alike[0].code == "contract-missing" and before
        yield Problem(
            code=alike[0].code,
            message=f"`{key}` {alike[0].what}; needed by {consumers} in {places}",
            path=pointer(
                ("services", _owner(new, service, key) or before or service, "settings", key)
            ),
            hint="keep it until nobody needs it any more" if gone else alike[0].hint,
            severity=alike[0].severity,
        )


def _owner(state: State, service: str, key: str) -> str:
    for name in closure(state.services, service):
        if key in state.services[name].settings:
            return name
    return ""


def _told(one: Break, path: str) -> Problem:
    message = f"`{one.key}` {one.what}, in {one.environment}"
    return Problem(code=one.code, message=message, path=path, hint=one.hint, severity=one.severity)


def _warned(one: Break) -> Break:
    return msgspec.structs.replace(one, severity="warning")


def _names(names: Sequence[str]) -> str:
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
