"""Probes: contexts with the values that must come out, carried in a snapshot and replayed.

    "probes": {"tiles": [{"context": {"tenant": "contoso"}, "origin": "rule", "value": 49}]}

A consumer replays them with its own evaluator before it believes a candidate: those of the
candidate must come out, and those of the generation before it may only move where an entry says so
(`core.proof`). They are made when a snapshot is built (`core.probing`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from holdfast.core.errors import Invalid, Untrusted
from holdfast.core.evaluate import Evaluator
from holdfast.core.model import JSON
from holdfast.core.wire import UNREADABLE, canonical, digest

Origin: TypeAlias = Literal["authored", "contract", "rule", "sampled"]

PROBES_MAX: Final = 2_000
"""Probes of one snapshot."""
VALUE_BYTES_MAX: Final = 1_024
"""A longer value is carried as its digest."""
CONTEXT_BYTES_MAX: Final = 4_096
"""A context above this is no probe: it would cost every consumer its bytes."""


class Carried(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One probe in a snapshot, under the key of its setting.

    Exactly one of `value` and `digest` is there: the canonical JSON that must come out (null where
    the caller's default applies), or its SHA-256.
    """

    context: dict[str, JSON]
    origin: Origin
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    digest: str | msgspec.UnsetType = msgspec.UNSET

    def holds(self, answer: bytes | None) -> bool:
        """Whether `answer`, canonical JSON or none for an error, is the one expected."""
        if answer is None:
            return False
        if isinstance(self.value, msgspec.UnsetType):
            return self.digest == digest(answer)
        return answer == memoryview(self.value).tobytes()


Probes: TypeAlias = Mapping[str, msgspec.Raw]
"""Keys of settings -> JSON list of `Carried`, as a snapshot has them."""
_CARRIED: Final = msgspec.json.Decoder(tuple[Carried, ...])


def carried(context: dict[str, JSON], answer: bytes, origin: Origin) -> Carried:
    """A probe that expects `answer`, canonical JSON."""
    if len(answer) > VALUE_BYTES_MAX:
        return Carried(context, origin, digest=digest(answer))
    return Carried(context, origin, value=msgspec.Raw(answer))


def write(probes: Iterable[Carried]) -> msgspec.Raw:
    """The canonical JSON of one setting's probes."""
    return msgspec.Raw(
        canonical(
            [
                {
                    name: value
                    for name in Carried.__struct_fields__
                    if (value := getattr(probe, name)) is not msgspec.UNSET
                }
                for probe in probes
            ]
        )
    )


def read(key: str, body: msgspec.Raw) -> tuple[Carried, ...]:
    """The probes of one setting. Raises `Untrusted` code `shape`."""
    try:
        return _CARRIED.decode(body)
    except UNREADABLE as error:
        raise Untrusted("shape", f"the probes of {key!r} are damaged: {error}", key) from None


def count(probes: Probes) -> int:
    """How many probes there are. Raises `Untrusted` code `shape`."""
    return sum(len(read(key, body)) for key, body in probes.items())


class Answering:
    """One evaluator's answers as canonical JSON; a value that many contexts get is written once.

    Settings are asked one after the other. What is compiled for probes alone is let go then: it
    would be most of what a consumer holds, and older than most when a garbage collection comes,
    which all threads wait for. What was `in_use` stays compiled.
    """

    def __init__(self, evaluator: Evaluator, in_use: Container[str] = ()) -> None:
        self._evaluator = evaluator
        self._in_use = in_use
        self._written: dict[int, bytes] = {}

    def answer(self, key: str, context: Mapping[str, JSON]) -> bytes | None:
        """None for an error, an unknown setting among them."""
        outcome = self._evaluator.evaluate(key, context)
        if outcome.error_code is not None:
            return None
        if not isinstance(outcome.value, dict | list):
            return _written(outcome.value)
        known = self._written.get(id(outcome))  # the evaluator holds every outcome until `done`
        if known is None:
            known = self._written[id(outcome)] = _written(outcome.value) or b""
        return known or None

    def done(self, key: str) -> None:
        """Nothing more is asked of this setting for now."""
        self._written.clear()
        if key in self._in_use:
            self._evaluator.let_go(key)
        else:
            self._evaluator.forget(key)


def replay(answering: Answering, probes: Probes) -> Iterator[tuple[str, Carried, bytes | None]]:
    """Each probe with the answer that comes out now."""
    for key, body in probes.items():
        for probe in read(key, body):
            yield key, probe, answering.answer(key, probe.context)
        answering.done(key)


def _written(value: JSON) -> bytes | None:
    try:
        return canonical(value)
    except Invalid:  # a number that a rule computed, perhaps: no JSON, so no expected value either
        return None
