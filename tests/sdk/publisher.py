"""A publisher in a few lines: signed bundles and freshness statements, right or wrong at will."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from holdfast.core.bundle import Bundle, encode_bundle
from holdfast.core.delta import make_delta
from holdfast.core.model import Subject
from holdfast.core.roots import ROOT_TYPE, Key, RootSet, encode_root_set, keyid
from holdfast.core.snapshot import (
    FRESHNESS_TYPE,
    STATEMENT_TYPE,
    Facts,
    Freshness,
    Pacing,
    Previous,
    SegmentFacts,
    Semantics,
    SettingFacts,
    Snapshot,
    encode,
    freshness,
    statement,
)
from holdfast.core.wire import Envelope, canonical, digest, encode_envelope, envelope, pae

SHOP = Subject("production", "demo-shop")


class Signer:
    """An Ed25519 key, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public = self._key.public_key().public_bytes_raw()
        self.id = keyid(self.public)

    def sign(self, payload_type: str, payload: bytes) -> Envelope:
        return envelope(
            payload_type, payload, {self.id: self._key.sign(pae(payload_type, payload))}
        )


def flag(value: Any, **others: Any) -> dict[str, Any]:
    """A flagd flag that gives `value` to all."""
    return {
        "state": "ENABLED",
        "variants": {"here": value, **others},
        "defaultVariant": "here",
    }


def type_of(definition: Mapping[str, Any]) -> Any:
    value = next(iter(definition["variants"].values()))
    kinds = {bool: "boolean", str: "string", int: "integer", float: "number"}
    return kinds.get(type(value), "object")


class Publisher:
    """Publishes revision after revision of one subject. `last` is the newest publication."""

    def __init__(
        self, subject: Subject = SHOP, *, seed: int = 1, development: bool = False
    ) -> None:
        self.subject = subject
        self.root_key, self.key = Signer(seed), Signer(seed + 100)
        self.roots: list[Envelope] = []
        self.version = 0
        self.development = development
        self.rotate(self.key)
        self.revision = 0
        self.flags: dict[str, Any] = {}
        self.touched: dict[str, int] = {}
        self.removed: dict[str, int] = {}
        self.previous: Previous | None = None
        self.body = b""
        self.at_ms = int(time.time() * 1000) - 30_000
        self.pacing = Pacing()
        self.segments: dict[str, SegmentFacts] = {}

    def rotate(self, key: Signer) -> None:
        """The next root document delegates to `key` alone."""
        self.key, self.version = key, self.version + 1
        roots = RootSet(
            version=self.version,
            development=self.development,
            roots={self.root_key.id: self.root_key.public.hex()},
            keys={key.id: Key(key.public.hex(), ("*",), self.version)},
        )
        self.roots.append(self.root_key.sign(ROOT_TYPE, encode_root_set(roots)))

    def put(self, **settings: Any) -> None:
        """Settings by key (`_` for `-`): values, or whole flag definitions."""
        self.revision += 1
        for name, value in settings.items():
            key = name.replace("_", "-")
            self.flags[key] = value if _is_flag(value) else flag(value)
            self.touched[key] = self.revision
            self.removed.pop(key, None)

    def remove(self, key: str) -> None:
        self.revision += 1
        del self.flags[key], self.touched[key]
        self.removed[key] = self.revision

    def facts(self) -> dict[str, SettingFacts]:
        return {
            key: SettingFacts(type_of(each), self.touched[key], digest(canonical(each)))
            for key, each in self.flags.items()
        }

    def snapshot(self, **changes: Any) -> Snapshot:
        facts = Facts(
            service=self.subject.service,
            environment=self.subject.environment,
            revision=self.revision,
            journal_head=digest(b"entry %d" % self.revision),
            previous=self.previous,
            semantics=Semantics("v3"),
            settings={k: msgspec.Raw(canonical(f)) for k, f in self.facts().items()},
            schemas={},
            removed=dict(self.removed),
            removed_since=0,
            segments=self.segments,
            pacing=self.pacing,
        )
        return Snapshot(
            evaluators={},
            flags={k: msgspec.Raw(canonical(f)) for k, f in self.flags.items()},
            holdfast=msgspec.structs.replace(facts, **changes),
            metadata={"flagSetId": self.subject.service, "version": str(self.revision)},
        )

    def publish(self, **settings: Any) -> bytes:
        """Put, then the whole bundle of what is there now."""
        if settings:
            self.put(**settings)
        return self.bundle(self.snapshot())

    def bundle(self, snapshot: Snapshot) -> bytes:
        """The whole bundle of a snapshot, signed as it is; what follows has it as previous."""
        self.before, self.body = self.body, encode(snapshot)
        self.digest = digest(self.body)
        self.previous = Previous(snapshot.holdfast.revision, self.digest)
        self.signature = self.key.sign(STATEMENT_TYPE, statement(snapshot, self.body))
        return encode_bundle(Bundle(tuple(self.roots), self.signature, self.body))

    def bundle_now(self) -> bytes:
        """The whole bundle of the newest publication, under the newest roots."""
        return encode_bundle(Bundle(tuple(self.roots), self.signature, self.body))

    def delta(self) -> bytes:
        """The delta bundle from the publication before to the newest one."""
        delta = make_delta(self.before, self.body)
        assert delta is not None
        return encode_bundle(Bundle(tuple(self.roots), self.signature, delta=delta))

    def fresh(self, **changes: Any) -> bytes:
        """A freshness statement about the newest, later than the one before."""
        self.at_ms += 1_000
        said = Freshness(
            service=self.subject.service,
            environment=self.subject.environment,
            revision=self.revision,
            digest=self.digest,
            journal_revision=self.revision,
            journal_head=digest(b"entry %d" % self.revision),
            at_ms=self.at_ms,
        )
        said = msgspec.structs.replace(said, **changes)
        return encode_envelope(self.key.sign(FRESHNESS_TYPE, freshness(said)))


def _is_flag(value: Any) -> bool:
    return isinstance(value, dict) and "variants" in value
