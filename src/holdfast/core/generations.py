"""How far a generation is trusted: candidate, probation, proven; refused; pinned by hand.

A generation that passed every check is a candidate no longer, but it proves nothing by that: it is
on probation until it answered for `probation_s` without its process dying or its health failing.
Then it is proven, and what comes after it falls back on it. Three deaths in a row during probation,
counted over all processes of one cache, send it back without anybody's help.

What is known of a subject stands in its `Record`, kept beside the generations. Time is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from holdfast.core.model import Subject
from holdfast.core.reports import REFUSALS_MAX, Refusal
from holdfast.core.wire import UNREADABLE

PROBATION_S: Final = 60.0
HEALTH_GAP_S: Final = 1.0
"""Least time between two questions about the host's health."""
STREAK: Final = 3
"""Deaths during probation, in a row, that send a generation back."""
CRASH_STREAK: Final = "crash-streak"
HEALTH: Final = "health"
FAILING: Final = "failing"
OWN_CODES: Final = frozenset({CRASH_STREAK, HEALTH, FAILING})
"""Codes of generations that were refused for what they did here, not for what they are."""

TEXT_CHARS_MAX: Final = 256

Verdict: TypeAlias = Literal["wait", "proven", "back"]


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one subject's generations, over restarts and processes.

    - `proven`: digest of the newest that was proven, `revision` its number.
    - `refused`: newest last; generations with these digests are not activated again.
    - `tested`: digest and build of the evaluator with which its probes came out last.
    - `crashes`: how often a crash streak sent a generation back.
    """

    proven: str = ""
    revision: int = 0
    refused: tuple[Refusal, ...] = ()
    tested: str = ""
    crashes: int = 0

    def refusal_of(self, digest: str) -> Refusal | None:
        """Why that generation must not be activated; none when it may."""
        return next((one for one in self.refused if one.digest == digest), None)


class Pin(msgspec.Struct, frozen=True, omit_defaults=True):
    """A revision that somebody holds a subject to; `at_ms` in unix milliseconds."""

    revision: int
    reason: str = ""
    at_ms: int = 0


Pins: TypeAlias = Mapping[str, Pin]
"""Subject as `environment/service` -> its pin."""


class Trial(msgspec.Struct):
    """A generation on probation, since `since_s` on the follower's clock."""

    revision: int
    digest: str
    since_s: float
    asked_s: float = float("-inf")
    told: bool = False

    def asks(self, now_s: float) -> bool:
        """Whether the host's health is to be asked for now; notes that it was."""
        if now_s - self.asked_s < HEALTH_GAP_S:
            return False
        self.asked_s = now_s
        return True

    def verdict(self, now_s: float, probation_s: float, *, healthy: bool, used: bool) -> Verdict:
        """`used`: whether it gave an answer yet; who was asked nothing has proven nothing."""
        if not healthy:
            return "back"
        return "proven" if used and now_s - self.since_s >= probation_s else "wait"


_RECORD: Final = msgspec.json.Decoder(Record)
_PINS: Final = msgspec.json.Decoder(dict[str, Pin])


def decode_record(body: bytes | None) -> Record:
    """Nothing known, if there is nothing or it can't be read: then all proves itself anew."""
    try:
        return _RECORD.decode(body) if body else Record()
    except UNREADABLE:
        return Record()


def decode_pins(body: bytes | None) -> dict[str, Pin]:
    """None, if there are none or they can't be read."""
    try:
        return _PINS.decode(body) if body else {}
    except UNREADABLE:
        return {}


def encode(known: Record | Pins) -> bytes:
    return msgspec.json.encode(known)


def proven(record: Record, trial: Trial) -> Record:
    """The newest one that was proven; one that another process proved later stays."""
    if trial.revision < record.revision:
        return record
    return msgspec.structs.replace(record, proven=trial.digest, revision=trial.revision)


def refusal(  # noqa: PLR0913, PLR0917  what there is to say of one
    revision: int, digest: str, code: str, message: str, at_ms: int, key: str = ""
) -> Refusal:
    """With texts as long as may be told."""
    return Refusal(revision, digest[:128], code[:128], message[:TEXT_CHARS_MAX], at_ms, key[:128])


def refused(record: Record, refusal: Refusal) -> Record:
    """One more that must not come back; the oldest refusals are forgotten beyond their bound."""
    if record.refusal_of(refusal.digest) is not None:
        return record
    return msgspec.structs.replace(
        record,
        refused=(*record.refused, refusal)[-REFUSALS_MAX:],
        crashes=record.crashes + (refusal.code == CRASH_STREAK),
    )


def pinned(pins: Pins, subject: Subject, pin: Pin) -> dict[str, Pin]:
    return {**pins, str(subject): pin}


def unpinned(pins: Pins, subject: Subject) -> dict[str, Pin]:
    return {name: pin for name, pin in pins.items() if name != str(subject)}


def record_name(subject: Subject) -> str:
    """The document of the cache that holds a subject's record."""
    return f"trust.{subject.environment}.{subject.service}"


PINS_NAME: Final = "pins"
"""The document of the cache that holds all pins."""


def mark_of(subject: Subject, digest: str) -> str:
    """What a process in a generation's probation is entered under."""
    return f"{subject.environment}.{subject.service}.{digest[:16]}"
