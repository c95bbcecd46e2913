"""Snapshot format 1: the state of one service in one environment, and what is signed about it.

The document is a flagd flag definition file (`flags`, `$evaluators`, `metadata`), so that any flagd
can load it, with everything of ours under the one key `holdfast`. Its bytes are canonical
(`core.wire`) and its digest is the SHA-256 of them. `docs/reference/snapshot-format-1.md` is the
reference; a field that is added, even an optional one, makes a new format.

Maps with one member per setting stay `msgspec.Raw` per key: 10,000 settings decode in
milliseconds, and a setting is parsed when it is first asked for.
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection
from typing import Any, Final

import msgspec

from holdfast.core import limits
from holdfast.core.access import ACCESS
from holdfast.core.errors import TooLarge, Untrusted
from holdfast.core.model import NAME, Bucketing, SettingType, Subject
from holdfast.core.wire import UNREADABLE, canonical, digest

FORMAT: Final = 1
ACCESS_KEY: Final = "tokens"
"""The one setting of the reserved service `access.ACCESS`."""
STATEMENT_TYPE: Final = "application/vnd.holdfast.snapshot.v1+json"
FRESHNESS_TYPE: Final = "application/vnd.holdfast.freshness.v1+json"
PUSHED: Final = "pushed"
"""The member of a flag's metadata that says why it was pushed; evaluations carry it along."""
_MARK: Final = b'"pushed":'


class Previous(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The subject's snapshot before this one."""

    revision: int
    digest: str


class Semantics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the flags are evaluated: the version of flagd's rules, and of its bucketing."""

    bucketing: Bucketing
    evaluation: int = 1


class SettingFacts(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What stands behind one setting.

    - `revision`: the newest journal revision that may have changed an answer of it: its own edits,
      segments, includes and semantics counted in.
    - `digest`: of its source, the flag with all that it refers to (`core.build`).
    - `service`: its owner, when it came in through an include.
    """

    type: SettingType
    revision: int
    digest: str
    service: str = ""


class SegmentFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A segment that travels as a table: its attribute, the table's digest and size in bytes."""

    by: str
    digest: str
    members: int
    bytes: int


class Pacing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pacing contract, in seconds: `core.policies.Pace`, spelt out."""

    poll_interval_s: int = 30
    poll_interval_max_s: int = 300
    retry_after_max_s: int = 300
    stale_after_s: int = 90
    streams: bool = True


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the publisher held this snapshot to; a consumer with smaller bounds refuses it.

    The numbers belong to the format, so that a changed constant never changes bytes.
    """

    context_bytes_max: int = 65_536
    logic_depth_max: int = 64
    logic_nodes_max: int = 50_000
    settings_max: int = 20_000
    snapshot_bytes_max: int = 33_554_432
    value_bytes_max: int = 262_144
    value_depth_max: int = 32


class Budgets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much the next snapshot may differ from this one: `core.policies.Shape`, spelt out."""

    lost_percent: float = 30.0
    retyped_percent: float = 5.0
    growth_percent: float = 1_000.0
    settings_min: int = 10


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `holdfast` block.

    - `journal_head`: hash of the journal entry `revision`, which touched this subject last.
    - `settings`: key -> `SettingFacts` as JSON; `Snapshot.setting` decodes one.
    - `schemas`: key -> the JSON Schema of its values.
    - `removed`: key -> revision of its removal, for keys that went away; newest first up to
      `limits.REMOVED_MAX`. `removed_since` is the newest revision of one left out, 0 when all are
      named: what went away after it is named.
    - `contracts`: consumer and digest of each contract that holds here (`core.needs`).
    - `probes`: key -> list of contexts with what must come out (`core.probes`).
    - `attributes`: those that the service and what it includes declare, in order: what consumers
      may tell of the contexts that they see.
    - `shape`: how much what follows this snapshot may differ from it.
    - `rollouts`: empty in what is built today, passed over by consumers.
    """

    service: str
    environment: str
    revision: int
    journal_head: str
    previous: Previous | None
    semantics: Semantics
    settings: dict[str, msgspec.Raw]
    schemas: dict[str, msgspec.Raw]
    removed: dict[str, int]
    removed_since: int
    segments: dict[str, SegmentFacts]
    probes: dict[str, msgspec.Raw] = {}
    contracts: tuple[msgspec.Raw, ...] = ()
    rollouts: dict[str, msgspec.Raw] = {}
    limits: Bounds = Bounds()
    pacing: Pacing = Pacing()
    shape: Budgets = Budgets()
    attributes: tuple[str, ...] = ()
    format: int = FORMAT


class Snapshot(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"evaluators": "$evaluators"},
):
    """One snapshot; `flags` maps keys to flagd flag definitions as JSON.

    `evaluators` maps names of segments to their JsonLogic: `{"$ref": name}` stands for it. A
    segment of an included service has its service in front: `shared/pilot`.
    """

    evaluators: dict[str, msgspec.Raw]
    flags: dict[str, msgspec.Raw]
    holdfast: Facts
    metadata: dict[str, str | int | float | bool]

    @property
    def subject(self) -> Subject:
        return Subject(environment=self.holdfast.environment, service=self.holdfast.service)

    def setting(self, key: str) -> SettingFacts:
        """The facts of one setting. Raises `KeyError` for none, `Untrusted` for bad ones."""
        try:
            return _SETTING.decode(self.holdfast.settings[key])
        except UNREADABLE as error:
            raise Untrusted("shape", f"the facts of {key!r} are damaged: {error}") from None


class _Outline(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"evaluators": "$evaluators"}
):
    """A `Snapshot` whose two long parts are still text, to be read in turns of their own."""

    evaluators: dict[str, msgspec.Raw]
    flags: msgspec.Raw
    holdfast: msgspec.Raw
    metadata: dict[str, str | int | float | bool]


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is signed under `STATEMENT_TYPE`: whose snapshot it is, and exactly which bytes."""

    service: str
    environment: str
    revision: int
    digest: str
    bytes: int
    format: int = FORMAT


class Freshness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed under `FRESHNESS_TYPE`: at `at_ms` (unix milliseconds) this snapshot was the newest.

    `journal_revision` and `journal_head` say which journal was looked at.
    """

    service: str
    environment: str
    revision: int
    digest: str
    journal_revision: int
    journal_head: str
    at_ms: int


