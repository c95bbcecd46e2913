"""Bundles: taken apart as they were put together, or refused."""

from __future__ import annotations

import pytest

from holdfast.core import bundle as bundle_module
from holdfast.core import limits
from holdfast.core.bundle import Bundle, decode_bundle, encode_bundle
from holdfast.core.errors import Untrusted
from holdfast.core.wire import canonical, envelope

SIGNATURE = envelope("t", b"payload", {"k": b"signature"})
WHOLE = Bundle(roots=(SIGNATURE,), signature=SIGNATURE, snapshot=b'{"a":1}')
DELTA = Bundle(roots=(), signature=SIGNATURE, delta=b'{"b":2}')


@pytest.mark.parametrize("made", [WHOLE, DELTA])
def test_a_bundle_reads_back_byte_for_byte(made: Bundle) -> None:
    body = encode_bundle(made)
    assert decode_bundle(body) == made
    assert encode_bundle(decode_bundle(body)) == body


def test_the_snapshot_s_bytes_stand_in_it_as_they_were_signed() -> None:
    assert b'"snapshot":{"a":1}' in encode_bundle(WHOLE)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        encode_bundle(WHOLE)[:-1],
        encode_bundle(Bundle(roots=(), signature=SIGNATURE)),
        encode_bundle(Bundle((), SIGNATURE, snapshot=b"{}", delta=b"{}")),
        canonical({"roots": [], "signature": SIGNATURE, "snapshot": {}, "extra": 1}),
        canonical({"roots": [], "signature": {}, "snapshot": {}}),
        encode_bundle(Bundle((SIGNATURE,) * (limits.ROOTS_MAX + 1), SIGNATURE, snapshot=b"{}")),
    ],
)
def test_what_is_no_bundle_is_refused(body: bytes) -> None:
    with pytest.raises(Untrusted) as refused:
        decode_bundle(body)
    assert refused.value.code == "bundle"


def test_a_snapshot_is_cut_out_only_where_one_begins() -> None:
    """What looks like the beginning of one stands deeper, or isn't the last: all is read then."""
    inside = canonical({"flags": {}, "snapshot": {"a": 1}})
    made = Bundle((SIGNATURE,), SIGNATURE, snapshot=inside)
    assert decode_bundle(encode_bundle(made)) == made
    turned = b'{"roots":[],"snapshot":' + inside + b',"signature":' + canonical(SIGNATURE) + b"}"
    assert decode_bundle(turned) == Bundle((), SIGNATURE, snapshot=inside)
    spaced = encode_bundle(made)[:-1] + b" }"
    assert decode_bundle(spaced) == made


def test_a_bundle_past_its_bound_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundle_module, "BUNDLE_BYTES_MAX", 100)
    with pytest.raises(Untrusted) as refused:
        decode_bundle(b" " * 101)
    assert refused.value.code == "bundle-size"
