"""Two sides in one flag: what a change makes of a setting, and what it found.

    {"if": [{"$ref": "rollout:production.12"}, <what it makes>, <what it found>]}

So whoever knows nothing of rollouts obeys them all the same. Each side answers as it would alone:

- variants keep the names that they had; one of the same name with another value takes the number
  of the rollout's revision with it (`few~12`);
- where both sides have the same default, it is the flag's; otherwise each side names its own;
- a side that is disabled or not there gives null, and so the caller's code default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from holdfast.core.covered import overlay, rollouts_in, services_of
from holdfast.core.exposure import PREFIX, exposure
from holdfast.core.lower import Lowered
from holdfast.core.model import JSON, Setting, Subject, Targeting
from holdfast.core.state import RolloutState, ServiceState, SettingState, State, same
from holdfast.core.subjects import reach
from holdfast.core.wire import canonical

NOWHERE: Final = "~"
"""Begins a name that no variant has: for a rule that gives one of the other side's alone."""


class Staging(msgspec.Struct, frozen=True):
    """A rollout as one subject sees it; `services` are those that it found."""

    rollout: str
    state: RolloutState
    services: Mapping[str, ServiceState]
    exposure: Lowered


class Side(msgspec.Struct, frozen=True):
    """A setting on one side, its targeting lowered; `logic` is none when its default decides."""

    setting: Setting
    targeting: Targeting
    logic: JSON

    @property
    def default(self) -> str | None:
        return self.targeting.default


class Place(msgspec.Struct, frozen=True):
    """Where a key of the subject comes from on one side."""

    owner: str
    state: SettingState


class Two(msgspec.Struct, frozen=True):
    """A key with two sides; none for not there."""

    staging: Staging
    new: Place | None
    old: Place | None


def stagings(
    state: State,
    subject: Subject,
    services: Mapping[str, ServiceState],
    known: Mapping[str, Lowered],
) -> tuple[Staging, ...]:
    """The rollouts that cover anything that the subject reaches, now or before them.

    `known` are the exposures of the build before, by name. What is the same stays the very object;
    name and revision don't tell that: entries that were tried and never written have them too.
    """
    found = []
    for name, rollout in rollouts_in(state, subject.environment).items():
        covered, old = services_of(rollout.before), overlay(services, rollout.before)
        names = {one for there in (services, old) for one, _ in reach(there, subject.service)}
        if not covered.isdisjoint(names):
            made, before = exposure(name, rollout), known.get(PREFIX + name)
            found.append(Staging(name, rollout, old, before if before == made and before else made))
    return tuple(found)


def two_sided(
    subject: Subject, services: Mapping[str, ServiceState], found: tuple[Staging, ...]
) -> dict[str, Two]:
    """Keys of the subject that a rollout changes. The write door lets no two cover one key."""
    keys: dict[str, Two] = {}
    for staging in found:
        new = _Reached(services, subject)
        old = _Reached(staging.services, subject)
        for key in _candidates(staging.state, new, old):
            there, was = new.place(key), old.place(key)
            if _differ(there, was):
                keys.setdefault(key, Two(staging, there, was))
    return keys


class _Reached:
    """What one side of a subject is made of, its own service first."""

    def __init__(self, services: Mapping[str, ServiceState], subject: Subject) -> None:
        self.names = [name for name, _ in reach(services, subject.service)]
        self._services = services
        self._environment = subject.environment

    def place(self, key: str) -> Place | None:
        for name in self.names:
            found = self._services[name].settings.get(key)
            if found is not None and self._environment in found.setting.environments:
                return Place(name, found)
        return None

    def keys(self) -> set[str]:
        return {key for name in self.names for key in self._services[name].settings}


def _candidates(rollout: RolloutState, new: _Reached, old: _Reached) -> set[str]:
    if new.names != old.names:
        return new.keys() | old.keys()
    covered = rollout.before.settings
    return {key for name in new.names for key in covered.get(name, ())}


def _differ(new: Place | None, old: Place | None) -> bool:
    if new is None or old is None:
        return new is not old
    return new.state.setting is not old.state.setting or new.owner != old.owner


# One flag of two sides ----------------------------------------------------------------------------


class Merged(msgspec.Struct, frozen=True):
    """What a flag of two sides is made of; `default` is what both sides have in common."""

    variants: dict[str, JSON]
    default: str | None
    logic: JSON


