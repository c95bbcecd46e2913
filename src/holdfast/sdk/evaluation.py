"""What `Client.evaluate` gives, and what the client answers from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from holdfast.core.evaluate import Evaluator
from holdfast.core.targeting.outcome import NO_METADATA, Outcome

Kind: TypeAlias = Literal["boolean", "string", "integer", "number", "object"]
"""The slot of an `Outcome` that a typed read looks at."""
Origin: TypeAlias = Literal["none", "defaults", "file", "disk", "upstream"]

NOT_READY: Final = "PROVIDER_NOT_READY"
TYPE_MISMATCH: Final = "TYPE_MISMATCH"
ABSENT: Final = object()
"""There is no value of the kind that was asked for."""


class Evaluation(msgspec.Struct, frozen=True):
    """One answer with all that is known of it, in OpenFeature's words.

    - `value`: the setting's value, or the caller's default. Objects are shared: read-only.
    - `variant`: its name; none where the default was given.
    - `reason`: STATIC, TARGETING_MATCH, DEFAULT, DISABLED or ERROR.
    - `error_code`: FLAG_NOT_FOUND, PARSE_ERROR, GENERAL, TYPE_MISMATCH, PROVIDER_NOT_READY or none.
    - `revision`: the journal's revision that this answer is of; 0 for none.
    - `stale`: nobody could say for a while that this revision is the newest.
    """

    value: Any
    variant: str | None
    reason: str
    error_code: str | None = None
    error_message: str | None = None
    revision: int = 0
    stale: bool = False
    metadata: Mapping[str, Any] = NO_METADATA


class View(msgspec.Struct, frozen=True):
    """One generation as the client reads it: swapped as a whole, by one reference.

    `sources` maps a key to bytes that differ whenever its answers may.
    """

    evaluator: Evaluator
    sources: Mapping[str, tuple[object, object]] = {}
    revision: int = 0
    digest: str = ""
    origin: Origin = "none"

    def changed(self, other: View) -> frozenset[str]:
        """Keys whose answers may differ between the two."""
        keys = self.sources.keys() | other.sources.keys()
        return frozenset(key for key in keys if self.sources.get(key) != other.sources.get(key))


_KINDS: Final[Mapping[type, Kind | None]] = {
    type(None): None,
    bool: "boolean",
    str: "string",
    int: "integer",
    float: "number",
    dict: "object",
    list: "object",
    tuple: "object",
}


def kind_of(default: Any) -> Kind | None:
    """The kind that a read with this default asks for; none for any."""
    try:
        return _KINDS[type(default)]
    except KeyError:
        return "object" if isinstance(default, Mapping) else None


class Tally:
    """How often which answer was given, over all views of a client's life.

    The last view replaced is added up only when the next one goes: a reader may still be in it.
    """

    def __init__(self) -> None:
        self._before: dict[str, dict[str, int]] = {}
        self._leaving: Evaluator | None = None

    def replaced(self, evaluator: Evaluator) -> None:
        if self._leaving is not None:
            _add(self._before, self._leaving.outcomes())
        self._leaving = evaluator

    def counts(self, current: Evaluator) -> dict[str, dict[str, int]]:
        """Setting -> variant ("" for the caller's default) -> number of answers."""
        total = {key: dict(variants) for key, variants in list(self._before.items())}
        if self._leaving is not None:
            _add(total, self._leaving.outcomes())
        _add(total, current.outcomes())
        return total


def _add(total: dict[str, dict[str, int]], outcomes: Iterator[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.count:
            variants = total.setdefault(outcome.key, {})
            variant = outcome.variant or ""
            variants[variant] = variants.get(variant, 0) + int(outcome.count)


def read_as(outcome: Outcome, kind: Kind | None) -> Any:
    """The value as that kind, or `ABSENT`."""
    if kind is not None:
        return getattr(outcome, kind, ABSENT)
    return ABSENT if outcome.value is None and outcome.variant is None else outcome.value


def warm(new: Evaluator, old: Evaluator) -> None:
    """Compile what was in use before readers come: here it stalls nobody."""
    for key in list(old.table):
        if key in new:
            new.function(key)
