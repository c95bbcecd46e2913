"""May a setting's type and schema change so, given who reads it? In Confluent's words.

- BACKWARD: who reads with the new schema reads all that the old one let through.
- FORWARD: who reads with the old schema reads all that the new one lets through.
- FULL: both. TRANSITIVE: not only against the version that stands, but all that may still be read.

A setting's values are those of its type that its schema accepts. Where a setting had no schema, its
first one narrows what may be written and promises more than before, so only FORWARD is asked; the
values that stand are held against it anyway. What is not known to be compatible is incompatible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

from holdfast.core.counter_example import counter_example
from holdfast.core.errors import Problem
from holdfast.core.model import JSON, Environment, Setting, SettingType
from holdfast.core.pointer import pointer, short
from holdfast.core.policies import Compatibility
from holdfast.core.state import State, closure, same
from holdfast.core.subset import subset

VERSIONS_MAX: Final = 32
"""Older versions of one setting that count, newest first."""


class Version(msgspec.Struct, frozen=True):
    """A type and a schema that somebody may still read by; `origin` says whose, in words."""

    type: SettingType
    schema: JSON = None
    origin: str = "the schema that stands"

    def whole(self) -> JSON:
        """One JSON Schema of the values that it lets through."""
        if self.schema is None:
            return {"type": self.type}
        if isinstance(self.schema, dict) and self.schema.get("type") == self.type:
            return self.schema
        return {"type": self.type, "allOf": [self.schema]}


History: TypeAlias = Callable[[str, str], Iterable[Version]]
"""(service, key) -> its versions before the one that stands, newest first, as far as known."""


def no_history(_service: str, _key: str) -> Iterable[Version]:
    return ()


def check_compatibility(old: State, new: State, history: History = no_history) -> list[Problem]:
    """All changes of types and schemas that the environments' policies don't let through.

    The policies that stand decide, not those that the same change would put.
    """
    return [
        problem
        for service, key, before, after in _changed(old, new)
        for problem in _check(old, service, key, (before, after), history)
    ]


def asks_history(old: State, new: State) -> list[str]:
    """Services whose change is held against more versions than the one that stands."""
    if not remembers(old):
        return []
    return sorted({service for service, *_ in _changed(old, new)})


def remembers(state: State) -> bool:
    """Whether any environment's policy asks for versions that are still read somewhere."""
    return any(_mode(state, name).endswith("_TRANSITIVE") for name in state.environments)


def _changed(old: State, new: State) -> Iterator[tuple[str, str, Setting, Setting]]:
    for service, after in new.services.items():
        before = old.services.get(service)
        if before is None or before is after:
            continue
        for key, kept in after.settings.items():
            was = before.settings.get(key)
            if was is None or was is kept:
                continue
            if not same((was.setting.type, was.setting.schema), _form(kept.setting)):
                yield service, key, was.setting, kept.setting


def _form(setting: Setting) -> tuple[SettingType, JSON]:
    return (setting.type, setting.schema)


def _check(
    old: State, service: str, key: str, pair: tuple[Setting, Setting], history: History
) -> Iterator[Problem]:
    before, after = pair
    modes = {name: _mode(old, name) for name in sorted(before.environments)}
    stands = Version(before.type, before.schema)
    to = Version(after.type, after.schema, "the new schema")
    path = pointer(("services", service, "settings", key))
    for direction in ("FORWARD", "BACKWARD"):
        asked = {name: mode for name, mode in modes.items() if _asks(mode, direction)}
        if not asked:
            continue
        readers = [stands]
        if any(mode.endswith("_TRANSITIVE") for mode in asked.values()):
            readers += list(history(service, key))[:VERSIONS_MAX]
            readers += _needed(old, service, key, stands) if direction == "FORWARD" else ()
        for version in _distinct(readers):
            if direction == "BACKWARD" and version.schema is None and version.type == to.type:
                continue
            told = _refused(version, to, direction, before, after)
            if told is None:
                continue
            if version.type != to.type:
                told = f"{version.origin} is of type {version.type}, the new one of {to.type}"
                yield _problem(key, f"{path}/type", asked, told)
                return
            yield _problem(key, f"{path}/schema", asked, told)
            break


def _distinct(versions: Iterable[Version]) -> list[Version]:
    found: list[Version] = []
    for version in versions:
        if not any(same((v.type, v.schema), (version.type, version.schema)) for v in found):
            found.append(version)
    return found


def _mode(state: State, environment: str) -> Compatibility:
    kept = state.environments.get(environment)
    return (kept.environment if kept else Environment()).policy.compatibility


def _asks(mode: Compatibility, direction: str) -> bool:
    return mode.startswith((direction, "FULL"))


def _needed(state: State, service: str, key: str, stands: Version) -> Iterator[Version]:
    """What consumers read by, of those that read all that stands: the others never could."""
    for reader, contracts in sorted(state.contracts.items()):
        if service not in closure(state.services, reader):
            continue
        for consumer, kept in sorted(contracts.items()):
            need = kept.contract.needs.get(key)
            if need is None or need.schema is None:
                continue
            version = Version(need.type, need.schema, f"what `{consumer}` needs")
            if subset(stands.whole(), version.whole()).known:
                yield version


def _refused(
    version: Version, to: Version, direction: str, before: Setting, after: Setting
) -> str | None:
    """Why readers can't read it all, in words; none when they can."""
    narrow, wide = (to, version) if direction == "FORWARD" else (version, to)
    verdict = subset(narrow.whole(), wide.whole())
    if verdict.known:
        return None
    known = (after if direction == "FORWARD" else before).variants.values()
    example = counter_example(narrow.whole(), wide.whole(), known)
    given = f"{narrow.origin} lets values through that {wide.origin} refuses"
    if example is not None:
        return f"{given}, {short(bytes(example).decode(), 200)} for one"
    doubt = f" (in doubt: {verdict.at})" if verdict.at else ""
    return f"it is not known whether {wide.origin} accepts all that {narrow.origin} does{doubt}"


def _problem(key: str, path: str, asked: dict[str, Compatibility], told: str) -> Problem:
    places = ", ".join(f"{name} ({mode})" for name, mode in list(asked.items())[:5])
    return Problem(
        code="incompatible",
        message=f"`{key}` can't change so in {places}: {told}",
        path=path,
        hint="add a setting under another key and move its readers there one by one, "
        "or change the environment's policy first (compatibility)",
    )
