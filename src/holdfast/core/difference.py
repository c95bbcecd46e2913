"""What differs between two states, item by item, for readers, approvals and authorisation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from holdfast.core.model import JSON, Contract, Environment, Segment, Service, Setting, Token
from holdfast.core.overrides import pushed_value
from holdfast.core.state import (
    Overridden,
    OverrideState,
    RolloutState,
    ServiceState,
    State,
    closure,
    same,
    segment_environments,
    setting_environments,
)

Kind: TypeAlias = Literal[
    "service",
    "setting",
    "segment",
    "environment",
    "token",
    "root",
    "contract",
    "rollout",
    "override",
    "contexts",
]
Noun: TypeAlias = Service | Setting | Segment | Environment | Token | Contract
N = TypeVar("N", Service, Setting, Segment, Environment, Token, Contract)
Place: TypeAlias = tuple[Kind, str, str]
"""(kind, service, name); service is empty for what no service owns."""

_SHOWN_MAX = 3
_SHOWN_CHARS_MAX = 40
_REASON_CHARS_MAX = 80


class Difference(msgspec.Struct, frozen=True):
    """One item that differs.

    `before` and `after` are the item as JSON, null for not being there; a token's secret hash is
    left out. `environments`, sorted, are those whose answers may change by this item itself;
    an item of no answer, like a description, has none. `summary` is one line for people.

    An override is named by its setting, with its one environment; what is shown of it is what it
    serves and who pushed it. Contexts, which probes are made from, are named by their environment.
    """

    kind: Kind
    name: str
    service: str = ""
    environments: tuple[str, ...] = ()
    before: JSON = None
    after: JSON = None
    summary: str = ""


def diff(old: State, new: State) -> tuple[Difference, ...]:
    """All items that differ, ordered by service, kind and name."""
    found = [_difference(place, *nouns, old, new) for place, nouns in changes(old, new)]
    found += [
        Difference(kind="root", name=str(version + 1), after=root, summary="root added")
        for version, root in enumerate(new.roots)
        if version >= len(old.roots)
    ]
    found += [
        _moved_rollout(name, old.rollouts.get(name), new.rollouts.get(name))
        for name in _moved(old.rollouts, new.rollouts)
    ]
    found += _moved_overrides(old.overrides, new.overrides)
    found += [
        _moved_contexts(name, old.contexts.get(name, ()), new.contexts.get(name, ()))
        for name in _moved(old.contexts, new.contexts)
        if not same(old.contexts.get(name, ()), new.contexts.get(name, ()))
    ]
    return tuple(sorted(found, key=lambda one: (one.service, one.kind, one.name, one.environments)))


def _moved_rollout(name: str, old: RolloutState | None, new: RolloutState | None) -> Difference:
    """A rollout that began, moved or ended; what it does to answers, its change's items say."""
    was, now = _shown_rollout(old), _shown_rollout(new)
    if was is None or now is None:
        summary = "rollout begins" if now else "rollout ends"
    else:
        summary = f"stage {was['stage']} -> {now['stage']}, {now['status']}"
    there = new or old
    return Difference(
        kind="rollout",
        name=name,
        environments=(there.environment,) if there else (),
        before=was,
        after=now,
        summary=summary,
    )


def _shown_rollout(rollout: RolloutState | None) -> dict[str, JSON] | None:
    if rollout is None:
        return None
    return {
        "stage": rollout.stage,
        "stages": [one.name for one in rollout.plan.stages],
        "status": rollout.status,
        "started": rollout.started,
    }


def _moved_overrides(
    old: Mapping[str, Overridden], new: Mapping[str, Overridden]
) -> Iterator[Difference]:
    for name in _moved(old, new):
        environment, _, service = name.partition("/")
        had, has = (one.get(name, Overridden()).keys for one in (old, new))
        for key in _moved(had, has):
            was, now = _shown_override(had.get(key)), _shown_override(has.get(key))
            if not same(was, now):
                yield Difference(
                    kind="override",
                    name=key,
                    service=service,
                    environments=(environment,),
                    before=was,
                    after=now,
                    summary=_told_override(was, has.get(key)),
                )


def _shown_override(over: OverrideState | None) -> dict[str, JSON] | None:
    """What stands over a setting; one that was lifted stands no more."""
    if over is None or over.flag is None:
        return None
    return {
        "value": pushed_value(over.flag),
        "revision": over.revision,
        "at_ms": over.at_ms,
        "actor": over.actor,
        "reason": over.reason,
    }


def _told_override(was: dict[str, JSON] | None, now: OverrideState | None) -> str:
    """`now` is none only where the newer state is one from before the push."""
    before = f"{_brief(was['value'])} " if was else ""
    if now is None:
        return f"{before}not pushed yet"
    if now.flag is None and not now.actor:
        return f"{before}gone with its setting in revision {now.revision}"
    reason = " ".join(now.reason.split())[:_REASON_CHARS_MAX]
    who = f"by {now.actor} in revision {now.revision}" + f": {reason}" * bool(reason)
    if now.flag is None:
        return f"{before}lifted {who}"
    moved = f"{before}-> " if was else ""
    return f"{moved}{_brief(pushed_value(now.flag))} pushed {who}"


def _moved_contexts(name: str, old: Sequence[JSON], new: Sequence[JSON]) -> Difference:
    environment, _, service = name.partition("/")
    return Difference(
        kind="contexts",
        name=environment,
        service=service,
        before=list(old) or None,
        after=list(new) or None,
        summary=f"contexts that probes are made from: {len(old)} -> {len(new)}",
    )


