"""Canonical bytes, digests, and the envelope that carries a signature.

Everything that is hashed or signed goes through `canonical`: RFC 8785 (JCS), the same bytes for
the same value on every machine. `msgspec` writes nearly all of it; what it writes otherwise than
RFC 8785 (integral, very small and very large floats) is rewritten here, and what has no canonical
form that every JSON reader reads back exactly is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from holdfast.core.errors import Invalid, Problem, Untrusted
from holdfast.core.limits import ENVELOPE_BYTES_MAX, SAFE_INTEGER_MAX, WIRE_DEPTH_MAX

Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]
"""(public key, signature, message) -> whether the signature holds; Ed25519, raw 32-byte keys."""

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that a `msgspec` decoder raises for bad bytes: wrong JSON or shape, bad UTF-8, too deep."""

_encode = msgspec.json.Encoder(order="sorted").encode
_FINE: Final = frozenset({str, bool, type(None), msgspec.Raw})
_BELOW_F0: Final = bytes(range(0xF0))
_EXPONENT_FROM: Final = 10.0**21  # ECMAScript's Number::toString, which RFC 8785 adopts
_POSITIONAL_FROM: Final = 1e-6
_POSITIONAL_BELOW: Final = 1e16  # msgspec writes 0.00001 to here as RFC 8785 does
_MSGSPEC_FROM: Final = 1e-5


def canonical(value: Any) -> bytes:
    """The RFC 8785 bytes of a JSON value: dicts with string keys, lists, tuples, scalars, Structs.

    A `msgspec.Raw` inside must hold bytes that came from here; they are taken as they are.
    Raises `Invalid` with code `not-canonical` for NaN, infinities, numbers beyond 2^53-1 that are
    written as integers, lone surrogates, keys outside the basic multilingual plane (there the
    orders by UTF-16 unit and by code point part), and nesting beyond `limits.WIRE_DEPTH_MAX`.
    """
    rewrite = _inspect(value)
    try:
        body = _encode(value)
    except UnicodeEncodeError:
        raise _refusal("a string holds a lone surrogate", "write the character whole") from None
    if not body.isascii() and body.translate(None, delete=_BELOW_F0):
        _inspect_keys(value)
    return _rewrite_floats(body) if rewrite else body


def digest(body: bytes | bytearray | memoryview) -> str:
    """Lower-case hex SHA-256."""
    return hashlib.sha256(body).hexdigest()


def _inspect(value: Any) -> bool:
    """Refuse what has no canonical form; true when msgspec writes some float otherwise.

    Level by level instead of recursively: depth is bounded by a count, not by the stack.
    """
    rewrite = False
    level = [value]
    for _ in range(WIRE_DEPTH_MAX):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind in _FINE:
                continue
            if kind is dict:
                below.extend(item.values())
            elif kind is list or kind is tuple:
                below.extend(item)
            elif kind is float:
                rewrite |= _inspect_float(item)
            elif kind is int:
                if not -SAFE_INTEGER_MAX <= item <= SAFE_INTEGER_MAX:
                    raise _inexact(item)
            else:
                below.extend(_fields(item))
        if not below:
            return rewrite
        level = below
    raise _refusal(f"nested deeper than {WIRE_DEPTH_MAX}", "flatten the value")


def _inspect_float(number: float) -> bool:
    size = abs(number)
    if not size < _EXPONENT_FROM and (number != number or size == float("inf")):  # noqa: PLR0124
        raise _refusal(f"{number} has no JSON form", "use a finite number")
    if number.is_integer():
        if SAFE_INTEGER_MAX < size < _EXPONENT_FROM:
            raise _inexact(number)
        return True
    return not _MSGSPEC_FROM <= size < _POSITIONAL_BELOW


def _fields(item: Any) -> Iterable[Any]:
    if isinstance(item, msgspec.Struct):
        return [getattr(item, name) for name in item.__struct_fields__]
    raise TypeError(f"{type(item).__name__} is no JSON value")