def merge(staging: Staging, new: Side | None, old: Side | None) -> Merged:
    """The flag that answers with `new` where exposed, and with `old` where not."""
    names = _names(staging.state.started, new, old)
    variants: dict[str, JSON] = dict(old.setting.variants) if old else {}
    if new is not None:
        variants |= {names[name]: value for name, value in new.setting.variants.items()}
    defaults = _default(new, names), _default(old, {})
    shared = defaults[0] == defaults[1]
    sides = (
        _side(new, names, variants, None if shared else defaults[0]),
        _side(old, {}, variants, None if shared else defaults[1]),
    )
    return Merged(
        variants=variants,
        default=defaults[0] if shared else None,
        logic={"if": [{"$ref": staging.exposure.name}, *sides]},
    )


def alike(new: Side, old: Side) -> bool:
    """Whether both sides answer the same, so that one flag without sides will do."""
    if not new.targeting.enabled and not old.targeting.enabled:
        return True
    return same(_answering(new), _answering(old))


def schema_of(new: Setting | None, old: Setting | None) -> JSON:
    """The schema that values of both sides have; none where there is none for both.

    References in a schema begin at its root, so one that has any can't stand inside of another.
    """
    if new is None or old is None or same(new.schema, old.schema):
        there = new or old
        return there.schema if there else None
    if new.schema is None or old.schema is None:
        return None
    both = canonical([new.schema, old.schema])
    return None if b'"$ref"' in both else {"anyOf": [new.schema, old.schema]}


def _answering(side: Side) -> tuple[Any, ...]:
    targeting = side.targeting
    return side.setting.variants, targeting.enabled, targeting.default, side.logic


def _names(started: int, new: Side | None, old: Side | None) -> dict[str, str]:
    """The new side's variants -> their names beside those of the old one."""
    here = new.setting.variants if new else {}
    there = old.setting.variants if old else {}
    names = {}
    for name, value in here.items():
        names[name] = name
        if name in there and not same(value, there[name]):
            names[name] = f"{name}~{started}"
            while names[name] in there or names[name] in here:
                names[name] += "~"
    return names


def _default(side: Side | None, names: Mapping[str, str]) -> str | None:
    if side is None or not side.targeting.enabled or side.default is None:
        return None
    return names.get(side.default, side.default)


def _side(
    side: Side | None, names: Mapping[str, str], variants: Mapping[str, JSON], default: str | None
) -> JSON:
    """One side's logic: variants renamed, and `default` where it gives null."""
    if side is None or not side.targeting.enabled:
        return None
    if side.logic is None:
        return default
    if side.targeting.logic is not None:
        own = {name: names.get(name, name) for name in side.setting.variants}
        return _translated(side.logic, own, variants, default)
    match side.logic:
        case {"if": [*branches]}:
            return {"if": _branches(branches, names, default)}
        case _:
            return _served(side.logic, names, default)


def _branches(branches: list[JSON], names: Mapping[str, str], default: str | None) -> list[JSON]:
    """Condition, answer, condition, answer, … and perhaps an answer for the rest."""
    decided = len(branches) % 2 == 1 or branches[-2] is True
    made = [
        _served(item, names, default) if number % 2 or number == len(branches) - 1 else item
        for number, item in enumerate(branches)
    ]
    return made if decided or default is None else [*made, default]


def _served(answer: JSON, names: Mapping[str, str], default: str | None) -> JSON:
    """A variant, or a split: flagd's shorthand for one gives null to contexts without a key."""
    if isinstance(answer, str):
        return names.get(answer, answer)
    arms = [
        [names.get(arm[0], arm[0]), arm[1]] if isinstance(arm, list) else arm
        for arm in answer["fractional"]
    ]
    split = {"fractional": arms}
    keyed = not isinstance(arms[0], list)
    return split if default is None or keyed else {"or": [split, default]}


def _translated(
    logic: JSON, own: Mapping[str, str], variants: Mapping[str, JSON], default: str | None
) -> JSON:
    """Logic that an author wrote whole gives any text: what comes out is looked up, once."""
    foreign, nowhere = variants.keys() - own.keys() - set(own.values()), NOWHERE
    while nowhere in variants:
        nowhere += NOWHERE
    named = [(name, to) for name, to in sorted(own.items()) if name != to]
    named += [(name, nowhere) for name in sorted(foreign)]
    given: JSON = {"var": "current"}
    branches: list[JSON] = [] if default is None else [{"===": [given, None]}, default]
    for name, to in named:
        spellings = [name, *([name == "true"] if name in ("true", "false") else [])]
        for spelling in spellings:
            branches += [{"===": [given, spelling]}, to]
    if not branches:
        return logic
    return {"reduce": [[logic], {"if": [*branches, given]}, None]}
