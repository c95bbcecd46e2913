"""The bundles on the shelf: signed, compressed, with deltas, within a bound."""

from __future__ import annotations

import gzip
import threading

import msgspec
import pytest
from tests.engine.a_node import FREE, Clock, Node, setting, sign

from holdfast.core.bundle import decode_bundle
from holdfast.core.delta import apply_delta, make_delta
from holdfast.core.errors import Unavailable, Untrusted
from holdfast.core.history import seal
from holdfast.core.lineage import Standing
from holdfast.core.model import (
    Audience,
    DeleteService,
    PutEnvironment,
    PutRoot,
    PutSegment,
    PutService,
    PutSetting,
    Rule,
    Segment,
    Service,
    Subject,
    Targeting,
)
from holdfast.core.snapshot import STATEMENT_TYPE, decode_freshness, decode_statement
from holdfast.core.wire import Envelope, digest
from holdfast.engine.shelf import Shelf

SUBJECT = Subject("production", "shop")
SHOP = (
    PutEnvironment("production", FREE),
    PutService("shop", Service()),
    *(PutSetting("shop", f"k{number}", setting(number)) for number in range(50)),
)


def test_a_bundle_holds_the_snapshot_and_a_statement_about_it(node: Node) -> None:
    node.commit(*SHOP)
    published = node.shelf.newest(SUBJECT)
    assert published is not None
    bundle = decode_bundle(published.bundle)
    assert bundle.snapshot == published.body
    assert digest(published.body) == published.digest
    statement = decode_statement(bundle.signature.body())
    assert (statement.digest, statement.revision) == (published.digest, 1)
    assert gzip.decompress(published.gzipped) == published.bundle


def test_what_is_not_there_is_none(node: Node) -> None:
    assert node.shelf.newest(SUBJECT) is None
    assert node.shelf.freshness(SUBJECT) == b""
    assert node.shelf.delta(SUBJECT, "0" * 64) is None
    assert node.shelf.segment(SUBJECT, "0" * 64) is None
    assert node.shelf.catalogue() == []


def test_a_bundle_is_made_once(node: Node) -> None:
    node.commit(*SHOP)
    first = node.shelf.newest(SUBJECT)
    made = node.shelf.made
    assert node.shelf.newest(SUBJECT) is first
    assert node.shelf.made == made


def test_a_delta_leads_from_what_a_consumer_has_to_the_newest(node: Node) -> None:
    node.commit(*SHOP)
    old = node.shelf.newest(SUBJECT)
    node.commit(PutSetting("shop", "k7", setting(70)))
    new = node.shelf.newest(SUBJECT)
    assert old is not None
    assert new is not None
    body = node.shelf.delta(SUBJECT, old.digest)
    assert body is not None
    assert len(body) < len(new.bundle)
    bundle = decode_bundle(body)
    assert apply_delta(old.body, bundle.delta) == new.body
    assert bundle.signature == new.signature
    for unknown in ("0" * 64, new.digest):
        assert node.shelf.delta(SUBJECT, unknown) is None


def test_a_restarted_node_makes_the_same_bundle_when_asked(node: Node) -> None:
    node.commit(*SHOP)
    node.commit(PutSetting("shop", "k7", setting(70)))
    published = node.shelf.newest(SUBJECT)
    again = Node(node.journal)
    assert again.shelf.made == 0
    assert again.shelf.newest(SUBJECT) == published
    again.shelf.warm()
    assert again.shelf.made == len(again.view.standing.live)


def test_a_node_that_makes_other_bytes_refuses_to_serve_them(node: Node) -> None:
    node.commit(*SHOP)
    standing = node.view.standing
    lineages = dict(standing.lineages)
    lineages[SUBJECT] = msgspec.structs.replace(lineages[SUBJECT], digest="0" * 64)
    again = Node(node.journal)
    again.view.standing = Standing(standing.state, lineages, standing.live, standing.at_ms)
    with pytest.raises(Untrusted, match="run the version of Holdfast that published it") as caught:
        again.shelf.newest(SUBJECT)
    assert caught.value.code == "not-reproducible"


def test_a_new_root_comes_with_the_same_snapshot(node: Node) -> None:
    node.commit(*SHOP)
    old = node.shelf.newest(SUBJECT)
    root = {"payloadType": "root", "payload": "", "signatures": []}
    node.journal.append(seal(node.journal.head(), 1, "ann", "", [PutRoot(1, root)]))
    node.view.catch_up()
    new = node.shelf.newest(SUBJECT)
    assert old is not None
    assert new is not None
    assert (new.digest, new.body) == (old.digest, old.body)
    assert len(decode_bundle(new.bundle).roots) == 1
    assert decode_bundle(old.bundle).roots == ()


