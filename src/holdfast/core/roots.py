"""Root documents: which keys sign snapshots, decided by keys that can stay offline.

A chain of documents, version 1 first, after The Update Framework: version N+1 is signed by the root
keys of version N, so that the old ones hand over, and by its own, so that nobody hands over to a
key that nobody holds. Whoever trusts version N can so follow to the newest one. Version 1 is
signed by its own alone: to trust it is the consumer's decision, by pinning it.

`threshold` is how many root keys must sign; what is made today has 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from holdfast.core import limits
from holdfast.core.errors import Invalid, Untrusted
from holdfast.core.model import NAME
from holdfast.core.wire import UNREADABLE, Envelope, Verify, canonical, digest, signers

ROOT_TYPE: Final = "application/vnd.holdfast.root.v1+json"
EVERY: Final = "*"
KEYS_MAX: Final = 64
"""Keys of each kind in one document; a rotation that would pass it forgets the oldest."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public key (raw Ed25519, lower-case hex) that signs for `environments`; `*` is all.

    `since` is the version of the root document that brought it.
    """

    public: str
    environments: tuple[str, ...]
    since: int = 1


class RootSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One root document, verified: what a consumer trusts, and pins.

    `roots` maps key ids to the public keys that sign the next version; `keys` those that sign
    snapshots and freshness. A chain is `development` in all its versions or in none.
    """

    version: int
    development: bool
    roots: dict[str, str]
    keys: dict[str, Key]
    threshold: int = 1

    @property
    def digest(self) -> str:
        """Of the document: what people compare when they pin."""
        return digest(canonical(self))

    def keys_for(self, environment: str) -> dict[str, bytes]:
        """Public keys that may sign for the environment, by key id."""
        return {
            keyid: bytes.fromhex(key.public)
            for keyid, key in self.keys.items()
            if environment in key.environments or EVERY in key.environments
        }

    def root_keys(self) -> dict[str, bytes]:
        return {keyid: bytes.fromhex(public) for keyid, public in self.roots.items()}


_ROOT: Final = msgspec.json.Decoder(RootSet)
_PUBLIC: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(NAME)


def keyid(public: bytes) -> str:
    """The id of a raw public key: the first 16 hex digits of its SHA-256."""
    return digest(public)[:16]


def encode_root_set(roots: RootSet) -> bytes:
    """The canonical document: the payload that is signed, and the file that pins it."""
    return canonical(roots)


def decode_root_set(body: bytes) -> RootSet:
    """Read a root document, signed or pinned.

    Raises `Untrusted` with code `root-document` (not one, or not canonical), `root-keys` (a key
    that is malformed, under another's id, or of both kinds) or `root-threshold`.
    """
    try:
        roots = _ROOT.decode(body)
        as_it_should_be = canonical(roots)
    except (Invalid, *UNREADABLE) as error:
        raise Untrusted("root-document", f"not a root document: {error}") from None
    if as_it_should_be != body or roots.version < 1:
        raise Untrusted("root-document", "the root document is not in canonical form")
    _check_keys(roots)
    if not 1 <= roots.threshold <= len(roots.roots):
        raise Untrusted("root-threshold", f"{roots.threshold} of {len(roots.roots)} keys must sign")
    return roots


def extend(pinned: RootSet | None, envelopes: Sequence[Envelope], verify: Verify) -> RootSet:
    """The newest root document that the chain proves, from the pinned one on.

    `envelopes` is the chain from version 1. Without `pinned`, version 1 is taken at its word. A
    chain that ends before the pinned version proves nothing new, and the pinned one stays: an
    upstream may lag. Raises `Untrusted` with the codes of `decode_root_set`, and `root-count`,
    `root-missing` (an empty chain and nothing pinned), `root-version` (not consecutive from 1),
    `root-forked` (another document under the pinned version), `root-handover` (not signed by the
    version before), `root-own` (not signed by its own keys), `root-development` (a development
    root among others, or the other way round), `payload-type`, `envelope`.
    """
    if len(envelopes) > limits.ROOTS_MAX:
        raise Untrusted(
            "root-count", f"{len(envelopes)} root documents, at most {limits.ROOTS_MAX}"
        )
    if not envelopes and pinned is None:
        raise Untrusted("root-missing", "no root document came, and none is pinned")
    trusted = pinned
    for version, sealed in enumerate(envelopes, 1):
        if trusted is None or version > trusted.version:
            trusted = succeed(trusted, sealed, verify)
        elif version == trusted.version and sealed.body() != canonical(trusted):
            raise Untrusted("root-forked", f"there are two root documents of version {version}")
    if trusted is None:
        raise Untrusted("root-missing", "no root document came, and none is pinned")
    return trusted


