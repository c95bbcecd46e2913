"""Chains of root documents: what a chain proves, and every way in which it doesn't."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from holdfast.adapters.ed25519 import verify
from holdfast.core import limits, roots
from holdfast.core.errors import Untrusted
from holdfast.core.roots import ROOT_TYPE, RootSet, decode_root_set, encode_root_set, extend
from holdfast.core.wire import Envelope, canonical, envelope, pae


def key(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


def public(seed: int) -> bytes:
    return key(seed).public_key().public_bytes_raw()


def name(seed: int) -> str:
    return roots.keyid(public(seed))


def sealed(document: RootSet, *by: int, kind: str = ROOT_TYPE) -> Envelope:
    payload = encode_root_set(document)
    return envelope(kind, payload, {name(each): key(each).sign(pae(kind, payload)) for each in by})


ROOT, ROOT2, SIGNER, SIGNER2, STRANGER = 1, 2, 3, 4, 5
ONE = roots.first(public(ROOT), {public(SIGNER): ["*"]}, development=False)
TWO = roots.with_key(ONE, public(SIGNER2), ["production"], revoke=False)
THREE = roots.with_root(TWO, public(ROOT2))
FOUR = roots.with_key(THREE, public(STRANGER), ["*"], revoke=True)
CHAIN = (
    sealed(ONE, ROOT),
    sealed(TWO, ROOT),
    sealed(THREE, ROOT, ROOT2),
    sealed(FOUR, ROOT2),
)


@pytest.mark.parametrize("pinned", [None, ONE, TWO, THREE, FOUR])
def test_from_any_pinned_version_a_chain_leads_to_its_newest(pinned: RootSet | None) -> None:
    assert extend(pinned, CHAIN, verify) == FOUR


def test_a_chain_that_lags_proves_nothing_and_takes_nothing_away() -> None:
    assert extend(THREE, CHAIN[:2], verify) == THREE
    assert extend(THREE, (), verify) == THREE


def test_keys_are_delegated_by_environment() -> None:
    assert TWO.keys_for("staging") == {name(SIGNER): public(SIGNER)}
    assert TWO.keys_for("production").keys() == {name(SIGNER), name(SIGNER2)}
    assert roots.current_keys(TWO, "production") == [name(SIGNER2), name(SIGNER)]
    assert FOUR.keys_for("staging").keys() == {name(STRANGER)}
    assert FOUR.keys_for("production").keys() == {name(SIGNER2), name(STRANGER)}


def test_rotations_keep_the_number_of_keys_bounded() -> None:
    document = ONE
    for seed in range(10, 10 + roots.KEYS_MAX + 5):
        document = roots.with_key(document, public(seed), ["*"], revoke=False)
    assert len(document.keys) == roots.KEYS_MAX
    assert name(10 + roots.KEYS_MAX + 4) in document.keys
    assert name(SIGNER) not in document.keys
    assert decode_root_set(encode_root_set(document)) == document


def test_a_root_document_reads_back_as_what_pins_it() -> None:
    assert decode_root_set(encode_root_set(THREE)) == THREE
    assert extend(decode_root_set(encode_root_set(THREE)), CHAIN, verify) == FOUR


def refusal(chain: tuple[Envelope, ...], pinned: RootSet | None = None) -> str:
    with pytest.raises(Untrusted) as refused:
        extend(pinned, chain, verify)
    return refused.value.code


def test_nothing_pinned_and_nothing_sent_is_refused() -> None:
    assert refusal(()) == "root-missing"


def test_more_versions_than_allowed_are_refused() -> None:
    assert refusal(CHAIN[:1] * (limits.ROOTS_MAX + 1)) == "root-count"


def test_a_gap_or_another_order_is_refused() -> None:
    assert refusal(CHAIN[1:]) == "root-version"
    assert refusal((CHAIN[0], CHAIN[2])) == "root-version"
    assert refusal((CHAIN[0], CHAIN[0])) == "root-version"


def test_another_document_under_the_pinned_version_is_refused() -> None:
    other = roots.with_key(ONE, public(STRANGER), ["*"], revoke=False)
    assert refusal((CHAIN[0], sealed(other, ROOT)), pinned=TWO) == "root-forked"


def test_a_version_that_the_one_before_did_not_sign_is_refused() -> None:
    taken = roots.with_root(TWO, public(STRANGER))
    assert refusal((*CHAIN[:2], sealed(taken, STRANGER))) == "root-handover"
    assert refusal((*CHAIN[:2], sealed(taken, STRANGER)), pinned=TWO) == "root-handover"
    assert refusal((*CHAIN[:2], sealed(taken, STRANGER, SIGNER))) == "root-handover"


def test_a_version_not_signed_by_its_own_keys_is_refused() -> None:
    assert refusal((*CHAIN[:2], sealed(THREE, ROOT))) == "root-own"
    assert refusal((sealed(ONE, STRANGER),)) == "root-own"
    assert refusal((sealed(ONE),)) == "root-own"


def test_development_and_other_roots_do_not_mix() -> None:
    turned = msgspec.structs.replace(TWO, development=True)
    assert refusal((CHAIN[0], sealed(turned, ROOT))) == "root-development"


def test_another_payload_type_is_refused() -> None:
    assert refusal((sealed(ONE, ROOT, kind="application/x"),)) == "payload-type"


def test_a_changed_payload_is_refused() -> None:
    forged = msgspec.structs.replace(CHAIN[1], payload=sealed(FOUR).payload)
    assert refusal((CHAIN[0], forged)) == "root-version"
    other = roots.with_key(ONE, public(STRANGER), ["*"], revoke=False)
    forged = msgspec.structs.replace(CHAIN[1], payload=sealed(other).payload)
    assert refusal((CHAIN[0], forged)) == "root-handover"


def test_as_many_root_keys_must_sign_as_the_threshold_says() -> None:
    both = {name(ROOT): public(ROOT).hex(), name(ROOT2): public(ROOT2).hex()}
    two_of_two = msgspec.structs.replace(ONE, roots=both, threshold=2)
    assert refusal((sealed(two_of_two, ROOT),)) == "root-own"
    assert extend(None, (sealed(two_of_two, ROOT, ROOT2),), verify) == two_of_two
    following = msgspec.structs.replace(two_of_two, version=2)
    chain = (sealed(two_of_two, ROOT, ROOT2), sealed(following, ROOT))
    assert refusal(chain) == "root-handover"


def documents(change: Callable[[dict[str, Any]], None]) -> bytes:
    document = msgspec.json.decode(encode_root_set(TWO))
    change(document)
    return canonical(document)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "root-document"),
        (b"{}", "root-document"),
        (b"[" * 100_000, "root-document"),
        (b"\xff", "root-document"),
        (encode_root_set(ONE).replace(b",", b", ", 1), "root-document"),
        (documents(lambda d: d.update(extra=1)), "root-document"),
        (documents(lambda d: d.update(version=0)), "root-document"),
        (
            encode_root_set(ONE).replace(b'"version":1', b'"version":9007199254740993'),
            "root-document",
        ),
        (documents(lambda d: d.update(threshold=0)), "root-threshold"),
        (documents(lambda d: d.update(threshold=2)), "root-threshold"),
        (documents(lambda d: d.update(roots={})), "root-keys"),
        (documents(lambda d: d.update(keys={})), "root-keys"),
        (documents(lambda d: d["roots"].update({name(SIGNER): public(SIGNER).hex()})), "root-keys"),
        (documents(lambda d: d["roots"].update({name(ROOT2): public(ROOT).hex()})), "root-keys"),
        (documents(lambda d: d["roots"].update({name(ROOT2): "zz"})), "root-keys"),
        (documents(lambda d: d["keys"][name(SIGNER)].update(environments=[])), "root-keys"),
        (documents(lambda d: d["keys"][name(SIGNER)].update(environments=["A/B"])), "root-keys"),
        (documents(lambda d: d["keys"][name(SIGNER)].update(environments=["a\n"])), "root-keys"),
    ],
)
def test_what_is_no_root_document_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(Untrusted) as refused:
        decode_root_set(body)
    assert refused.value.code == code


def test_an_environment_s_key_hands_nothing_over() -> None:
    taken = roots.with_root(ONE, public(SIGNER2))
    assert refusal((CHAIN[0], sealed(taken, SIGNER, SIGNER2))) == "root-handover"
