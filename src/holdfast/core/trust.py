"""May this candidate replace that generation? The checks, in the order of The Update Framework.

    chain of roots -> signature -> size, digest -> subject -> format, limits, semantics
    -> never back -> never sideways -> lineage -> nothing lost -> nothing changed unexplained

A candidate that fails one is refused with `Untrusted` and the code of that check, and whatever was
active stays so: nothing here replaces anything. There is no check of time: what was proven once
does not expire. How fresh it is, a separate signed statement says (`vouch`), and only as a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from holdfast.core import limits
from holdfast.core.bundle import Bundle, decode_bundle, encode_bundle
from holdfast.core.delta import apply_delta
from holdfast.core.errors import Damaged, Untrusted
from holdfast.core.evaluate import Evaluator
from holdfast.core.model import JSON, Subject
from holdfast.core.roots import RootSet, extend
from holdfast.core.snapshot import (
    FRESHNESS_TYPE,
    STATEMENT_TYPE,
    Freshness,
    SegmentFacts,
    SettingFacts,
    Snapshot,
    Statement,
    decode,
    decode_freshness,
    decode_statement,
)
from holdfast.core.targeting.segments import SegmentTable, finds_members
from holdfast.core.wire import Envelope, Verify, decode_envelope, digest, signers

EVALUATION = 1
"""The version of flagd's rules that this consumer evaluates by."""


class Checks(msgspec.Struct, frozen=True):
    """Which checks a consumer makes, of those that can be switched off one by one.

    All of them: what is without one is for tests and game days, which show the damage then.
    `succession` is what `admit` asks against the active generation; `streak` goes back after
    crashes; the others are those of `core.proof`.
    """

    succession: bool = True
    schema: bool = True
    contract: bool = True
    shape: bool = True
    probes: bool = True
    unexplained: bool = True
    streak: bool = True


EVERY_CHECK = Checks()
NO_CHECKS = Checks(*[False] * len(EVERY_CHECK.__struct_fields__))


class Admitted(msgspec.Struct, frozen=True):
    """A snapshot that passed every check. `bundle` is whole, even where a delta came."""

    subject: Subject
    snapshot: Snapshot
    digest: str
    body: bytes
    bundle: bytes
    roots: RootSet

    @property
    def revision(self) -> int:
        return self.snapshot.holdfast.revision


class Generation(msgspec.Struct, frozen=True):
    """An admitted snapshot with its segment tables (by digest), ready to answer."""

    admitted: Admitted
    evaluator: Evaluator
    tables: Mapping[str, bytes]

    @property
    def subject(self) -> Subject:
        return self.admitted.subject

    @property
    def snapshot(self) -> Snapshot:
        return self.admitted.snapshot

    @property
    def revision(self) -> int:
        return self.admitted.revision

    @property
    def digest(self) -> str:
        return self.admitted.digest

    @property
    def body(self) -> bytes:
        """The snapshot's canonical bytes."""
        return self.admitted.body

    @property
    def bundle(self) -> bytes:
        return self.admitted.bundle


class Floor(msgspec.Struct, frozen=True):
    """The newest freshness statement that agreed with what else tells the time (`Times`).

    It was `at_ms` by all that was known, unix milliseconds, when `counted_s` seconds were counted.
    """

    said: Freshness
    at_ms: float
    counted_s: float


