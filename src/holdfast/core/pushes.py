"""A push: a change that is made and signed without a control plane, and handed straight to edges.

    {"entry": envelope, "bundles": [delta bundle, …]}

The entry is a real one. It follows the journal's head as an edge's signed freshness statements tell
it, and every snapshot that comes of it names its hash. So a control plane that comes back appends
the very entry and makes the very bytes. Edges look at the bundles alone, as at those of any
upstream; a control plane looks at the entry and at what the bundles' statements were signed for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from holdfast.core.bundle import Bundle, decode_bundle, encode_bundle
from holdfast.core.delta import make_delta
from holdfast.core.errors import Damaged, TooLarge, Untrusted
from holdfast.core.history import decode_entry, encode_entry, seal
from holdfast.core.model import JSON, BreakGlass, Entry, Head, Override, PutOverride, Subject
from holdfast.core.overrides import successor
from holdfast.core.roots import RootSet
from holdfast.core.snapshot import STATEMENT_TYPE, decode_statement, encode, statement
from holdfast.core.trust import Admitted
from holdfast.core.wire import UNREADABLE, Envelope, Verify, canonical, decode_envelope, signers

ENTRY_TYPE: Final = "application/vnd.holdfast.entry.v1+json"
PUSH_BYTES_MAX: Final = 64 * 1024
"""Of a whole push: an edge takes no larger body."""
SUBJECTS_MAX: Final = 64
OVERRIDES_MAX: Final = 64
"""Settings of one push."""


Sign: TypeAlias = Callable[[str, bytes], bytes]
"""As `ports.Sign`: (payload type, payload) -> envelope."""


class Push(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`entry` is signed by each environment's key that its bundles are; `bundles` hold deltas."""

    entry: Envelope
    bundles: tuple[msgspec.Raw, ...]


class Order(msgspec.Struct, frozen=True):
    """What to push over what one subject has: key -> flag (`core.overrides.serving`)."""

    active: Admitted
    flags: Mapping[str, JSON]


class Pushed(msgspec.Struct, frozen=True):
    """A push as it was made: its bytes, its entry, and the bundle of each subject."""

    body: bytes
    entry: Entry
    bundles: tuple[bytes, ...]


class Taken(msgspec.Struct, frozen=True):
    """A push as a control plane reads it: the entry, and the digests that were signed."""

    entry: Entry
    digests: Mapping[Subject, str]


_PUSH: Final = msgspec.json.Decoder(Push)


def entry_of(orders: Sequence[Order], head: Head, at_ms: int, actor: str, reason: str) -> Entry:
    """The entry that puts all of `orders`, the next after `head`; on record as broken glass."""
    edits = [
        PutOverride(
            order.active.subject.environment, order.active.subject.service, key, Override(flag)
        )
        for order in orders
        for key, flag in order.flags.items()
    ]
    environments = sorted({order.active.subject.environment for order in orders})
    glass = [BreakGlass(name, reason, until_s=at_ms // 1000) for name in environments]
    return seal(head, at_ms, actor, reason, (*edits, *glass))


def make(
    orders: Sequence[Order], entry: Entry, roots: Sequence[Envelope], sign: Mapping[str, Sign]
) -> Pushed:
    """Build and sign. `sign` has each environment's signer, `roots` the chain of root documents.

    Raises `Invalid` for what can't be built, `TooLarge` for what no edge takes.
    """
    at = Head(entry.revision, entry.hash)
    bundles = []
    for order in orders:
        active = order.active
        snapshot = successor(active.snapshot, active.digest, order.flags, at)
        body = encode(snapshot)
        signer = sign[active.subject.environment]
        signature = decode_envelope(signer(STATEMENT_TYPE, statement(snapshot, body)))
        delta = make_delta(active.body, body)
        bundle = Bundle(
            tuple(roots), signature, delta=delta or b"", snapshot=b"" if delta else body
        )
        bundles.append(encode_bundle(bundle))
    sealed = decode_envelope(next(iter(sign.values()))(ENTRY_TYPE, encode_entry(entry)))
    push = canonical({"entry": sealed, "bundles": [msgspec.Raw(one) for one in bundles]})
    if len(push) > PUSH_BYTES_MAX:
        raise TooLarge(
            f"the push has {len(push)} bytes, edges take {PUSH_BYTES_MAX}: push fewer settings"
        )
    return Pushed(push, entry, tuple(bundles))


def decode_push(body: bytes) -> Push:
    """Take a push apart, believing none of it. Raises `Untrusted` code `push`."""
    if len(body) > PUSH_BYTES_MAX:
        raise Untrusted("push", f"{len(body)} bytes, at most {PUSH_BYTES_MAX} are taken")
    try:
        push = _PUSH.decode(body)
    except UNREADABLE as error:
        raise Untrusted("push", f"not a push: {error}") from None
    if not 0 < len(push.bundles) <= SUBJECTS_MAX:
        raise Untrusted("push", f"a push has 1 to {SUBJECTS_MAX} bundles")
    return push


def read(body: bytes) -> Pushed:
    """A push as it was kept by whoever made it, believing none of it. Raises `Untrusted`."""
    push = decode_push(body)
    return Pushed(body, _entry(push), tuple(bytes(raw) for raw in push.bundles))


def stated(bundle: bytes) -> tuple[Subject, int, str]:
    """Subject, revision and digest that a bundle's statement names, not yet believed."""
    said = decode_statement(decode_bundle(bundle).signature.body())
    return Subject(said.environment, said.service), said.revision, said.digest


def take(push: Push, roots: RootSet, verify: Verify) -> Taken:
    """What a control plane may believe of a push.

    Raises `Untrusted`: `signature` for what no key of its environment signed, `push` for an entry
    that does something else than an offline push may.
    """
    digests: dict[Subject, str] = {}
    for raw in push.bundles:
        signature = decode_bundle(bytes(raw)).signature
        subject, _, made = stated(bytes(raw))
        if not signers(signature, STATEMENT_TYPE, roots.keys_for(subject.environment), verify):
            raise Untrusted(
                "signature", f"no key that may sign for {subject.environment} signed it"
            )
        digests[subject] = made
    for environment in {subject.environment for subject in digests}:
        if not signers(push.entry, ENTRY_TYPE, roots.keys_for(environment), verify):
            raise Untrusted("signature", f"no key that may sign for {environment} signed the entry")
    entry = _entry(push)
    _check_edits(entry, digests)
    return Taken(entry, digests)


def _entry(push: Push) -> Entry:
    payload = push.entry.body()
    try:
        return decode_entry(payload, hashlib.sha256(payload).hexdigest())
    except Damaged as error:
        raise Untrusted("push", str(error)) from None


def _check_edits(entry: Entry, digests: Iterable[Subject]) -> None:
    subjects = set(digests)
    environments = {subject.environment for subject in subjects}
    for edit in entry.edits:
        match edit:
            case PutOverride(to=Override()) if Subject(edit.environment, edit.service) in subjects:
                continue
            case BreakGlass() if edit.environment in environments:
                continue
        raise Untrusted("push", "its entry does more than lay something over what it signs for")
    if not any(isinstance(edit, BreakGlass) for edit in entry.edits):
        raise Untrusted("push", "its entry breaks no glass: this was no emergency")
    if len(entry.edits) > OVERRIDES_MAX + len(environments):
        raise Untrusted("push", f"at most {OVERRIDES_MAX} settings are pushed at once")
