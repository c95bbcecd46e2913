"""Was the journal rewritten? What it says of itself, against what others saw of it.

Whoever owns the store can change entries, drop them, cut off the end, or replace it all, and
compute every hash again. What he can't change is what left the store: heads that signed freshness
statements named, entries that signed snapshots stand on, digests that consumers hold. All of it is
compared here, and every difference is a `Finding` that names the revision. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from holdfast.core import roots as root_documents
from holdfast.core.bundle import decode_bundle
from holdfast.core.errors import HoldfastError, Untrusted
from holdfast.core.model import GENESIS, Head, Subject
from holdfast.core.roots import RootSet
from holdfast.core.snapshot import (
    FRESHNESS_TYPE,
    STATEMENT_TYPE,
    decode,
    decode_freshness,
    decode_statement,
)
from holdfast.core.wire import UNREADABLE, Envelope, Verify, decode_envelope, digest, signers

FINDINGS_MAX: Final = 1_000
NAMED_MAX: Final = 5
"""Witnesses named in one finding; the rest is counted."""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One difference. `revision` is where it shows, 0 where it is of no one entry."""

    code: str
    message: str
    revision: int = 0
    where: str = ""
    severity: Literal["error", "warning"] = "error"


class Seen(msgspec.Struct, frozen=True):
    """Somebody outside of the store saw this entry. `signed`: and holds our signature on it."""

    revision: int
    hash: str
    by: str
    signed: bool


class Held(msgspec.Struct, frozen=True):
    """Somebody outside of the store holds this snapshot, signed by us."""

    subject: Subject
    revision: int
    digest: str
    by: str


class Link(Protocol):
    """One entry as it lies in the store."""

    @property
    def revision(self) -> int: ...
    @property
    def hash(self) -> str: ...
    @property
    def body(self) -> bytes: ...


class Chain(msgspec.Struct, frozen=True):
    """The hash of every entry, and what is wrong with their chain."""

    hashes: dict[int, str]
    findings: tuple[Finding, ...]

    @property
    def last(self) -> int:
        return max(self.hashes, default=0)


class _Place(msgspec.Struct):
    revision: int
    previous: str


_place = msgspec.json.Decoder(_Place)


def chain(rows: Iterable[Link], head: Head | None, witnessed: Head | None) -> Chain:
    """Check every entry's bytes, every link, the head row and the witness file."""
    hashes: dict[int, str] = {}
    found: list[Finding] = []
    last = GENESIS
    for row in rows:
        found += _links(last, row)
        hashes[row.revision] = row.hash
        last = Head(row.revision, row.hash)
    if head is None:
        found.append(Finding("head", "the journal has no head row, or several"))
    elif head != last:
        message = f"its head row says {_shown(head)}, its last entry is {_shown(last)}"
        found.append(Finding("head", message, max(head.revision, last.revision)))
    if witnessed is not None:
        seen = [Seen(witnessed.revision, witnessed.hash, "the witness file beside it", False)]
        found += against_seen(hashes, seen)
    return Chain(hashes, tuple(found[:FINDINGS_MAX]))


def _links(last: Head, row: Link) -> Iterator[Finding]:
    revision = row.revision
    if hashlib.sha256(row.body).hexdigest() != row.hash:
        yield Finding("entry", f"entry {revision}: its bytes are not those of its hash", revision)
    if revision != last.revision + 1:
        gone = _span(last.revision + 1, revision - 1)
        yield Finding("missing", f"{gone} missing before entry {revision}", revision)
    try:
        place = _place.decode(row.body)
    except UNREADABLE:
        yield Finding("entry", f"entry {revision}: its bytes are no entry", revision)
        return
    if place.revision != revision:
        message = f"entry {revision} says that it is entry {place.revision}"
        yield Finding("entry", message, revision)
    if revision == last.revision + 1 and place.previous != last.hash:
        message = f"entry {revision} does not continue entry {last.revision}: one was changed"
        yield Finding("link", message, revision)