def succeed(before: RootSet | None, sealed: Envelope, verify: Verify) -> RootSet:
    """The document that follows `before`, or version 1 when there is none; raises as `extend`."""
    own = decode_root_set(sealed.body())
    expected = before.version + 1 if before else 1
    if own.version != expected:
        raise Untrusted("root-version", f"version {own.version} stands in place of {expected}")
    if before is not None and not _signed(sealed, before, verify):
        raise Untrusted("root-handover", f"no root key of version {before.version} signed the next")
    if not _signed(sealed, own, verify):
        raise Untrusted("root-own", f"version {own.version} is not signed by its own root keys")
    if before is not None and before.development != own.development:
        raise Untrusted("root-development", "development roots and others don't mix in one chain")
    return own


def _signed(sealed: Envelope, by: RootSet, verify: Verify) -> bool:
    return len(signers(sealed, ROOT_TYPE, by.root_keys(), verify)) >= by.threshold


def _check_keys(roots: RootSet) -> None:
    publics = {**roots.roots, **{name: key.public for name, key in roots.keys.items()}}
    if not 1 <= len(roots.roots) <= KEYS_MAX or not 1 <= len(roots.keys) <= KEYS_MAX:
        raise Untrusted("root-keys", f"a root document has 1 to {KEYS_MAX} keys of each kind")
    if len(publics) != len(roots.roots) + len(roots.keys):
        raise Untrusted("root-keys", "a key is a root key and an environment's key at once")
    for name, public in publics.items():
        if not _PUBLIC.fullmatch(public) or keyid(bytes.fromhex(public)) != name:
            raise Untrusted("root-keys", f"the key {name[:64]!r} is malformed or has another id")
    for name, key in roots.keys.items():
        if not key.environments or not all(map(_is_environment, key.environments)):
            raise Untrusted("root-keys", f"the key {name} signs for what is no environment")


def _is_environment(name: str) -> bool:
    return name == EVERY or _NAME.fullmatch(name) is not None


def current_keys(roots: RootSet, environment: str) -> list[str]:
    """Ids of keys that may sign for the environment: its own first, and the newest first."""
    found = [
        (environment not in key.environments, -key.since, name)
        for name, key in roots.keys.items()
        if environment in key.environments or EVERY in key.environments
    ]
    return [name for _, _, name in sorted(found)]


def first(root: bytes, keys: Mapping[bytes, Sequence[str]], *, development: bool) -> RootSet:
    """Version 1, of a raw public root key and public keys with the environments they sign for."""
    return RootSet(
        version=1,
        development=development,
        roots={keyid(root): root.hex()},
        keys={keyid(key): Key(key.hex(), tuple(names)) for key, names in keys.items()},
    )


def with_key(
    before: RootSet, public: bytes, environments: Sequence[str], *, revoke: bool
) -> RootSet:
    """The next version, with one more key for `environments`.

    Older keys stay good for checking, so that what consumers keep on disk stays good; `revoke`
    drops those of the same environments, for when one has leaked.
    """
    version, names = before.version + 1, tuple(environments)
    kept = {
        name: key for name, key in before.keys.items() if not (revoke and key.environments == names)
    }
    while len(kept) >= KEYS_MAX:
        del kept[min(kept, key=lambda name: (kept[name].since, name))]
    kept[keyid(public)] = Key(public.hex(), names, since=version)
    return msgspec.structs.replace(before, version=version, keys=kept)


def with_root(before: RootSet, public: bytes) -> RootSet:
    """The next version, with one root key in place of all before."""
    return msgspec.structs.replace(
        before, version=before.version + 1, roots={keyid(public): public.hex()}, threshold=1
    )