def _inspect_keys(value: Any) -> None:
    """Refuse keys whose order RFC 8785 and msgspec see differently; `value` is bounded by now."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            for key in item:
                if not key.isascii() and max(key) > "\uffff":
                    raise _refusal(
                        f"the key {key!r} holds a character above U+FFFF", "rename the key"
                    )
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
        elif isinstance(item, msgspec.Struct):
            waiting.extend(_fields(item))


def _inexact(number: float) -> Invalid:
    return _refusal(
        f"{number} is beyond 2^53-1: not every JSON reader keeps it exact",
        "use a smaller number, or a string",
    )


def _refusal(message: str, hint: str) -> Invalid:
    return Invalid([Problem(code="not-canonical", message=message, hint=hint)])


def _rewrite_floats(body: bytes) -> bytes:
    return _encode(_FLOATS.decode(body))


def _float_text(text: str) -> msgspec.Raw:
    return msgspec.Raw(_number(float(text)).encode())


_FLOATS: Final = msgspec.json.Decoder(float_hook=_float_text)


def _number(number: float) -> str:
    """ECMAScript's Number::toString (ECMA-262, 6.1.6.1.20): Python's digits, its own layout."""
    if number.is_integer() and abs(number) < _EXPONENT_FROM:
        return str(int(number))
    mantissa, _, exponent = repr(number).partition("e")
    if not exponent:
        return mantissa
    if _POSITIONAL_FROM <= abs(number) < 1:
        sign = "-" if number < 0 else ""
        digits = mantissa.lstrip("-").replace(".", "")
        return f"{sign}0.{'0' * (-int(exponent) - 1)}{digits}"
    return f"{mantissa}e{int(exponent):+d}"


class Signature(msgspec.Struct, frozen=True):
    """One signature of an envelope, base64; `keyid` is a hint for choosing the key, no more."""

    keyid: str
    sig: str


class Envelope(msgspec.Struct, frozen=True, rename={"payload_type": "payloadType"}):
    """A DSSE envelope (secure-systems-lab/dsse 1.0.2): typed bytes, base64, with signatures."""

    payload: str
    payload_type: str
    signatures: tuple[Signature, ...]

    def body(self) -> bytes:
        """The payload's bytes: not verified by this. Raises `Untrusted` code `envelope`."""
        return _unbase64(self.payload)


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the message that is signed, type and payload bound."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope(payload_type: str, payload: bytes, signatures: Mapping[str, bytes]) -> Envelope:
    """Wrap a payload; `signatures` maps key ids to raw signatures over `pae`."""
    return Envelope(
        payload=_base64(payload),
        payload_type=payload_type,
        signatures=tuple(Signature(k, _base64(s)) for k, s in sorted(signatures.items())),
    )


def encode_envelope(sealed: Envelope) -> bytes:
    return canonical(sealed)


def decode_envelope(body: bytes | msgspec.Raw) -> Envelope:
    """Raises `Untrusted` code `envelope` for what is no envelope, or one past its bound."""
    if len(memoryview(body)) > ENVELOPE_BYTES_MAX:
        raise Untrusted("envelope", f"the envelope is larger than {ENVELOPE_BYTES_MAX} bytes")
    try:
        return _ENVELOPE.decode(body)
    except UNREADABLE as error:
        raise Untrusted("envelope", f"not a DSSE envelope: {error}") from None


def signers(
    sealed: Envelope, payload_type: str, keys: Mapping[str, bytes], verify: Verify
) -> set[str]:
    """The ids among `keys` (id -> raw public key) whose signature on the envelope holds.

    Empty when none does. Raises `Untrusted` code `payload-type` for an envelope of another type:
    a freshness statement is never taken for a snapshot's.
    """
    if sealed.payload_type != payload_type:
        raise Untrusted(
            "payload-type", f"signed as {sealed.payload_type[:100]!r}, expected {payload_type!r}"
        )
    message = pae(payload_type, sealed.body())
    return {
        mark.keyid
        for mark in sealed.signatures
        if mark.keyid in keys and verify(keys[mark.keyid], _unbase64(mark.sig), message)
    }


_ENVELOPE: Final = msgspec.json.Decoder(Envelope)


def _base64(body: bytes) -> str:
    return base64.b64encode(body).decode()


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Untrusted("envelope", "the envelope holds bad base64") from None