def against_seen(hashes: Mapping[int, str], seen: Iterable[Seen]) -> Iterator[Finding]:
    """What others saw and the journal has not, or has otherwise: one finding for each entry."""
    differing: dict[tuple[int, str], list[Seen]] = {}
    agreed, last = 0, max(hashes, default=0)
    for one in seen:
        if hashes.get(one.revision) == one.hash:
            agreed = max(agreed, one.revision)
        elif one.revision:
            differing.setdefault((one.revision, one.hash), []).append(one)
    for (revision, known), by in sorted(differing.items()):
        who = _named(by)
        since = agreed + 1 if agreed < revision else 1
        if revision > last:
            cut = _span(last + 1, revision)
            message = f"entry {revision} was seen by {who}, the journal ends at {last}: {cut} gone"
            yield Finding("truncated", message, revision, who)
        else:
            message = (
                f"entry {revision} was seen as {known[:16]} by {who}, the journal has "
                f"{hashes.get(revision, 'none')[:16]}: {_span(since, revision)} rewritten"
            )
            yield Finding("rewritten", message, revision, who)


def against_held(
    published: Mapping[tuple[Subject, int], str], held: Iterable[Held]
) -> Iterator[Finding]:
    """Signed snapshots that the journal says were never made, or were made otherwise."""
    for one in held:
        stated = published.get((one.subject, one.revision))
        if stated != one.digest:
            message = (
                f"{one.by} holds {one.subject} at revision {one.revision} as {one.digest[:16]}, "
                f"signed; the journal makes {stated[:16] if stated else 'none'}"
            )
            yield Finding("snapshot", message, one.revision, one.by)


def against_roots(
    chain_of_journal: Sequence[Envelope],
    others: Iterable[tuple[str, Sequence[Envelope]]],
    pinned: Iterable[tuple[str, RootSet]],
    verify: Verify,
) -> Iterator[Finding]:
    """Whether the journal's root documents hold, and continue what others have and pin."""
    try:
        if chain_of_journal:
            root_documents.extend(None, chain_of_journal, verify)
    except Untrusted as error:
        yield Finding("root", f"the journal's root documents do not hold: {error}")
    for who, other in others:
        for version, (ours, theirs) in enumerate(zip(chain_of_journal, other, strict=False), 1):
            if ours.body() != theirs.body():
                message = f"{who} has another root document of version {version} than the journal"
                yield Finding("root", message, where=who)
                break
    for who, root in pinned:
        try:
            root_documents.extend(root, chain_of_journal, verify)
        except Untrusted as error:
            message = f"{who} pins a root that the journal does not continue: {error}"
            yield Finding("root", message, where=who)


def of_bundle(
    path: str, body: bytes, verify: Verify
) -> tuple[Seen, Held, tuple[Envelope, ...], RootSet]:
    """What a kept bundle proves: the entry it stands on, the snapshot, its roots.

    Raises `Untrusted` for one that its own roots don't sign: it proves nothing.
    """
    bundle = decode_bundle(body)
    roots = root_documents.extend(None, bundle.roots, verify)
    statement = decode_statement(bundle.signature.body())
    keys = roots.keys_for(statement.environment)
    made = digest(bundle.snapshot)
    if not signers(bundle.signature, STATEMENT_TYPE, keys, verify) or made != statement.digest:
        raise Untrusted("signature", f"{path} is not signed by its own roots")
    facts = decode(bundle.snapshot).holdfast
    subject = Subject(statement.environment, statement.service)
    return (
        Seen(facts.revision, facts.journal_head, path, True),
        Held(subject, facts.revision, made, path),
        bundle.roots,
        roots,
    )


def of_freshness(path: str, body: bytes, roots: Iterable[RootSet], verify: Verify) -> Seen:
    """The journal head that a kept freshness statement names. Raises `Untrusted` unless signed."""
    sealed = decode_envelope(body)
    said = decode_freshness(sealed.body())
    for each in roots:
        if signers(sealed, FRESHNESS_TYPE, each.keys_for(said.environment), verify):
            return Seen(said.journal_revision, said.journal_head, path, True)
    raise Untrusted("freshness-signature", f"{path} is not signed by a key that its owner trusts")


def unproven(error: HoldfastError, where: str) -> Finding:
    """A piece of evidence that can't be used."""
    return Finding("evidence", f"{where} proves nothing: {error}", where=where, severity="warning")


def _named(by: Sequence[Seen]) -> str:
    names = sorted({one.by for one in by})
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    signed = " (signed)" if any(one.signed for one in by) else ""
    return ", ".join(names[:NAMED_MAX]) + more + signed


def _span(first: int, last: int) -> str:
    return f"entry {first} is" if first >= last else f"entries {first} to {last}, or some, are"


def _shown(head: Head) -> str:
    return f"{head.revision} ({head.hash[:16]})"
