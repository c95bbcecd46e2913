"""Making a push where nothing is left but an edge, or the cache of one, and a signing key."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from holdfast.adapters.cache_copy import CacheCopy
from holdfast.adapters.ed25519 import verify
from holdfast.adapters.http_source import HttpSource
from holdfast.adapters.signing import CHAIN, Keys
from holdfast.core import proof, trust
from holdfast.core.errors import NotFound, Untrusted
from holdfast.core.model import JSON, Head, Subject
from holdfast.core.overrides import serving, valued
from holdfast.core.pushes import Order, Pushed, entry_of, make, stated
from holdfast.core.roots import RootSet
from holdfast.core.snapshot import FRESHNESS_TYPE, Freshness, decode_freshness
from holdfast.core.trust import Admitted
from holdfast.core.wire import decode_envelope, signers

SUBJECTS_MAX: Final = 2_000
"""Subjects asked how far the journal had come; their newest statements agree but for seconds."""


class Wish(msgspec.Struct, frozen=True):
    """One setting, and the variant that everybody is to get, or else the value."""

    service: str
    key: str
    variant: str = ""
    value: JSON = None


class Base(Protocol):
    """Where the present state of things is taken from."""

    def bundle(self, subject: Subject) -> bytes: ...

    def table(self, subject: Subject, digest: str) -> bytes | None: ...

    def heads(self, roots: RootSet, environment: str) -> Iterator[Head]: ...


class FromEdge:
    """An edge that runs."""

    def __init__(self, url: str, token: str) -> None:
        self._source = HttpSource(url, token)

    def bundle(self, subject: Subject) -> bytes:
        return self._source.snapshot(subject, None).body or b""

    def table(self, subject: Subject, digest: str) -> bytes | None:
        return self._source.segment(subject, digest)

    def heads(self, roots: RootSet, environment: str) -> Iterator[Head]:
        listed = self._source.catalogue()
        here = [one for one in sorted(listed) if one.environment == environment]
        for subject in here[:SUBJECTS_MAX]:
            sealed = self._source.snapshot(subject, listed[subject]).freshness
            if sealed:
                yield _head_of(sealed, roots, environment)
            if not sealed or _freshness(sealed).digest != listed[subject]:
                yield _head_in(self.bundle(subject), subject, roots)  # pushed, perhaps


class FromCache:
    """The cache directory of an edge, which may be dead itself. Read, and not touched."""

    def __init__(self, directory: Path) -> None:
        self._copy = CacheCopy(directory)
        self._newest: dict[Subject, tuple[int, bytes]] = {}
        for _, body in self._copy.bundles():
            subject, revision, _ = stated(body)
            if revision > self._newest.get(subject, (0, b""))[0]:
                self._newest[subject] = (revision, body)

    def bundle(self, subject: Subject) -> bytes:
        if subject not in self._newest:
            raise NotFound(f"the cache has no generation of {subject}")
        return self._newest[subject][1]

    def table(self, subject: Subject, digest: str) -> bytes | None:
        return self._copy.noted(f"segment.{subject.environment}.{subject.service}.{digest}")

    def heads(self, roots: RootSet, environment: str) -> Iterator[Head]:
        for path, sealed in self._copy.freshness():
            if Path(path).name.startswith(f"freshness.{environment}."):
                yield _head_of(sealed, roots, environment)
        for subject, (_, body) in self._newest.items():
            if subject.environment == environment:
                yield _head_in(body, subject, roots)


def keys_in(folder: Path) -> Keys:
    """The keys of a keys' folder, or of the data directory that it is in."""
    return Keys.load(folder if (folder / CHAIN).exists() else folder / "keys")


def prepare(
    base: Base, keys: Keys, environment: str, wishes: Sequence[Wish], actor: str, reason: str
) -> Pushed:
    """The push, checked as every consumer will check it. Raises `core.errors`."""
    services = sorted({wish.service for wish in wishes})
    active = {name: _admitted(base, keys.root, Subject(environment, name)) for name in services}
    orders = [Order(active[name], dict(_flags(active[name], wishes, reason))) for name in services]
    head = _newest(base, keys.root, environment, list(active.values()))
    entry = entry_of(orders, head, int(time.time() * 1000), actor, reason)
    pushed = make(orders, entry, keys.chain, {environment: keys.signer(environment)})
    for order in orders:
        _prove(base, order.active, pushed, keys.root)
    return pushed


def _flags(active: Admitted, wishes: Sequence[Wish], reason: str) -> Iterator[tuple[str, JSON]]:
    for wish in wishes:
        if wish.service != active.subject.service:
            continue
        if wish.variant:
            yield wish.key, serving(active.snapshot, wish.key, wish.variant, reason)
        else:
            yield wish.key, valued(active.snapshot, wish.key, wish.value, reason)


def _admitted(base: Base, roots: RootSet, subject: Subject) -> Admitted:
    return trust.admit(base.bundle(subject), subject, None, roots, verify)


def _newest(base: Base, roots: RootSet, environment: str, active: Sequence[Admitted]) -> Head:
    """How far the journal had come, as far as is known here; all of it is signed."""
    known = [
        Head(one.snapshot.holdfast.revision, one.snapshot.holdfast.journal_head) for one in active
    ]
    return max([*known, *base.heads(roots, environment)], key=lambda head: head.revision)


def _head_of(sealed: bytes, roots: RootSet, environment: str) -> Head:
    envelope = decode_envelope(sealed)
    if not signers(envelope, FRESHNESS_TYPE, roots.keys_for(environment), verify):
        raise Untrusted("freshness-signature", "no trusted key signed the freshness statement")
    said = _freshness(sealed)
    return Head(said.journal_revision, said.journal_head)


def _freshness(sealed: bytes) -> Freshness:
    return decode_freshness(decode_envelope(sealed).body())


def _head_in(bundle: bytes, subject: Subject, roots: RootSet) -> Head:
    """The entry that a snapshot came of: no statement speaks of one that was pushed."""
    facts = trust.admit(bundle, subject, None, roots, verify).snapshot.holdfast
    return Head(facts.revision, facts.journal_head)


def _prove(base: Base, active: Admitted, pushed: Pushed, roots: RootSet) -> None:
    """Hold what was made to all that a consumer asks of it."""
    subject = active.subject
    bundle = next(raw for raw in pushed.bundles if stated(raw)[0] == subject)
    candidate = trust.admit(bundle, subject, active, roots, verify)
    digests = {one.digest for one in candidate.snapshot.holdfast.segments.values()}
    tables: Mapping[str, bytes] = {
        digest: table for digest in digests if (table := base.table(subject, digest)) is not None
    }
    old, new = trust.equip(active, tables, time.time), trust.equip(candidate, tables, time.time)
    proof.replayed(old)  # nobody else has done that with this build
    proof.prove(new, old)
