"""What travels and what is kept on disk: a snapshot with all that is needed to believe it.

    {"roots": [root envelopes, version 1 first], "signature": envelope, "snapshot": {…}}
    {"roots": […], "signature": envelope, "delta": {…}}

The signature is over the statement about the whole snapshot (`core.snapshot.Statement`) in both
forms. Compression is the carrier's.
"""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.core import limits
from holdfast.core.errors import Untrusted
from holdfast.core.wire import UNREADABLE, Envelope, canonical

BUNDLE_BYTES_MAX: Final = limits.SNAPSHOT_BYTES_MAX + limits.ROOTS_MAX * limits.ENVELOPE_BYTES_MAX


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exactly one of `snapshot` and `delta` is set; both are canonical bytes, not yet looked at."""

    roots: tuple[Envelope, ...]
    signature: Envelope
    snapshot: bytes = b""
    delta: bytes = b""


class _Wire(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    roots: tuple[Envelope, ...]
    signature: Envelope
    snapshot: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    delta: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_WIRE: Final = msgspec.json.Decoder(_Wire)
_SNAPSHOT: Final = b',"snapshot":'


def encode_bundle(bundle: Bundle) -> bytes:
    """The canonical bytes of a bundle."""
    return canonical(
        {
            "roots": bundle.roots,
            "signature": bundle.signature,
            **({"snapshot": msgspec.Raw(bundle.snapshot)} if bundle.snapshot else {}),
            **({"delta": msgspec.Raw(bundle.delta)} if bundle.delta else {}),
        }
    )


def decode_bundle(body: bytes) -> Bundle:
    """Take a bundle apart, believing none of it yet.

    Raises `Untrusted` with code `bundle-size`, or `bundle` for what is no bundle.
    """
    if len(body) > BUNDLE_BYTES_MAX:
        raise Untrusted("bundle-size", f"{len(body)} bytes, at most {BUNDLE_BYTES_MAX} are taken")
    found = _parted(body)
    if found is not None:
        return found
    try:
        wire = _WIRE.decode(body)
    except UNREADABLE as error:
        raise Untrusted("bundle", f"not a bundle: {error}") from None
    if (wire.snapshot is msgspec.UNSET) == (wire.delta is msgspec.UNSET):
        raise Untrusted("bundle", "a bundle holds a snapshot or a delta, and not both")
    if len(wire.roots) > limits.ROOTS_MAX:
        raise Untrusted("bundle", f"{len(wire.roots)} roots, at most {limits.ROOTS_MAX} are taken")
    return Bundle(wire.roots, wire.signature, _bytes(wire.snapshot), _bytes(wire.delta))


def _parted(body: bytes) -> Bundle | None:
    """A canonical bundle with a snapshot, which comes last and is cut out without reading it.

    Reading megabytes in one call would keep every other thread waiting as long. What is before it
    is JSON up to there once it is closed, so the cut is where it should be; whether the rest is
    what was signed tells its digest. None for whatever else it may be.
    """
    cut = body.find(_SNAPSHOT)
    if cut < 0 or not body.endswith(b"}}"):
        return None
    try:
        wire = _WIRE.decode(body[:cut] + b"}")
    except UNREADABLE:
        return None
    if wire.delta is not msgspec.UNSET or len(wire.roots) > limits.ROOTS_MAX:
        return None
    _check_size(len(body) - cut - len(_SNAPSHOT) - 1)
    return Bundle(wire.roots, wire.signature, snapshot=body[cut + len(_SNAPSHOT) : -1])


def _bytes(raw: msgspec.Raw | msgspec.UnsetType) -> bytes:
    if raw is msgspec.UNSET:
        return b""
    _check_size(memoryview(raw).nbytes)
    return bytes(raw)


def _check_size(size: int) -> None:
    """Before a copy of it is made."""
    if size > limits.SNAPSHOT_BYTES_MAX:
        most = limits.SNAPSHOT_BYTES_MAX
        raise Untrusted("bundle-size", f"a snapshot of {size} bytes, at most {most} are taken")