def changes(old: State, new: State) -> Iterator[tuple[Place, tuple[Noun | None, Noun | None]]]:
    """(place, (before, after)) of all nouns that differ; roots, which only grow, left out."""
    for service in _moved(old.services, new.services):
        before, after = old.services.get(service), new.services.get(service)
        yield from _changes_of_service(service, before, after)
    for name in _moved(old.environments, new.environments):
        was, now = old.environments.get(name), new.environments.get(name)
        pair = (was.environment if was else None, now.environment if now else None)
        yield from _changed(("environment", "", name), *pair)
    for service in _moved(old.contracts, new.contracts):
        held, holds = old.contracts.get(service, {}), new.contracts.get(service, {})
        for consumer in _moved(held, holds):
            needed, needs = held.get(consumer), holds.get(consumer)
            yield from _changed(
                ("contract", service, consumer),
                needed.contract if needed else None,
                needs.contract if needs else None,
            )
    for name in _moved(old.tokens, new.tokens):
        had, has = old.tokens.get(name), new.tokens.get(name)
        yield from _changed(
            ("token", "", name), had.token if had else None, has.token if has else None
        )


def _changes_of_service(
    service: str, before: ServiceState | None, after: ServiceState | None
) -> Iterator[tuple[Place, tuple[Noun | None, Noun | None]]]:
    infos = (before.info if before else None, after.info if after else None)
    yield from _changed(("service", service, service), *infos)
    settings = (before.settings if before else {}, after.settings if after else {})
    for key in _moved(*settings):
        was, now = settings[0].get(key), settings[1].get(key)
        pair = (was.setting if was else None, now.setting if now else None)
        yield from _changed(("setting", service, key), *pair)
    segments = (before.segments if before else {}, after.segments if after else {})
    for name in _moved(*segments):
        had, has = segments[0].get(name), segments[1].get(name)
        yield from _changed(
            ("segment", service, name), had.segment if had else None, has.segment if has else None
        )


def _changed(
    place: Place, before: Noun | None, after: Noun | None
) -> Iterator[tuple[Place, tuple[Noun | None, Noun | None]]]:
    if not same(before, after):
        yield place, (before, after)


def _moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[str]:
    """Keys whose values are not the same object: nearly always all that a fold left alone go."""
    if old is new:
        return ()
    gone = [key for key in old if key not in new]
    return gone + [key for key, value in new.items() if old.get(key) is not value]


def _difference(
    place: Place, before: Noun | None, after: Noun | None, old: State, new: State
) -> Difference:
    kind, service, name = place
    was, now = _shown(before), _shown(after)
    return Difference(
        kind=kind,
        name=name,
        service=service,
        environments=tuple(sorted(_environments(place, before, after, old, new))),
        before=was,
        after=now,
        summary=_summary(kind, was, now),
    )


def _environments(
    place: Place, before: Noun | None, after: Noun | None, old: State, new: State
) -> set[str]:
    kind, service, name = place
    match kind:
        case "setting":
            return setting_environments(_as(Setting, before), _as(Setting, after))
        case "segment":
            known = {*old.environments, *new.environments, *_reached((old, new), service)}
            return segment_environments(_as(Segment, before), _as(Segment, after), known)
        case "service":
            includes = {one.includes if isinstance(one, Service) else () for one in (before, after)}
            return _reached((old, new), service) if len(includes) > 1 else set()
        case "environment":
            both = [one for one in (before, after) if isinstance(one, Environment)]
            dealt = [(one.bucketing, one.ahead) for one in both]
            return {name} if len(dealt) < 2 or dealt[0] != dealt[1] else set()
        case _:
            return set()


def _reached(states: Iterable[State], service: str) -> set[str]:
    """Environments that the service or one that it includes has anything in."""
    return {
        environment
        for state in states
        for name in closure(state.services, service)
        for environment in state.services[name].touched
    }


def _as(kind: type[N], noun: Noun | None) -> N | None:
    return noun if isinstance(noun, kind) else None


def _shown(noun: Noun | None) -> JSON:
    if noun is None:
        return None
    shown = msgspec.to_builtins(noun)
    if isinstance(noun, Token):
        del shown["secret_sha256"]
    return shown


def _summary(kind: Kind, before: JSON, after: JSON) -> str:
    if before is None or after is None:
        return f"{kind} {'added' if before is None else 'removed'}"
    leaves = list(_leaves(before, after, ""))
    if not leaves:
        return "secret changed"
    shown = ", ".join(
        f"{path} {_brief(was)} -> {_brief(now)}" for path, was, now in leaves[:_SHOWN_MAX]
    )
    more = len(leaves) - _SHOWN_MAX
    return shown + (f" and {more} more" if more > 0 else "")


_ABSENT: Final = object()


def _leaves(before: JSON, after: JSON, path: str) -> Iterator[tuple[str, JSON, JSON]]:
    """(JSON pointer, before, after) of what differs, as deep as both are of one shape."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _leaves(
                before.get(key, _ABSENT), after.get(key, _ABSENT), f"{path}/{escape(key)}"
            )
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (was, now) in enumerate(zip(before, after, strict=True)):
            yield from _leaves(was, now, f"{path}/{index}")
    elif before is _ABSENT or after is _ABSENT or not same(before, after):
        yield path, before, after


def _brief(value: JSON) -> str:
    if value is _ABSENT:
        return "nothing"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN_CHARS_MAX else f"{text[: _SHOWN_CHARS_MAX - 3]}..."


def escape(key: str) -> str:
    """A key as one step of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
