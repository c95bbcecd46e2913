"""What was handed straight to edges while all else was dead, and stands over what authors wrote.

An override is one whole flag of one subject, as its consumers see it. It is laid over a finished
snapshot and depends on nothing that stands only in the journal: so whoever has an edge's generation
makes the very bytes that a control plane makes later, from the journal with the same entry in it
(ADR 011). It stands until somebody lifts it, and lifting moves no answer: first the setting as it
is written has to serve the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from holdfast.core.conform import faults, fits_type
from holdfast.core.errors import Invalid, Problem
from holdfast.core.model import (
    JSON,
    DeleteSetting,
    Edit,
    Entry,
    Head,
    PutOverride,
    SettingType,
    Subject,
    TouchSubject,
)
from holdfast.core.probes import Carried, carried, write
from holdfast.core.snapshot import PUSHED, Facts, Previous, SettingFacts, Snapshot
from holdfast.core.state import Overridden, OverrideState
from holdfast.core.wire import canonical, digest


def overridden(overrides: dict[str, Overridden], edit: Edit, entry: Entry) -> dict[str, Overridden]:
    """The overrides after one edit of `entry`. A setting that is deleted takes its own along."""
    match edit:
        case PutOverride():
            name = f"{edit.environment}/{edit.service}"
            before = overrides.get(name, Overridden())
            made = OverrideState(
                flag=edit.to.flag if edit.to else None,
                revision=entry.revision,
                at_ms=entry.at_ms,
                actor=entry.actor,
                reason=entry.reason,
            )
            over = msgspec.structs.replace(before, keys={**before.keys, edit.key: made})
        case TouchSubject():
            name = f"{edit.environment}/{edit.service}"
            before = overrides.get(name, Overridden())
            over = msgspec.structs.replace(before, touched=entry.revision)
        case DeleteSetting():
            return _without(overrides, edit, entry.revision)
        case _:
            return overrides
    return {**overrides, name: over}


def _without(
    overrides: dict[str, Overridden], edit: DeleteSetting, revision: int
) -> dict[str, Overridden]:
    made = overrides
    for name, over in overrides.items():
        if name.partition("/")[2] == edit.service and edit.key in over.keys:
            keys = {**over.keys, edit.key: OverrideState(None, revision)}
            made = {**made, name: msgspec.structs.replace(over, keys=keys)}
    return made


def overlaid(snapshot: Snapshot, over: Overridden) -> Snapshot:
    """The snapshot with all that stands over it.

    Raises `Invalid` where a flag no longer fits its setting's type or schema: such a change of the
    setting has to wait until the override is lifted.
    """
    flags, settings = dict(snapshot.flags), dict(snapshot.holdfast.settings)
    probes = dict(snapshot.holdfast.probes)
    problems: list[Problem] = []
    for key, one in over.keys.items():
        if key not in flags:
            continue
        facts = _since(snapshot.setting(key), one.revision)
        if one.flag is not None:
            problems += _misfits(snapshot, key, one.flag)
            flags[key] = msgspec.Raw(canonical(_fitting(snapshot, key, one.flag)))
            source = canonical([flags[key], {}, {}, snapshot.holdfast.semantics])
            facts = msgspec.structs.replace(facts, digest=digest(source))
            probes[key] = write([_probe(one.flag)])
        settings[key] = msgspec.Raw(canonical(facts))
    if problems:
        raise Invalid(problems)
    laid = msgspec.structs.replace(snapshot.holdfast, settings=settings, probes=probes)
    laid = _touched(laid, over.touched)
    return msgspec.structs.replace(snapshot, flags=flags, holdfast=laid)


def successor(snapshot: Snapshot, made: str, edits: Mapping[str, JSON], at: Head) -> Snapshot:
    """The snapshot that follows `snapshot`, whose digest is `made`, with `edits` (key -> flag).

    `at` is the entry that puts them. Raises `Invalid` as `overlaid`, and for an unknown key.
    """
    unknown = [key for key in edits if key not in snapshot.flags]
    if unknown:
        raise Invalid([_unknown(snapshot, key) for key in unknown])
    over = Overridden({key: OverrideState(flag, at.revision) for key, flag in edits.items()})
    laid = overlaid(snapshot, over)
    facts = msgspec.structs.replace(
        laid.holdfast,
        revision=at.revision,
        journal_head=at.hash,
        previous=Previous(snapshot.holdfast.revision, made),
    )
    metadata = {**laid.metadata, "version": str(at.revision)}
    return msgspec.structs.replace(laid, holdfast=facts, metadata=metadata)


def serving(snapshot: Snapshot, key: str, variant: str, reason: str) -> dict[str, Any]:
    """The setting's flag, serving one of its variants to everybody. Raises `Invalid`."""
    if key not in snapshot.flags:
        raise Invalid([_unknown(snapshot, key)])
    flag = msgspec.json.decode(snapshot.flags[key])
    if variant not in flag["variants"]:
        known = ", ".join(sorted(flag["variants"]))
        message = f"{key!r} has no variant {variant!r}"
        raise Invalid([Problem(code="variant", message=message, hint=f"choose from {known}")])
    return _marked(flag, flag["variants"], variant, reason)


