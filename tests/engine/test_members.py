"""Long lists of members go to the blob store; the journal keeps their digests."""

from __future__ import annotations

import pytest
from tests.engine.a_node import Node

from holdfast.core.errors import Invalid
from holdfast.core.model import (
    Audience,
    Change,
    Environment,
    PutEnvironment,
    PutSegment,
    PutService,
    Segment,
    Service,
)
from holdfast.core.targeting.segments import build
from holdfast.core.wire import digest

MEMBERS = tuple(f"tenant-{number:05}" for number in range(10_001))


@pytest.fixture
def shop(node: Node) -> Node:
    node.commit(PutEnvironment("production", Environment()), PutService("shop", Service()))
    return node


def kept(node: Node) -> Audience:
    return node.view.state.services["shop"].segments["big"].segment.audience


def put(audience: Audience) -> PutSegment:
    return PutSegment("shop", "big", Segment(audience))


def test_a_short_list_stays_in_the_journal(shop: Node) -> None:
    shop.commit(put(Audience(by="tenant", members=MEMBERS[:3])))
    assert kept(shop) == Audience(by="tenant", members=MEMBERS[:3])


def test_a_long_list_is_kept_as_lines_and_as_a_table(shop: Node) -> None:
    shop.commit(put(Audience(by="tenant", members=(*reversed(MEMBERS), MEMBERS[0]))))
    lines, table = "".join(f"{one}\n" for one in MEMBERS).encode(), build(MEMBERS)
    assert kept(shop) == Audience(
        by="tenant",
        members_digest=digest(lines),
        member_count=len(MEMBERS),
        table_digest=digest(table),
        table_bytes=len(table),
    )
    assert shop.blobs.get(digest(lines)) == lines
    assert shop.blobs.get(digest(table)) == table


def test_an_uploaded_list_gives_the_same_and_nobody_is_believed_about_its_table(
    shop: Node,
) -> None:
    name = shop.blobs.put("\n".join(reversed(MEMBERS)).encode())
    claimed = Audience(by="tenant", members_digest=name, table_digest="0" * 64, table_bytes=1)
    shop.commit(put(claimed))
    assert kept(shop).table_digest == digest(build(MEMBERS))
    assert kept(shop).member_count == len(MEMBERS)


def test_what_the_head_has_already_is_not_made_again(shop: Node) -> None:
    shop.commit(put(Audience(by="tenant", members=MEMBERS)))
    again = Segment(kept(shop), description="more words")
    done = shop.commit(PutSegment("shop", "big", again))
    assert [one.summary for one in done.differences] == ['/description nothing -> "more words"']


def test_a_short_uploaded_list_comes_into_the_journal(shop: Node) -> None:
    name = shop.blobs.put(b"b\na\n")
    shop.commit(put(Audience(by="tenant", members_digest=name)))
    assert kept(shop) == Audience(by="tenant", members=("a", "b"))


@pytest.mark.parametrize(
    ("body", "code"),
    [(None, "no-members"), (b"\xff\n", "no-members"), (b"a\n\nb\n", "wrong-members")],
)
def test_what_is_no_list_is_a_problem(shop: Node, body: bytes | None, code: str) -> None:
    name = "0" * 64 if body is None else shop.blobs.put(body)
    edit = put(Audience(by="tenant", members_digest=name))
    assert code in {one.code for one in shop.publisher.check(Change((edit,))).problems}
    with pytest.raises(Invalid):
        shop.commit(edit)
    assert shop.view.state.head.revision == 1


def test_a_member_that_is_no_text_is_a_problem(shop: Node) -> None:
    with pytest.raises(Invalid, match=r"wrong-members(.|\n)*/edits/0"):
        shop.commit(put(Audience(by="tenant", members=(*MEMBERS, "\ud800"))))
