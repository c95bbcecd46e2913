"""Nodes on one store, each with its threads: one leads, the next one takes over, nobody hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from holdfast.adapters.memory import MemoryLeases
from holdfast.core.errors import Fenced, Unavailable
from holdfast.core.leadership import Terms
from holdfast.engine.leading import Leading, Turn
from holdfast.ports import Lease

DEADLINE_S = 20.0
QUICK = Terms(ttl_s=0.6, renew_s=0.1, retry_s=0.1, margin_s=0.2)


class Leases(MemoryLeases):
    """Those in memory, which may hang or fail; `asked` counts."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()
        self.answers.set()
        self.failing: Exception | None = None
        self.asked = 0

    def take(self, holder: str, url: str, ttl_s: float) -> Lease | None:
        self.asked += 1
        self.answers.wait(DEADLINE_S)
        if self.failing is not None:
            raise self.failing
        return super().take(holder, url, ttl_s)


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def nodes(leases: Leases) -> Iterator[Callable[[str], Leading]]:
    """Makes nodes and starts them; all end with the test."""
    made: list[Leading] = []

    def make(name: str) -> Leading:
        leading = Leading(
            leases=leases, holder=name, url=f"http://{name}", draw=lambda: 0.5, terms=QUICK
        )
        made.append(leading)
        leading.start()
        return leading

    yield make
    leases.answers.set()
    for each in made:
        each.close()


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_first_one_leads_and_the_others_know_who(
    nodes: Callable[[str], Leading], leases: Leases
) -> None:
    one = nodes("one")
    until(lambda: one.token)
    two = nodes("two")
    until(lambda: two.refusals)
    assert two.token == 0
    assert two.leader == Lease(one.token, "one", "http://one")
    assert one.fence() == one.newest == two.newest == 1
    asked = leases.asked
    until(lambda: leases.asked > asked + 10)
    assert one.token == 1, "it goes on and on"


def test_who_does_not_lead_has_no_fence(nodes: Callable[[str], Leading]) -> None:
    one = nodes("one")
    until(lambda: one.token)
    two = nodes("two")
    until(lambda: two.refusals)
    with pytest.raises(Fenced):
        two.fence()


def test_who_ends_hands_over_at_once(nodes: Callable[[str], Leading]) -> None:
    one = nodes("one")
    until(lambda: one.token)
    two = nodes("two")
    one.close()
    assert one.token == 0
    until(lambda: two.token == 2)


def test_who_resigns_never_leads_again(nodes: Callable[[str], Leading]) -> None:
    one = nodes("one")
    until(lambda: one.token)
    one.resign()
    until(lambda: not one.token)
    two = nodes("two")
    until(lambda: two.token == 2)
    two.close()
    assert one.token == 0


def test_a_leader_whose_store_hangs_stops_leading_all_the_same(
    nodes: Callable[[str], Leading], leases: Leases
) -> None:
    one, turns = nodes("one"), list[Turn]()
    one.on_turn = turns.append
    until(lambda: one.token)
    leases.answers.clear()
    until(lambda: not one.token)
    until(lambda: [each for each in turns if not each.leads])
    (stopped,) = [each for each in turns if not each.leads]
    assert "not extended in time" in stopped.why
    leases.answers.set()
    until(lambda: one.token)


def test_a_store_that_fails_is_asked_again(nodes: Callable[[str], Leading], leases: Leases) -> None:
    leases.failing = Unavailable("nobody answers")
    one = nodes("one")
    until(lambda: one.unanswered >= 2)
    assert one.token == 0
    leases.failing = None
    until(lambda: one.token)


def test_a_write_that_was_refused_ends_the_term(
    nodes: Callable[[str], Leading], leases: Leases
) -> None:
    one = nodes("one")
    until(lambda: one.token)
    held = one.leader
    assert held is not None
    leases.give_up(held)
    with leases.lock:
        leases.take("another", "", 60.0)
        one.refused(Fenced(1, 2))
        until(lambda: not one.token)
    assert (one.fenced, one.newest) == (1, 2)


def test_one_that_never_started_closes(leases: Leases) -> None:
    Leading(leases=leases, holder="one", url="", draw=lambda: 0.5).close()
    assert leases.asked == 0


def test_who_is_told_to_lead_is_told_before_anybody_sees_it(leases: Leases) -> None:
    """What it heard while it followed is old: it must know that before it judges by it."""
    seen: list[int] = []
    one = Leading(leases=leases, holder="one", url="", draw=lambda: 0.5, terms=QUICK)
    one.on_turn = lambda turn: seen.append(one.token) if turn.leads else None
    one.start()
    until(lambda: one.token)
    assert seen == [0]
    one.close()


def test_who_led_before_is_not_elsewhere_and_who_resigned_can_look(
    nodes: Callable[[str], Leading],
) -> None:
    one = nodes("one")
    until(lambda: one.token)
    assert one.elsewhere == ""
    one.resign()
    until(lambda: not one.token)
    assert one.elsewhere == "", "it is not another node"
    two = nodes("two")
    until(lambda: two.token)
    one.look()
    assert one.elsewhere == "http://two"


def test_an_error_that_nobody_expected_ends_no_node(
    nodes: Callable[[str], Leading], leases: Leases
) -> None:
    leases.failing = ValueError("an answer of another shape")
    one, faults = nodes("one"), []
    one.on_fault = faults.append
    until(lambda: faults)
    assert one.token == 0
    leases.failing = None
    until(lambda: one.token)
