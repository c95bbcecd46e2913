"""One test for each refusal, and for each protection the damage with it off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sdk.publisher import SHOP, Publisher, Signer, flag

from holdfast.adapters.ed25519 import verify
from holdfast.core import trust
from holdfast.core.bundle import Bundle, decode_bundle, encode_bundle
from holdfast.core.errors import Untrusted
from holdfast.core.model import Subject
from holdfast.core.roots import RootSet, extend
from holdfast.core.snapshot import Bounds, Previous, SegmentFacts, Semantics, statement
from holdfast.core.targeting.segments import build
from holdfast.core.trust import Admitted
from holdfast.core.wire import digest


@pytest.fixture
def publisher() -> Publisher:
    publisher = Publisher()
    publisher.put(tiles=9, dark_mode=False)
    return publisher


def admit(
    bundle: bytes,
    active: Admitted | None = None,
    pinned: RootSet | None = None,
    subject: Subject = SHOP,
) -> Admitted:
    return trust.admit(bundle, subject, active, pinned, verify)


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(Untrusted) as caught:
        yield
    assert caught.value.code == code


def answer(admitted: Admitted, key: str = "tiles") -> Any:
    return trust.equip(admitted, {}, lambda: 0.0).evaluator.evaluate(key).value


@contextmanager
def without(monkeypatch: pytest.MonkeyPatch, check: str) -> Iterator[None]:
    """The same `admit` with one of its checks off."""
    with monkeypatch.context() as patch:
        patch.setattr(trust, check, lambda *_: None)
        yield


def test_what_is_right_is_admitted(publisher: Publisher) -> None:
    first = admit(publisher.publish())
    second = admit(publisher.publish(tiles=49), first, first.roots)
    assert (first.revision, answer(first)) == (1, 9)
    assert (second.revision, answer(second)) == (2, 49)
    assert second.digest == digest(second.body)


def test_the_same_again_is_admitted(publisher: Publisher) -> None:
    bundle = publisher.publish()
    first = admit(bundle)
    assert admit(bundle, first).digest == first.digest


def test_a_gap_is_admitted(publisher: Publisher) -> None:
    """A client that was away sees neither the revisions between nor their digests."""
    first = admit(publisher.publish())
    publisher.publish(tiles=10)
    assert answer(admit(publisher.publish(tiles=11), first)) == 11


def test_a_delta_becomes_a_whole_bundle(publisher: Publisher) -> None:
    publisher.put(**{f"setting_{n}": "text" * 20 for n in range(20)})
    first = admit(publisher.publish())
    whole = publisher.publish(tiles=49)
    second = admit(publisher.delta(), first)
    assert second.bundle == whole
    assert answer(second) == 49


def test_a_delta_to_nothing_is_refused(publisher: Publisher) -> None:
    publisher.put(**{f"setting_{n}": "text" * 20 for n in range(20)})
    publisher.publish()
    publisher.publish(tiles=49)
    with refused("delta-base"):
        admit(publisher.delta())


def test_garbage_is_refused() -> None:
    with refused("bundle"):
        admit(b"not a bundle")


def test_another_root_than_the_pinned_one_is_refused(publisher: Publisher) -> None:
    pinned = admit(publisher.publish()).roots
    impostor = Publisher(seed=7)
    bundle = impostor.publish(tiles=666)
    with refused("root-forked"):
        admit(bundle, None, pinned)
    assert answer(admit(bundle, None, None)) == 666, "the damage without a pin"


def test_a_rotated_key_is_followed_and_the_old_one_is_not(publisher: Publisher) -> None:
    first = admit(publisher.publish())
    old_key = publisher.key
    publisher.rotate(Signer(50))
    second = admit(publisher.publish(tiles=10), first, first.roots)
    assert second.roots.version == 2
    publisher.key = old_key
    with refused("signature"):
        admit(publisher.publish(tiles=666), second, second.roots)


def test_an_upstream_with_the_roots_of_before_can_not_bring_the_old_key_back(
    publisher: Publisher,
) -> None:
    first = admit(publisher.publish())
    old_key, old_roots = publisher.key, list(publisher.roots)
    publisher.rotate(Signer(50))
    second = admit(publisher.publish(tiles=10), first, first.roots)
    publisher.key, publisher.roots = old_key, old_roots
    stolen = publisher.publish(tiles=666)
    with refused("signature"):
        admit(stolen, second, second.roots)
    assert answer(admit(stolen, second, first.roots)) == 666, "the damage with the old pin"


def test_no_signature_of_a_trusted_key_is_refused(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = admit(publisher.publish())
    publisher.key = Signer(66)
    forged = publisher.publish(tiles=666)
    with refused("signature"):
        admit(forged, first, first.roots)
    monkeypatch.setattr(trust, "signers", lambda *_: {"anybody"})
    assert answer(admit(forged, first, first.roots)) == 666, "the damage with the check off"


def test_a_freshness_statement_is_no_signature(publisher: Publisher) -> None:
    bundle = decode_bundle(publisher.publish())
    sealed = msgspec.json.decode(publisher.fresh(), type=type(bundle.signature))
    with refused("payload-type"):
        admit(encode_bundle(msgspec.structs.replace(bundle, signature=sealed)))


@pytest.mark.parametrize(("more", "code"), [(b" ", "size"), (b"", "digest")])
def test_other_bytes_than_the_signed_ones_are_refused(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, more: bytes, code: str
) -> None:
    signed = decode_bundle(publisher.publish())
    changed = signed.snapshot.replace(b'"here":9', b'"here":6') + more
    bundle = encode_bundle(Bundle(signed.roots, signed.signature, changed))
    if more:  # canonical bundles can't carry it; a hostile one can
        bundle = bundle.replace(b'"roots"', b'"roots"', 1)
        with pytest.raises(Untrusted):
            trust._check_body(changed, trust.decode_statement(signed.signature.body()))
        return
    with refused(code):
        admit(bundle)
    with without(monkeypatch, "_check_body"):
        assert answer(admit(bundle)) == 6, "the damage with the check off"


def test_another_subject_than_asked_for_is_refused(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = publisher.publish()
    other = Subject("production", "mail")
    with refused("subject"):
        admit(bundle, subject=other)
    with without(monkeypatch, "_check_subject"):
        assert answer(admit(bundle, subject=other)) == 9, "mail would run on the shop's settings"


def test_a_statement_that_names_another_revision_is_refused(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = publisher.snapshot()
    body = publisher.bundle(snapshot) and publisher.body
    said = msgspec.json.decode(statement(snapshot, body))
    said["revision"] = 99
    sealed = publisher.key.sign(trust.STATEMENT_TYPE, trust_canonical(said))
    bundle = encode_bundle(Bundle(tuple(publisher.roots), sealed, body))
    with refused("revision"):
        admit(bundle)
    with without(monkeypatch, "_check_same"):
        assert admit(bundle).revision == 1


def trust_canonical(value: Any) -> bytes:
    from holdfast.core.wire import canonical

    return canonical(value)


def test_an_unknown_format_is_refused(publisher: Publisher) -> None:
    with refused("format"):
        admit(publisher.bundle(publisher.snapshot(format=2)))


def test_an_unknown_semantics_is_refused(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = publisher.bundle(publisher.snapshot(semantics=Semantics("v3", evaluation=2)))
    with refused("semantics"):
        admit(bundle)
    with without(monkeypatch, "_check_known"):
        assert answer(admit(bundle)) == 9, "evaluated by rules that its publisher didn't mean"


def test_larger_bounds_than_ours_are_refused(publisher: Publisher) -> None:
    with refused("limits"):
        admit(publisher.bundle(publisher.snapshot(limits=Bounds(logic_depth_max=65))))


def test_a_segment_beyond_the_bound_is_refused(publisher: Publisher) -> None:
    huge = {"all": SegmentFacts("tenant", "0" * 64, 1, 2**40)}
    with refused("limits"):
        admit(publisher.bundle(publisher.snapshot(segments=huge)))


def test_a_rollback_is_refused(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    old = publisher.publish()
    second = admit(publisher.publish(tiles=49))
    with refused("rollback"):
        admit(old, second)
    with without(monkeypatch, "_check_succession"):
        assert answer(admit(old, second)) == 9, "the damage with the check off: back to 9"


def test_another_snapshot_of_the_same_revision_is_refused(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = admit(publisher.publish())
    publisher.flags["tiles"] = flag(666)
    twin = publisher.bundle(publisher.snapshot(previous=None))
    with refused("sideways"):
        admit(twin, first)
    with without(monkeypatch, "_check_succession"):
        assert answer(admit(twin, first)) == 666, "the damage with the check off"


def test_a_successor_of_another_snapshot_is_refused(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = admit(publisher.publish())
    publisher.put(tiles=666)
    alien = publisher.bundle(publisher.snapshot(previous=Previous(1, "0" * 64)))
    with refused("lineage"):
        admit(alien, first)
    with without(monkeypatch, "_check_succession"):
        assert answer(admit(alien, first)) == 666, "the damage with the check off"


def test_a_setting_that_vanished_unnamed_is_refused(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = admit(publisher.publish())
    publisher.remove("tiles")
    silent = publisher.snapshot(removed={})
    bundle = publisher.bundle(silent)
    with refused("lost"):
        admit(bundle, first)
    with without(monkeypatch, "_check_succession"):
        assert answer(admit(bundle, first)) is None, "the damage with the check off"


def test_a_setting_that_was_removed_is_named_and_goes(publisher: Publisher) -> None:
    first = admit(publisher.publish())
    publisher.remove("tiles")
    assert answer(admit(publisher.publish(), first)) is None


def test_an_old_removal_explains_no_new_loss(publisher: Publisher) -> None:
    first = admit(publisher.publish(tiles=10))
    publisher.remove("tiles")
    with refused("lost"):
        admit(publisher.bundle(publisher.snapshot(removed={"tiles": 1})), first)


def test_a_removal_crowded_out_of_the_list_is_taken_at_its_word(publisher: Publisher) -> None:
    first = admit(publisher.publish())
    publisher.remove("tiles")
    bundle = publisher.bundle(publisher.snapshot(removed={}, removed_since=2))
    assert answer(admit(bundle, first)) is None


def test_a_change_that_no_entry_explains_is_refused(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ECS 2022: a build of the publisher that changed answers nobody had edited."""
    first = admit(publisher.publish())
    publisher.flags["tiles"] = flag(666)
    publisher.put(dark_mode=True)
    bundle = publisher.publish()
    with refused("unexplained"):
        admit(bundle, first)
    with without(monkeypatch, "_check_succession"):
        assert answer(admit(bundle, first)) == 666, "the damage with the check off"


