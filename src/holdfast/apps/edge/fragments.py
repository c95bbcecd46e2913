"""One outcome as it is written, alone or among all others: in OFREP, and in the ECS-shaped read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from holdfast.core.targeting.outcome import Outcome


class Failure(msgspec.Struct, omit_defaults=True):
    """OFREP's shape of an error: of one flag, of a bulk, and of what is wrong before that."""

    errorCode: str  # noqa: N815 -- the protocol's name
    errorDetails: str  # noqa: N815 -- the protocol's name
    key: str | msgspec.UnsetType = msgspec.UNSET


def fragment(outcome: Outcome) -> bytes:
    """The JSON object of an outcome."""
    if outcome.error_code is not None:
        details = outcome.error_message or outcome.error_code
        return msgspec.json.encode(Failure(outcome.error_code, details, outcome.key))
    success: dict[str, Any] = {
        "key": outcome.key,
        "reason": outcome.reason,
        "variant": outcome.variant or "",
    }
    if outcome.value is not None:
        success["value"] = outcome.value
    if metadata := plain(outcome.metadata):
        success["metadata"] = metadata
    return msgspec.json.encode(success)


def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """As much of a setting's metadata as OFREP has types for."""
    return {k: v for k, v in metadata.items() if isinstance(v, bool | str | int | float)}


class Part(NamedTuple):
    """Some settings as the ECS-shaped read has them: members of an object, and their ids.

    Both are lists with commas; both are empty for what has no value.
    """

    values: bytes
    ids: bytes


NOTHING = Part(b"", b"")


def part(outcome: Outcome, revision: int) -> Part:
    """One setting, which revision `revision` touched last (`holdfast.apps.ecs` has the ids)."""
    if outcome.variant is None or outcome.error_code is not None:
        return NOTHING
    member = b'"%b":%b' % (outcome.key.encode(), msgspec.json.encode(outcome.value))
    if outcome.reason == "TARGETING_MATCH":
        chosen = quote(outcome.variant, safe="")
        return Part(member, f"P-R-{outcome.key}-{revision}-{chosen}".encode())
    return Part(member, f"P-D-{outcome.key}-{revision}".encode())


def joined(parts: Iterable[Part]) -> Part:
    """Several as one."""
    there = [each for each in parts if each.ids]
    values, ids = (
        b",".join([each.values for each in there]),
        b",".join([each.ids for each in there]),
    )
    return Part(values, ids)