class Times(msgspec.Struct, frozen=True):
    """What else tells a consumer the time, when a statement comes.

    Its own clock, `now_ms`, in unix milliseconds; and the seconds it counts, `counted_s`, which
    never go back: they lead on from the floor.
    """

    now_ms: int
    counted_s: float
    floor: Floor | None = None

    def raised(self, said: Freshness, admitted: Admitted) -> Floor | None:
        """The floor once `said` came, about `admitted`: of three that tell the time two agree."""
        if self.floor is not None and self.agrees_with_count(said, admitted):
            return Floor(said, max(said.at_ms, self._led_on_ms(self.floor)), self.counted_s)
        if _is_at(said, self.now_ms, admitted):
            return Floor(said, max(said.at_ms, self.now_ms), self.counted_s)
        return self.floor

    def agrees_with_count(self, said: Freshness, admitted: Admitted) -> bool:
        """Whether the statement was made just now, by what was counted since the floor."""
        return self.floor is not None and _is_at(said, self._led_on_ms(self.floor), admitted)

    def _led_on_ms(self, floor: Floor) -> float:
        return floor.at_ms + 1000 * (self.counted_s - floor.counted_s)


def admit(  # noqa: PLR0913  what is checked, against what, and how
    bundle: bytes,
    subject: Subject,
    active: Admitted | None,
    pinned: RootSet | None,
    verify: Verify,
    *,
    checks: Checks = EVERY_CHECK,
) -> Admitted:
    """The candidate in `bundle`, checked against `active` and, without it, for itself.

    Without `pinned` roots the first chain seen is believed: the caller pins it and says so.
    Raises `Untrusted`; its codes are in `docs/reference/sdk.md`.
    """
    parts = decode_bundle(bundle)
    roots = extend(pinned, parts.roots, verify)
    stated = _signed(parts.signature, roots, subject.environment, verify)
    try:
        body = _body(parts, active)
        _check_body(body, stated)
        _check_subject(stated, subject)
        snapshot = decode(body)
        _check_same(snapshot, stated)
        _check_known(snapshot)
        whole = _whole(parts, bundle, body)
        candidate = Admitted(subject, snapshot, stated.digest, body, whole, roots)
        if active is not None and checks.succession:
            _check_succession(active, candidate)
    except Untrusted as error:
        error.revision, error.digest = stated.revision, stated.digest
        raise
    return candidate


def equip(
    admitted: Admitted, tables: Mapping[str, bytes], now_s: Callable[[], float]
) -> Generation:
    """Make an admitted snapshot ready to answer. `tables` holds its segment tables by digest.

    Raises `Untrusted` code `segment` for a table that is missing, or not the one signed for.
    """
    facts = admitted.snapshot.holdfast
    evaluator = Evaluator(
        admitted.snapshot.flags,
        evaluators=admitted.snapshot.evaluators,
        metadata=admitted.snapshot.metadata,
        bucketing=facts.semantics.bucketing,
        types=_Types(admitted.snapshot),
        segments={name: _table(name, each, tables) for name, each in facts.segments.items()},
        now_s=now_s,
    )
    return Generation(admitted, evaluator, tables)


def vouch(
    sealed: bytes,
    admitted: Admitted,
    known: Freshness | None,
    verify: Verify,
    times: Times | None = None,
) -> Freshness | None:
    """The newest statement about `admitted` that says it is the newest; `known` if this says less.

    A statement about another revision, or an older one, is no news and no error: upstreams lag.
    But the control plane's clock may have been ahead for a while. So where `known` agrees with
    nothing that tells the time, an older one is news if it is newer than the floor, and made when
    it should have been by the seconds counted since. Who replays what was said wins no more than
    `stale_after_s` by that, or as much as this consumer's own clock is behind.

    Raises `Untrusted`: `freshness-signature`, `freshness-subject`, or `journal-forked` when the
    journal has another entry under the same number than it had before.
    """
    envelope = decode_envelope(sealed)
    keys = admitted.roots.keys_for(admitted.subject.environment)
    if not signers(envelope, FRESHNESS_TYPE, keys, verify):
        raise Untrusted("freshness-signature", "no trusted key signed the freshness statement")
    said = decode_freshness(envelope.body())
    if Subject(said.environment, said.service) != admitted.subject:
        raise Untrusted("freshness-subject", f"it speaks of {said.environment}/{said.service}")
    if known is not None:
        same_entry = said.journal_revision == known.journal_revision
        if same_entry and said.journal_head != known.journal_head:
            raise Untrusted(
                "journal-forked", f"journal revision {said.journal_revision} has two hashes"
            )
        if not _is_newer(said, known) and not _goes_back(said, known, admitted, times):
            return known
    return said if said.digest == admitted.digest else known