def test_a_definition_that_moved_behind_its_facts_is_refused(publisher: Publisher) -> None:
    first = admit(publisher.publish())
    publisher.put(dark_mode=True)
    snapshot = publisher.snapshot()
    flags = {**snapshot.flags, "tiles": msgspec.Raw(trust_canonical(flag(666)))}
    with refused("unexplained"):
        admit(publisher.bundle(msgspec.structs.replace(snapshot, flags=flags)), first)


@pytest.mark.parametrize("behind", ["evaluators", "segments", "semantics"])
def test_what_a_setting_refers_to_does_not_move_behind_its_facts(
    publisher: Publisher, behind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.put(
        tiles={**flag(9, many=49), "targeting": {"if": [{"$ref": "pilot"}, "many"]}},
        seats={**flag(9, many=49), "targeting": {"in_segment": [{"var": "tenant"}, "vips"]}},
        pilot={**flag("vips"), "targeting": {"==": [{"var": "tenant"}, "pilot"]}},
    )
    first = admit(bundle_with(publisher, "pilot", "vips"))
    publisher.put(dark_mode=True)
    same = bundle_with(publisher, "pilot", "vips")
    assert admit(same, first).revision == publisher.revision
    moved = {
        "evaluators": bundle_with(publisher, "mallory", "vips"),
        "segments": bundle_with(publisher, "pilot", "mallory"),
        "semantics": bundle_with(publisher, "pilot", "vips", semantics=Semantics("v2")),
    }[behind]
    with refused("unexplained"):
        admit(moved, first)
    with without(monkeypatch, "_check_succession"):
        admit(moved, first)


def bundle_with(publisher: Publisher, pilot: str, vips: str, **changes: Any) -> bytes:
    """With a segment of each kind, of one member."""
    table = build([vips])
    facts = SegmentFacts("tenant", digest(table), 1, len(table))
    snapshot = publisher.snapshot(segments={"vips": facts}, **changes)
    evaluators = {"pilot": msgspec.Raw(trust_canonical({"==": [{"var": "tenant"}, pilot]}))}
    return publisher.bundle(msgspec.structs.replace(snapshot, evaluators=evaluators))


def test_a_text_that_reads_like_a_segment_is_none(publisher: Publisher) -> None:
    """Refusing what is honest would hold a consumer back for good."""
    rule = {"if": [{"==": [{"var": "tenant"}, "pilot"]}, {"cat": ["$ref", "vips"]}]}
    publisher.put(tiles={**flag(9, many=49), "targeting": rule})
    first = admit(bundle_with(publisher, "pilot", "vips"))
    publisher.put(dark_mode=True)
    assert admit(bundle_with(publisher, "other", "others"), first)


def with_segment(publisher: Publisher) -> tuple[Admitted, bytes]:
    table = build(["contoso", "fabrikam"])
    publisher.segments = {"pilot": SegmentFacts("tenant", digest(table), 2, len(table))}
    rule = {"if": [{"in_segment": [{"var": "tenant"}, "pilot"]}, "many", None]}
    publisher.put(tiles={**flag(9, many=49), "targeting": rule})
    return admit(publisher.publish()), table


def test_segment_tables_are_checked_and_used(publisher: Publisher) -> None:
    admitted, table = with_segment(publisher)
    generation = trust.equip(admitted, {digest(table): table}, lambda: 0.0)
    assert generation.evaluator.evaluate("tiles", {"tenant": "contoso"}).value == 49
    assert generation.evaluator.evaluate("tiles", {"tenant": "other"}).value == 9


@pytest.mark.parametrize(
    "spoil", [lambda _: {}, lambda table: {digest(table): build(["contoso", "mallory"])}]
)
def test_another_segment_table_than_the_signed_one_is_refused(
    publisher: Publisher, spoil: Callable[[bytes], dict[str, bytes]]
) -> None:
    admitted, table = with_segment(publisher)
    with refused("segment"):
        trust.equip(admitted, spoil(table), lambda: 0.0)


def test_freshness_advances(publisher: Publisher) -> None:
    admitted = admit(publisher.publish())
    first = trust.vouch(publisher.fresh(), admitted, None, verify)
    second = trust.vouch(publisher.fresh(), admitted, first, verify)
    assert first
    assert second
    assert second.at_ms > first.at_ms


def test_a_replayed_freshness_statement_is_no_news(publisher: Publisher) -> None:
    admitted = admit(publisher.publish())
    replayed = publisher.fresh()
    known = trust.vouch(replayed, admitted, None, verify)
    newer = trust.vouch(publisher.fresh(), admitted, known, verify)
    assert trust.vouch(replayed, admitted, newer, verify) is newer


def test_freshness_of_another_revision_is_no_news(publisher: Publisher) -> None:
    admitted = admit(publisher.publish())
    publisher.publish(tiles=10)
    assert trust.vouch(publisher.fresh(), admitted, None, verify) is None


def test_unsigned_freshness_is_refused(publisher: Publisher) -> None:
    admitted = admit(publisher.publish())
    publisher.key = Signer(66)
    with refused("freshness-signature"):
        trust.vouch(publisher.fresh(), admitted, None, verify)


def test_freshness_of_another_subject_is_refused(publisher: Publisher) -> None:
    admitted = admit(publisher.publish())
    with refused("freshness-subject"):
        trust.vouch(publisher.fresh(service="mail"), admitted, None, verify)


def test_a_rewritten_journal_shows(publisher: Publisher) -> None:
    admitted = admit(publisher.publish())
    known = trust.vouch(publisher.fresh(), admitted, None, verify)
    with refused("journal-forked"):
        trust.vouch(publisher.fresh(journal_head="0" * 64), admitted, known, verify)


BUNDLE = Publisher().publish(tiles=9, dark_mode=True)
PINNED = extend(None, decode_bundle(BUNDLE).roots, verify)


@given(st.integers(0, len(BUNDLE) - 1), st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_no_flipped_byte_gives_another_answer(at: int, mask: int) -> None:
    """Spelled otherwise, the same signed bytes may pass; other ones never do."""
    changed = bytearray(BUNDLE)
    changed[at] ^= mask
    try:
        admitted = admit(bytes(changed), pinned=PINNED)
    except Untrusted:
        return
    assert admitted.body == decode_bundle(BUNDLE).snapshot
