"""The edge's door and its tickets by themselves, with a clock that the test moves."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstream import token

from holdfast.apps.edge import door as doors
from holdfast.apps.edge.door import EdgeDoor, credential
from holdfast.apps.edge.tickets import PERIOD_S, Tickets
from holdfast.core.errors import Forbidden, Unauthenticated
from holdfast.core.model import Scope, Subject

SHOP = Subject("production", "shop")
ACCESS = Subject("production", "_access")
TEXT, KEPT = token("reader", b"r" * 32, Scope(("read",), "production", "shop"))
OTHER, OTHER_KEPT = token("other", b"o" * 32, Scope(("read",), "staging"))
FOLLOW, FOLLOW_KEPT = token("follower", b"f" * 32, Scope(("follow",)))


class Clock:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def bearer(text: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", f"Bearer {text}".encode())]


@pytest.fixture
def door() -> EdgeDoor:
    door = EdgeDoor(Clock())
    door.learn("production", {"reader": KEPT.to, "follower": FOLLOW_KEPT.to})
    door.learn("staging", {"other": OTHER_KEPT.to, "follower": FOLLOW_KEPT.to})
    return door


def remembered(door: EdgeDoor, headers: list[tuple[bytes, bytes]]) -> bool:
    return door.lets_read(credential(dict(headers)), str(SHOP))


def test_who_was_let_in_is_remembered_there_and_nowhere_else(door):
    assert not remembered(door, bearer(TEXT))
    door.admit(bearer(TEXT), "read", SHOP)

    assert remembered(door, bearer(TEXT))
    assert not door.lets_read(bearer(TEXT)[1][1], "staging/shop")
    assert not remembered(door, bearer(OTHER))
    assert not remembered(door, [])


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Basic xyz"), (b"x-api-key", TEXT.encode())],
        [*bearer(TEXT), (b"authorization", b"Bearer bogus")],
        [*bearer(TEXT), (b"x-api-key", b"bogus")],
    ],
)
def test_a_credential_that_proved_nothing_is_not_remembered(door, headers):
    door.admit(headers, "read", SHOP)

    for value in (b"Basic xyz", b"Bearer bogus", b"bogus"):
        assert not door.lets_read(value, str(SHOP))


def test_a_token_of_another_environment_is_nobody_here(door):
    with pytest.raises(Unauthenticated):
        door.admit(bearer(OTHER), "read", SHOP)
    door.admit(bearer(OTHER), "read", Subject("staging", "shop"))
    assert door.refused == 1


def test_a_stream_that_is_open_when_its_token_expires_tells_nothing_more():
    clock = Clock()
    door = EdgeDoor(clock)
    until_s = int(clock.now_s) + 60
    short = msgspec.structs.replace(KEPT.to, expires_s=until_s)
    door.learn("production", {"reader": short, "follower": FOLLOW_KEPT.to})
    sees, others_see = door.sees(bearer(TEXT)), door.sees(bearer(FOLLOW))
    clock.now_s = until_s - 1.0
    assert sees(SHOP)
    clock.now_s = float(until_s)
    assert not sees(SHOP)
    assert others_see(SHOP)
    longer = msgspec.structs.replace(KEPT.to, expires_s=until_s + 60)
    door.learn("production", {"reader": longer})
    assert sees(SHOP)


def test_new_tokens_forget_what_the_old_ones_allowed(door):
    door.admit(bearer(TEXT), "read", SHOP)
    door.learn("production", {})

    assert not remembered(door, bearer(TEXT))
    with pytest.raises(Unauthenticated):
        door.admit(bearer(TEXT), "read", SHOP)


def test_an_answer_in_progress_cannot_remember_a_revoked_token(door, monkeypatch):
    # The token is revoked between its proof and its remembering.
    remember = door._remember

    def revoked_meanwhile(tokens, *rest):
        door.learn("production", {})
        remember(tokens, *rest)

    monkeypatch.setattr(door, "_remember", revoked_meanwhile)
    door.admit(bearer(TEXT), "read", SHOP)

    assert not remembered(door, bearer(TEXT))


def test_the_memory_is_bounded_and_that_is_counted(door, monkeypatch):
    monkeypatch.setattr(doors, "ADMITTED_MAX", 1)
    door.admit(bearer(TEXT), "read", SHOP)
    door.admit(bearer(FOLLOW), "read", SHOP)

    assert door.forgotten == 1
    assert remembered(door, bearer(FOLLOW))
    assert not remembered(door, bearer(TEXT))


def test_only_followers_read_the_tokens(door):
    with pytest.raises(Forbidden):
        door.admit(bearer(TEXT), "read", ACCESS)
    door.admit(bearer(FOLLOW), "read", ACCESS)
    sees = door.sees(bearer(TEXT))
    assert sees(SHOP)
    assert not sees(ACCESS)
    assert not sees(Subject("staging", "shop"))
    assert door.sees(bearer(FOLLOW))(ACCESS)


def test_open_reads_are_for_settings_only():
    door = EdgeDoor(Clock(), open_reads=True)
    door.admit([], "read", SHOP)

    assert door.sees([])(SHOP)
    assert not door.sees([])(ACCESS)
    for verb, subject in (("read", ACCESS), ("follow", SHOP)):
        with pytest.raises(Unauthenticated):
            door.admit([], verb, subject)


@pytest.mark.parametrize(
    "headers",
    [bearer("hf_reader_bogus"), [(b"authorization", b"Basic eDp5")], [(b"x-api-key", b"bogus")]],
)
def test_a_wrong_token_is_refused_where_none_would_do(headers):
    door = EdgeDoor(Clock(), open_reads=True)
    door.learn("production", {"reader": KEPT.to})

    with pytest.raises(Unauthenticated):
        door.admit(headers, "read", SHOP)
    with pytest.raises(Unauthenticated):
        door.sees(headers)
    assert not remembered(door, headers)
    door.admit(bearer(TEXT), "read", SHOP)
    door.admit([(b"x-api-key", b"")], "read", SHOP)
    assert door.sees(bearer(TEXT))(SHOP)


def test_no_token_is_wrong_where_none_is_known():
    door = EdgeDoor(Clock(), open_reads=True)
    door.admit(bearer(TEXT), "read", SHOP)

    assert door.sees(bearer(TEXT))(SHOP)
    assert not door.sees(bearer(TEXT))(ACCESS)
    with pytest.raises(Unauthenticated):
        door.admit(bearer(TEXT), "read", ACCESS)


def test_a_stream_goes_by_the_tokens_of_the_moment(door):
    sees = door.sees(bearer(TEXT))
    assert sees(SHOP)
    door.learn("production", {"follower": FOLLOW_KEPT.to})
    assert not sees(SHOP)
    door.learn("production", {"reader": KEPT.to})
    assert sees(SHOP)


def test_what_a_caller_makes_long_is_not_remembered(door):
    padded = [(b"authorization", b"Bearer " + b" " * 1_000 + TEXT.encode())]
    door.admit(padded, "read", SHOP)
    far = Subject("production", "x" * 1_000)
    door.admit(bearer(FOLLOW), "read", far)

    assert not remembered(door, padded)
    assert not door.lets_read(bearer(FOLLOW)[1][1], str(far))


def test_before_it_knows_tokens_nobody_comes_in():
    door = EdgeDoor(Clock())
    assert not door.knows_tokens
    with pytest.raises(Unauthenticated):
        door.admit(bearer(TEXT), "read", SHOP)
    with pytest.raises(Unauthenticated):
        door.sees(bearer(TEXT))


@given(st.floats(0, 4e9), st.floats(0, 3 * PERIOD_S))
def test_a_ticket_lives_one_to_two_periods(issued_s, later_s):
    clock = Clock()
    clock.now_s = issued_s
    tickets = Tickets(b"secret", clock)
    ticket = tickets.issue("production/shop")
    left_s = tickets.lifetime_s("production/shop", ticket)
    assert left_s is not None
    assert PERIOD_S - 1 <= left_s <= 2 * PERIOD_S + 1

    clock.now_s += later_s
    now = tickets.lifetime_s("production/shop", ticket)
    assert (now is not None) == (later_s < left_s)


@given(st.text(max_size=60))
def test_no_other_text_is_a_ticket(text):
    tickets = Tickets(b"secret", Clock())
    assert tickets.lifetime_s("production/shop", text) is None
    good = tickets.issue("production/shop")
    assert tickets.lifetime_s("production/mail", good) is None
    assert Tickets(b"another", Clock()).lifetime_s("production/shop", good) is None


def test_what_one_token_asks_for_makes_no_stranger_of_another(door, monkeypatch):
    monkeypatch.setattr(doors, "ADMITTED_MAX", 10)
    door.admit(bearer(TEXT), "read", SHOP)
    text, kept = token("wide", b"w" * 32, Scope(("read",), "staging"))
    door.learn("staging", {"wide": kept.to})
    door.admit(bearer(TEXT), "read", SHOP)
    for number in range(30):
        door.admit(bearer(text), "read", Subject("staging", f"made-up-{number}"))
        door.admit(bearer(f"{' ' * number}{text}"), "read", Subject("staging", "shop"))

    assert door.forgotten
    assert door.caller(credential(dict(bearer(TEXT)))) == "reader"
    assert len(door._tokens.callers) <= 1 + doors.SPELLINGS_MAX
