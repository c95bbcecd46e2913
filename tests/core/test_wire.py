"""Canonical bytes against RFC 8785's oracle, envelopes against securesystemslib."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as OracleEnvelope
from securesystemslib.signer import CryptoSigner

from holdfast.core import limits, wire
from holdfast.core.errors import Invalid, Untrusted

SAFE = limits.SAFE_INTEGER_MAX
texts = st.text(st.characters(codec="utf-8"), max_size=8)
keys = st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF), max_size=8)
floats = st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda x: not (x.is_integer() and SAFE < abs(x) < 1e21)
)
scalars = st.none() | st.booleans() | st.integers(-SAFE, SAFE) | floats | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=30,
)


@given(values)
def test_bytes_are_those_of_rfc_8785(value: Any) -> None:
    assert wire.canonical(value) == rfc8785.dumps(value)


@settings(max_examples=500)
@given(floats)
@example(-0.0)
@example(1e-6)
@example(1.5e-5)
@example(9.999999e-7)
@example(1e21)
@example(1.7976931348623157e308)
@example(5e-324)
@example(123456789012345.67)
def test_every_number_is_written_as_rfc_8785_wants(number: float) -> None:
    assert wire.canonical([number]) == rfc8785.dumps([number])


@given(values)
def test_canonical_bytes_read_back_are_the_same_bytes(value: Any) -> None:
    body = wire.canonical(value)
    assert wire.canonical(msgspec.json.decode(body)) == body
    assert wire.canonical({"inside": msgspec.Raw(body)}) == b'{"inside":' + body + b"}"


def test_raw_keeps_its_bytes_when_floats_around_it_are_rewritten() -> None:
    inner = wire.canonical({"b": 1e-6, "a": 1e300, "c": "2.0"})
    body = wire.canonical({"raw": msgspec.Raw(inner), "x": 2.0})
    assert body == b'{"raw":{"a":1e+300,"b":0.000001,"c":"2.0"},"x":2}'


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        SAFE + 1,
        -SAFE - 1,
        2**70,
        1e16,
        1e20,
        "\ud800",
        {"\udfff": 1},
        {"\U0001f600": 1},
        {"a": [{"\U0001f600": 1}]},
    ],
)
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    for place in (value, [value], {"a": {"b": [value]}}):
        with pytest.raises(Invalid) as refusal:
            wire.canonical(place)
        assert refusal.value.problems[0].code == "not-canonical"
        assert refusal.value.problems[0].hint


def test_without_the_refusal_readers_would_disagree_on_the_order_of_keys() -> None:
    value = {"\uffee": 1, "\U0001f600": 2}
    by_code_point = msgspec.json.encode(value, order="sorted")
    assert by_code_point != rfc8785.dumps(value)


def test_without_the_refusal_not_a_number_would_silently_become_null() -> None:
    assert msgspec.json.encode(math.nan) == b"null"


def test_supplementary_characters_are_fine_in_values() -> None:
    assert wire.canonical({"a": "\U0001f600"}) == '{"a":"\U0001f600"}'.encode()


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth_is_bounded_by_a_count_and_not_by_the_stack() -> None:
    assert wire.canonical(nested(limits.WIRE_DEPTH_MAX))
    for depth in (limits.WIRE_DEPTH_MAX + 1, 100_000):
        with pytest.raises(Invalid, match="nested deeper than"):
            wire.canonical(nested(depth))


class Point(msgspec.Struct, omit_defaults=True):
    y: float
    x: int = 0


def test_structs_are_objects_in_canonical_order() -> None:
    assert wire.canonical(Point(2.5, 1)) == b'{"x":1,"y":2.5}'
    assert wire.canonical([Point(2.0)]) == b'[{"y":2}]'
    with pytest.raises(Invalid):
        wire.canonical(Point(math.nan))


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {1: 2}])
def test_what_is_no_json_value_is_a_mistake_of_the_caller(value: Any) -> None:
    with pytest.raises(TypeError):
        wire.canonical(value)


def test_digest_is_lower_case_hex_sha256() -> None:
    assert wire.digest(b"abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def sealed(payload: bytes, kind: str = "application/x") -> wire.Envelope:
    return wire.envelope(kind, payload, {"k": KEY.sign(wire.pae(kind, payload))})


@given(st.binary(max_size=64), st.text(st.characters(codec="ascii"), max_size=16))
def test_the_signed_message_is_dsse_s(payload: bytes, kind: str) -> None:
    assert wire.pae(kind, payload) == OracleEnvelope(payload, kind, {}).pae()


def test_an_envelope_of_ours_verifies_elsewhere_and_the_other_way_round() -> None:
    signer = CryptoSigner(KEY)
    ours = sealed(b"payload")
    theirs = OracleEnvelope.from_dict(
        msgspec.json.decode(
            wire.encode_envelope(ours).replace(b'"k"', b'"%b"' % signer.public_key.keyid.encode())
        )
    )
    assert theirs.verify([signer.public_key], 1)
    made = OracleEnvelope(b"payload", "application/x", {})
    made.sign(signer)
    read = wire.decode_envelope(msgspec.json.encode(made.to_dict()))
    assert read.body() == b"payload"
    keyid = signer.public_key.keyid
    assert wire.signers(read, "application/x", {keyid: PUBLIC}, verify) == {keyid}


def test_only_known_keys_with_a_holding_signature_count() -> None:
    good = sealed(b"payload")
    assert wire.signers(good, "application/x", {"k": PUBLIC}, verify) == {"k"}
    assert wire.signers(good, "application/x", {"other": PUBLIC}, verify) == set()
    forged = msgspec.structs.replace(good, payload=sealed(b"other").payload)
    assert wire.signers(forged, "application/x", {"k": PUBLIC}, verify) == set()


def test_an_envelope_of_another_type_is_refused_before_its_signature_counts() -> None:
    with pytest.raises(Untrusted) as refusal:
        wire.signers(sealed(b"payload", "application/y"), "application/x", {"k": PUBLIC}, verify)
    assert refusal.value.code == "payload-type"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"[" * 100_000,
        b'{"payload":"eA==","payloadType":"t"}',
        b'{"payload":1,"payloadType":"t","signatures":[]}',
        b'{"payl\xe2oad":"eA==","payloadType":"t","signatures":[]}',
        b" " * (limits.ENVELOPE_BYTES_MAX + 1),
    ],
)
def test_what_is_no_envelope_is_refused(body: bytes) -> None:
    with pytest.raises(Untrusted) as refusal:
        wire.decode_envelope(body)
    assert refusal.value.code == "envelope"


def test_bad_base64_is_refused() -> None:
    for text in ("=", "a b=", "ä"):
        bad = msgspec.structs.replace(sealed(b"x"), payload=text)
        with pytest.raises(Untrusted, match="base64"):
            bad.body()