_SETTING: Final = msgspec.json.Decoder(SettingFacts)
_OUTLINE: Final = msgspec.json.Decoder(_Outline)
_FLAGS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_FACTS: Final = msgspec.json.Decoder(Facts)
_STATEMENT: Final = msgspec.json.Decoder(Statement)
_FRESHNESS: Final = msgspec.json.Decoder(Freshness)
_NAME: Final = re.compile(NAME)
_KEY_BYTES: Final = (string.ascii_letters + string.digits + "_-.\n").encode()


def encode(snapshot: Snapshot) -> bytes:
    """The canonical bytes; their SHA-256 is the snapshot's digest. Raises `TooLarge`."""
    body = canonical(snapshot)
    if len(body) > limits.SNAPSHOT_BYTES_MAX:
        raise TooLarge(
            f"the snapshot of {snapshot.subject} would have {len(body)} bytes, "
            f"at most {limits.SNAPSHOT_BYTES_MAX} are allowed: split the service"
        )
    return body


def decode(body: bytes) -> Snapshot:
    """Read a snapshot and check all that it says of itself; whose it is, is for `core.trust`.

    Raises `Untrusted` with one of the codes `snapshot-size`, `format` (another format version),
    `shape` (not format 1), `settings-count`, `keys` (a bad key, or maps that don't fit together).
    """
    if len(body) > limits.SNAPSHOT_BYTES_MAX:
        raise Untrusted(
            "snapshot-size", f"{len(body)} bytes, at most {limits.SNAPSHOT_BYTES_MAX} are taken"
        )
    try:
        snapshot = _read(body)
    except UNREADABLE as error:
        raise _not_format_1(body, error) from None
    facts = snapshot.holdfast
    if facts.format != FORMAT:
        raise _other_format(facts.format)
    _check_subject(facts)
    _check_keys(snapshot)
    return snapshot