def _is_newer(said: Freshness, known: Freshness | None) -> bool:
    if known is None:
        return True
    return (said.journal_revision, said.at_ms) > (known.journal_revision, known.at_ms)


def _goes_back(said: Freshness, known: Freshness, admitted: Admitted, times: Times | None) -> bool:
    """Whether `known` was made by a clock that was ahead, and `said` by one that is right again."""
    if times is None or times.floor is None or times.floor.said is known:
        return False
    return (
        said.journal_revision == known.journal_revision
        and _is_newer(said, times.floor.said)
        and times.agrees_with_count(said, admitted)
    )


def _is_at(said: Freshness, now_ms: float, admitted: Admitted) -> bool:
    """Whether it was made at that time, as far as statements are late and clocks differ."""
    return abs(said.at_ms - now_ms) <= 1000 * admitted.snapshot.holdfast.pacing.stale_after_s


def _signed(signature: Envelope, roots: RootSet, environment: str, verify: Verify) -> Statement:
    if not signers(signature, STATEMENT_TYPE, roots.keys_for(environment), verify):
        raise Untrusted("signature", f"no key that may sign for {environment} signed the snapshot")
    return decode_statement(signature.body())


def _body(parts: Bundle, active: Admitted | None) -> bytes:
    if not parts.delta:
        return parts.snapshot
    if active is None:
        raise Untrusted("delta-base", "a delta came, and there is nothing to apply it to")
    return apply_delta(active.body, parts.delta)


def _whole(parts: Bundle, bundle: bytes, body: bytes) -> bytes:
    if not parts.delta:
        return bundle
    return encode_bundle(Bundle(parts.roots, parts.signature, snapshot=body))


def _check_body(body: bytes, stated: Statement) -> None:
    if len(body) != stated.bytes:
        raise Untrusted("size", f"{len(body)} bytes came, {stated.bytes} were signed for")
    if digest(body) != stated.digest:
        raise Untrusted("digest", "the bytes that came are not those that were signed for")


def _check_subject(stated: Statement, subject: Subject) -> None:
    if Subject(stated.environment, stated.service) != subject:
        raise Untrusted(
            "subject", f"{stated.environment}/{stated.service} came, {subject} was asked for"
        )


def _check_same(snapshot: Snapshot, stated: Statement) -> None:
    if snapshot.subject != Subject(stated.environment, stated.service):
        raise Untrusted("subject", f"signed as another subject than the {snapshot.subject} it is")
    if snapshot.holdfast.revision != stated.revision:
        raise Untrusted("revision", "signed as another revision than it says itself")


def _check_known(snapshot: Snapshot) -> None:
    """Whatever this consumer could not evaluate as its publisher meant it is refused whole."""
    facts = snapshot.holdfast
    if facts.semantics.evaluation != EVALUATION:
        raise Untrusted(
            "semantics", f"evaluation {facts.semantics.evaluation} is unknown: upgrade the consumer"
        )
    for name in facts.limits.__struct_fields__:
        known = getattr(limits, name.upper())
        if getattr(facts.limits, name) > known:
            raise Untrusted("limits", f"published under a larger {name} than {known}")
    for name, segment in facts.segments.items():
        if segment.bytes > limits.SEGMENT_BYTES_MAX:
            raise Untrusted("limits", f"segment {name} has {segment.bytes} bytes")