def test_a_deleted_service_leaves_the_shelf_and_comes_back_further_on(node: Node) -> None:
    node.commit(*SHOP)
    old = node.shelf.newest(SUBJECT)
    node.commit(DeleteService("shop"))
    assert node.shelf.newest(SUBJECT) is None
    assert SUBJECT not in dict(node.shelf.catalogue())
    node.commit(PutService("shop", Service()))
    new = node.shelf.newest(SUBJECT)
    lineage = dict(node.shelf.catalogue())[SUBJECT]
    assert old is not None
    assert new is not None
    assert lineage.previous is not None
    assert (lineage.previous.digest, new.revision) == (old.digest, 3)


def test_beyond_its_bytes_the_shelf_forgets_and_makes_again() -> None:
    node = Node(bytes_max=20_000)
    node.commit(PutEnvironment("production", FREE))
    for number in range(20):
        node.commit(PutService(f"s{number}", Service()), PutSetting(f"s{number}", "k", setting()))
    assert node.shelf.dropped > 0
    for number in range(20):
        subject = Subject("production", f"s{number}")
        published = node.shelf.newest(subject)
        assert published is not None
        assert published.digest == node.view.standing.lineages[subject].digest


def test_freshness_says_until_when_the_newest_was_known() -> None:
    clock = Clock()
    node = Node(clock=clock)
    node.commit(*SHOP)
    first = node.shelf.freshness(SUBJECT)
    clock.now_s += 0.5
    node.view.catch_up()
    assert node.shelf.freshness(SUBJECT) == first
    clock.now_s += 60
    assert node.shelf.freshness(SUBJECT) == first
    node.view.catch_up()
    later = node.shelf.freshness(SUBJECT)
    statement = decode_freshness(msgspec.json.decode(later, type=Envelope).body())
    assert statement.at_ms == 1_700_000_060_500
    assert (statement.journal_revision, statement.journal_head) == (1, node.journal.head().hash)


def test_nothing_is_called_the_newest_while_its_successor_is_being_made(node: Node) -> None:
    held, go_on = threading.Event(), threading.Event()

    def slow(payload_type: str, payload: bytes) -> bytes:
        if payload_type == STATEMENT_TYPE and node.view.state.head.revision == 2:
            held.set()
            go_on.wait(20)
        return sign(payload_type, payload)

    shelf = Shelf(node.view, node.blobs, slow, make_delta)
    node.commit(*SHOP)
    assert shelf.freshness(SUBJECT)
    node.clock.now_s += 60
    node.view.catch_up()
    committing = threading.Thread(
        target=node.commit, args=(PutSetting("shop", "tiles", setting(12)),)
    )
    committing.start()
    assert held.wait(20)
    assert shelf.freshness(SUBJECT) == b""
    go_on.set()
    committing.join(20)
    assert shelf.freshness(SUBJECT)


def test_a_long_list_is_served_as_the_table_that_the_snapshot_names(node: Node) -> None:
    members = tuple(f"tenant-{number}" for number in range(10_001))
    rule = Rule(logic={"$ref": "big"}, serve="many")
    tiles = msgspec.structs.replace(
        setting(), environments={"production": Targeting("few", rules=(rule,))}
    )
    node.commit(*SHOP, PutSegment("shop", "big", Segment(Audience(by="tenant", members=members))))
    node.commit(PutSetting("shop", "tiles", tiles))
    published = node.shelf.newest(SUBJECT)
    assert published is not None
    (name,) = published.tables
    table = node.shelf.segment(SUBJECT, name)
    assert table is not None
    assert digest(table) == name
    assert node.shelf.segment(SUBJECT, "0" * 64) is None


def test_a_key_that_fails_stops_no_commit_and_is_told_to_who_asks() -> None:
    node = Node()
    node.commit(*SHOP)
    key = node.shelf._sign

    def lost(payload_type: str, payload: bytes) -> bytes:
        raise Unavailable("the key is not there")

    node.shelf._sign = lost
    assert node.commit(PutSetting("shop", "k7", setting(70))).revision == 2
    assert node.shelf.failed == 1
    with pytest.raises(Unavailable, match="the key is not there"):
        node.shelf.newest(SUBJECT)
    node.shelf._sign = key
    published = node.shelf.newest(SUBJECT)
    assert published is not None
    assert published.revision == 2