def _read(body: bytes) -> Snapshot:
    """In three calls: one call holds the interpreter for its whole length, and others wait."""
    outline = _OUTLINE.decode(body)
    return Snapshot(
        evaluators=outline.evaluators,
        flags=_FLAGS.decode(outline.flags),
        holdfast=_FACTS.decode(outline.holdfast),
        metadata=outline.metadata,
    )


def statement(snapshot: Snapshot, body: bytes) -> bytes:
    """The payload to sign for `body`, the encoded snapshot."""
    facts = snapshot.holdfast
    return canonical(
        Statement(
            service=facts.service,
            environment=facts.environment,
            revision=facts.revision,
            digest=digest(body),
            bytes=len(body),
        )
    )


def decode_statement(payload: bytes) -> Statement:
    """Raises `Untrusted` code `statement` for what is none, `format` for another format."""
    try:
        made = _STATEMENT.decode(payload)
    except UNREADABLE as error:
        raise Untrusted("statement", f"not a statement about a snapshot: {error}") from None
    if made.format != FORMAT:
        raise _other_format(made.format)
    return made


def freshness(made: Freshness) -> bytes:
    """The payload to sign."""
    return canonical(made)


def decode_freshness(payload: bytes) -> Freshness:
    """Raises `Untrusted` code `freshness`."""
    try:
        return _FRESHNESS.decode(payload)
    except UNREADABLE as error:
        raise Untrusted("freshness", f"not a freshness statement: {error}") from None


class _Formatted(msgspec.Struct):
    format: Any = None


class _Peek(msgspec.Struct):
    holdfast: _Formatted


_PEEK: Final = msgspec.json.Decoder(_Peek)


def _not_format_1(body: bytes, error: Exception) -> Untrusted:
    """Tell a newer format from damage: who reads this must know whether to upgrade."""
    try:
        found = _PEEK.decode(body).holdfast.format
    except UNREADABLE:
        found = FORMAT
    return _other_format(found) if found != FORMAT else Untrusted("shape", f"no snapshot: {error}")


def _other_format(found: Any) -> Untrusted:
    return Untrusted(
        "format", f"snapshot format {str(found)[:20]}, known is {FORMAT}: upgrade the consumer"
    )


def _check_subject(facts: Facts) -> None:
    named = facts.service == ACCESS or _NAME.fullmatch(facts.service)
    if not named or not _NAME.fullmatch(facts.environment) or facts.revision < 1:
        raise Untrusted("shape", "the service, the environment or the revision is none")


def _check_keys(snapshot: Snapshot) -> None:
    facts = snapshot.holdfast
    if len(snapshot.flags) > limits.SETTINGS_MAX:
        raise Untrusted(
            "settings-count", f"{len(snapshot.flags)} settings, at most {limits.SETTINGS_MAX}"
        )
    if (
        snapshot.flags.keys() != facts.settings.keys()
        or not facts.schemas.keys() <= snapshot.flags.keys()
        or not facts.probes.keys() <= snapshot.flags.keys()
    ):
        raise Untrusted("keys", "flags, settings, schemas and probes don't name the same keys")
    if not _are_keys(snapshot.flags) or not snapshot.flags.keys().isdisjoint(facts.removed):
        raise Untrusted("keys", "a key is malformed, or named as removed while it is there")


def _are_keys(keys: Collection[str]) -> bool:
    """Whether all match `model.KEY`; looked at as one text, as 10,000 matches would tell."""
    text = "\n".join(["", *keys, ""])
    wrong = ("\n\n", "\n-", "\n.", "..")
    return not keys or (
        text.count("\n") == len(keys) + 1
        and max(map(len, keys)) <= limits.NAME_CHARS_MAX
        and not text.encode("utf-8", "replace").translate(None, delete=_KEY_BYTES)
        and not any(part in text for part in wrong)
    )


def pushed_keys(snapshot: Snapshot) -> list[str]:
    """Keys of the flags that were pushed (`core.overrides`)."""
    return [
        key for key, flag in snapshot.flags.items() if _MARK in bytes(flag) and _is_marked(flag)
    ]


def _is_marked(flag: msgspec.Raw) -> bool:
    return PUSHED in (msgspec.json.decode(flag).get("metadata") or {})