def valued(snapshot: Snapshot, key: str, value: JSON, reason: str) -> dict[str, Any]:
    """The setting's flag, serving a value of its own to everybody. Raises `Invalid`."""
    if key not in snapshot.flags:
        raise Invalid([_unknown(snapshot, key)])
    flag = msgspec.json.decode(snapshot.flags[key])
    return _marked(flag, {**flag["variants"], PUSHED: value}, PUSHED, reason)


def lift_problem(written: Snapshot, key: str, over: OverrideState) -> str:
    """Why the override can't be lifted yet; empty when that moves no answer.

    `written` is the snapshot as its authors wrote it, without overrides.
    """
    if key not in written.flags or over.flag is None:
        return ""
    flag = msgspec.json.decode(written.flags[key])
    plain = flag["state"] == "ENABLED" and "targeting" not in flag
    if plain and canonical(_served(flag)) == canonical(_served(over.flag)):
        return ""
    return f"{key!r} as it is written serves something else than what was pushed over it"


def _marked(flag: dict[str, Any], variants: JSON, variant: str, reason: str) -> dict[str, Any]:
    metadata = {**flag.get("metadata", {}), PUSHED: reason[:200]}
    return {
        "state": "ENABLED",
        "variants": variants,
        "defaultVariant": variant,
        "metadata": metadata,
    }


def pushed_value(flag: JSON) -> JSON:
    """What a pushed flag serves."""
    return _served(flag)[1]


def misfits(value: JSON, kind: SettingType, schema: JSON) -> list[str]:
    """What keeps a value from being a setting's: its type, and each fault by the schema."""
    wrong = [] if fits_type(value, kind) else [f"is no {kind}"]
    return [*wrong, *(f"has a fault at {fault}" for fault in faults(schema, value))]


def _served(flag: JSON) -> JSON:
    default = flag.get("defaultVariant")
    return [default is not None, flag["variants"].get(default)]


def _probe(flag: JSON) -> Carried:
    return carried({}, canonical(_served(flag)[1]), "authored")


def _since(facts: SettingFacts, revision: int) -> SettingFacts:
    return msgspec.structs.replace(facts, revision=max(facts.revision, revision))


def _touched(facts: Facts, revision: int) -> Facts:
    if not revision:
        return facts
    decode = msgspec.json.Decoder(SettingFacts).decode
    settings = {
        key: msgspec.Raw(canonical(_since(decode(raw), revision)))
        for key, raw in facts.settings.items()
    }
    return msgspec.structs.replace(facts, settings=settings)


def misfit(subject: Subject, key: str, what: str) -> Problem:
    """A change would leave a setting that what was pushed over it does not fit."""
    return Problem(
        code="override",
        message=f"what is pushed over {key!r} in {subject} {what}",
        path=f"/overrides/{subject}/{key}",
        hint="push a value that fits, or lift the override before the setting changes so",
    )


def _misfits(snapshot: Snapshot, key: str, flag: JSON) -> Iterator[Problem]:
    for what in _wrong(snapshot, key, pushed_value(flag)):
        yield misfit(snapshot.subject, key, what)


def _fitting(snapshot: Snapshot, key: str, flag: JSON) -> JSON:
    """The flag without variants that it doesn't serve and that don't fit any more.

    It was made of what stood then. Consumers hold every variant to the setting's schema.
    """
    default = flag.get("defaultVariant")
    fitting = {
        name: value
        for name, value in flag["variants"].items()
        if name == default or not _wrong(snapshot, key, value)
    }
    return {**flag, "variants": fitting}


def _wrong(snapshot: Snapshot, key: str, value: JSON) -> list[str]:
    schema = snapshot.holdfast.schemas.get(key)
    decoded = None if schema is None else msgspec.json.decode(schema)
    return misfits(value, snapshot.setting(key).type, decoded)


def _unknown(snapshot: Snapshot, key: str) -> Problem:
    near = ", ".join(sorted(snapshot.flags)[:10])
    return Problem(
        code="no-such-setting",
        message=f"{snapshot.subject} has no setting {key!r}",
        hint=f"it has {near}" + (", …" if len(snapshot.flags) > 10 else ""),
    )