def _check_succession(active: Admitted, candidate: Admitted) -> None:
    old, new = active.snapshot.holdfast, candidate.snapshot.holdfast
    if new.revision < old.revision:
        raise Untrusted("rollback", f"revision {new.revision} came after {old.revision}")
    if new.revision == old.revision:
        if candidate.digest != active.digest:
            raise Untrusted("sideways", f"revision {new.revision} came with two digests")
        return
    follows = new.previous is not None and new.previous.revision == old.revision
    if follows and new.previous and new.previous.digest != active.digest:
        raise Untrusted(
            "lineage", f"it follows another revision {old.revision} than the active one"
        )
    for key in old.settings.keys() - new.settings.keys():
        _check_removed(key, old.revision, candidate.snapshot)
    for key in _moved(active.snapshot, candidate.snapshot):
        if candidate.snapshot.setting(key).revision <= old.revision:
            raise Untrusted(
                "unexplained", f"{key!r} changed, and no entry since {old.revision} touched it", key
            )


def _check_removed(key: str, since: int, snapshot: Snapshot) -> None:
    """A setting may go only if its removal is named, or was crowded out of the bounded list."""
    facts = snapshot.holdfast
    if since < facts.removed.get(key, facts.removed_since) <= facts.revision:
        return
    raise Untrusted("lost", f"{key!r} is gone, and no entry since {since} removed it", key)


def _moved(old: Snapshot, new: Snapshot) -> Iterator[str]:
    """Settings in both whose definition or source differs, to the byte, or what it refers to.

    Their revisions may differ in both directions: a setting that is reached through two includes
    takes the older one's when the newer one goes.
    """
    old_flags, old_facts = old.flags, old.holdfast.settings
    new_flags, shifted = new.flags, _shifted(old, new)
    all_moved = old.holdfast.semantics != new.holdfast.semantics
    for key, facts in new.holdfast.settings.items():
        before = old_facts.get(key)
        if before is None:
            continue
        moved = all_moved or new_flags[key] != old_flags[key]
        moved = moved or (facts != before and _source(old, key) != _source(new, key))
        if moved or (shifted and _refers(bytes(new_flags[key]), shifted)):
            yield key


def _source(snapshot: Snapshot, key: str) -> SettingFacts:
    return msgspec.structs.replace(snapshot.setting(key), revision=0)


def _shifted(old: Snapshot, new: Snapshot) -> set[str]:
    """Segments that are not the same in both."""
    before = {**old.evaluators, **old.holdfast.segments}
    after = {**new.evaluators, **new.holdfast.segments}
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _refers(flag: bytes, segments: set[str]) -> bool:
    if b'"$ref"' not in flag and b'"in_segment"' not in flag:
        return False
    waiting: list[object] = [_TARGETED.decode(flag).targeting]
    while waiting:
        item = waiting.pop()
        match item:
            case {"$ref": str(name)} | {"in_segment": [_, str(name)]} if name in segments:
                return True
            case dict():
                waiting += item.values()
            case list():
                waiting += item
    return False


def _table(name: str, facts: SegmentFacts, tables: Mapping[str, bytes]) -> SegmentTable:
    body = tables.get(facts.digest)
    if body is None or len(body) != facts.bytes or digest(body) != facts.digest:
        raise Untrusted("segment", f"the table of segment {name} is not the one signed for")
    try:
        if not finds_members():
            raise Untrusted("segment", "this build does not find the members of large segments")
        return SegmentTable(body)
    except Damaged as error:
        raise Untrusted("segment", f"the table of segment {name}: {error}") from None


class _Targeted(msgspec.Struct, frozen=True):
    """What of a flag may refer to segments."""

    targeting: JSON = None


_TARGETED: Final = msgspec.json.Decoder(_Targeted)


class _Types(Mapping[str, str]):
    """Declared types by key, decoded when asked for: a snapshot has 10,000 of them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __getitem__(self, key: str) -> str:
        return self._snapshot.setting(key).type

    def __iter__(self) -> Iterator[str]:
        return iter(self._snapshot.flags)

    def __len__(self) -> int:
        return len(self._snapshot.flags)
