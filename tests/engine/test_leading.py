"""Nodes on one store, each with its threads: one leads, the next one takes over, nobody hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast.adapters.memory import MemoryLeases
from holdfast.core.errors import Fenced, Unavailable
from holdfast.core.leadership import Terms
from holdfast.engine import leading as leading_module
from holdfast.engine.leading import Leading, Turn
from holdfast.ports import Clock, Lease

DEADLINE_S = 20.0
QUICK = Terms(ttl_s=0.6, renew_s=0.1, retry_s=0.1, margin_s=0.2)
LASTING = Terms(ttl_s=3_600.0, renew_s=0.1, retry_s=0.1, margin_s=600.0)
"""No lease runs out: who stops, or begins, does so for another reason."""


class Leases(MemoryLeases):
    """Those in memory, which may hang or fail; `asked` counts.

    What is answered to `deaf` always ends in an error, as letting go does with `keeping`.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self.answers = threading.Event()
        self.answers.set()
        self.failing: Exception | None = None
        self.deaf = ""
        self.keeping: Exception | None = None
        self.given_up, self.lets_go = threading.Event(), threading.Event()
        self.lets_go.set()
        self.asked = 0

    def take(self, holder: str, url: str, ttl_s: float) -> Lease | None:
        self.asked += 1
        self.answers.wait(DEADLINE_S)
        if self.failing is not None:
            raise self.failing
        given = super().take(holder, url, ttl_s)
        if holder == self.deaf:
            raise ValueError("an answer of another shape")
        return given

    def give_up(self, lease: Lease) -> None:
        self.given_up.set()
        self.lets_go.wait(DEADLINE_S)
        if self.keeping is not None:
            raise self.keeping
        super().give_up(lease)


class Lossy:
    """The way of one node to them. While it `loses`, all is done there and no answer comes back."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.loses = False
        self.lost = 0

    def take(self, holder: str, url: str, ttl_s: float) -> Lease | None:
        return self._back(self._leases.take(holder, url, ttl_s))

    def current(self) -> Lease | None:
        return self._back(self._leases.current())

    def give_up(self, lease: Lease) -> None:
        self._back(self._leases.give_up(lease))

    def _back(self, answer: Any) -> Any:
        if self.loses:
            self.lost += 1
            raise Unavailable("no answer")
        return answer


class Talking(Leading):
    """One that does not listen first: it asks for the lease on and on, whatever it hears."""

    @property
    def _unheard(self) -> bool:
        return False

    @_unheard.setter
    def _unheard(self, _: bool) -> None:
        """It forgets."""


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def nodes(leases: Leases) -> Iterator[Callable[..., Leading]]:
    """Makes nodes and starts them; all end with the test."""
    made: list[Leading] = []

    def make(name: str, terms: Terms = QUICK, **more: Any) -> Leading:
        given = {"leases": leases, "draw": lambda: 0.5, **more}
        leading = Leading(holder=name, url=f"http://{name}", terms=terms, **given)
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
    nodes: Callable[..., Leading], leases: Leases
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


def test_who_does_not_lead_has_no_fence(nodes: Callable[..., Leading]) -> None:
    one = nodes("one")
    until(lambda: one.token)
    two = nodes("two")
    until(lambda: two.refusals)
    with pytest.raises(Fenced):
        two.fence()


def test_who_ends_hands_over_at_once(nodes: Callable[..., Leading]) -> None:
    one = nodes("one")
    until(lambda: one.token)
    two = nodes("two")
    one.close()
    assert one.token == 0
    until(lambda: two.token == 2)


def test_who_resigns_never_leads_again(nodes: Callable[..., Leading]) -> None:
    one = nodes("one")
    until(lambda: one.token)
    one.resign()
    until(lambda: not one.token)
    two = nodes("two")
    until(lambda: two.token == 2)
    two.close()
    assert one.token == 0


def test_who_hears_no_answer_does_not_keep_the_lease_from_others(
    nodes: Callable[..., Leading], leases: Leases
) -> None:
    """It is asked for all the same, and each time that it were given it would begin anew."""
    way = Lossy(leases)
    one = nodes("one", leases=way)
    until(lambda: one.token)
    way.loses = True
    two = nodes("two")
    until(lambda: two.turns)
    way.loses = False
    until(lambda: one.newest >= 2)


def refused_while_it_is_deaf(kind: type[Leading]) -> list[bool]:
    """Whether another node is refused, each time that nine tenths of a lease have passed for the
    store, and a node that leads and hears no answers any more has asked it anew."""
    now_s = 0.0
    leases = Leases(lambda: now_s)
    way, refused = Lossy(leases), list[bool]()
    one = kind(leases=way, holder="one", url="", draw=lambda: 0.5, terms=QUICK)
    one.start()
    until(lambda: one.token)
    way.loses = True
    until(lambda: not one.token)
    for _ in range(5):
        lost = way.lost
        until(lambda lost=lost: way.lost >= lost + 2)
        now_s += 0.9 * QUICK.ttl_s
        refused.append(leases.take("two", "", QUICK.ttl_s) is None)
    assert not one.token
    one.close()
    return refused


def test_who_hears_no_answer_extends_no_lease() -> None:
    assert False in refused_while_it_is_deaf(Leading)[:3]


def test_unprotected_a_lease_is_extended_that_nobody_leads_by() -> None:
    """The damage with the protection off: no other node can lead, however long it takes."""
    assert all(refused_while_it_is_deaf(Talking))


def test_a_leader_whose_store_hangs_stops_leading_all_the_same(
    nodes: Callable[..., Leading], leases: Leases
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


def test_a_store_that_fails_is_asked_again(nodes: Callable[..., Leading], leases: Leases) -> None:
    leases.failing = Unavailable("nobody answers")
    one = nodes("one")
    until(lambda: one.unanswered >= 2)
    assert one.token == 0
    leases.failing = None
    until(lambda: one.token)


def test_a_write_that_was_refused_ends_the_term(
    nodes: Callable[..., Leading], leases: Leases
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
    nodes: Callable[..., Leading],
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


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route"),
        ValueError("no number"),
        KeyError("token"),
        MemoryError(),
        StopIteration(),
    ],
)
def test_whatever_an_adapter_raises_its_leader_steps_down_tells_it_and_tries_again(
    nodes: Callable[..., Leading], leases: Leases, error: Exception
) -> None:
    turns, faults = list[Turn](), list[Exception]()
    one = nodes("one", LASTING, on_turn=turns.append, on_fault=faults.append)
    until(lambda: one.token)
    leases.failing = error
    until(lambda: faults and not one.token)
    assert faults[0] is error
    until(lambda: one.faults > 1)
    assert [(turn.leads, "nobody foresaw" in turn.why) for turn in turns] == [
        (True, False),
        (False, True),
    ]
    leases.failing = None
    until(lambda: one.token)


def test_a_node_that_never_hears_that_it_has_the_lease_keeps_it_from_nobody(
    nodes: Callable[..., Leading], leases: Leases
) -> None:
    leases.deaf = "one"
    one = nodes("one", LASTING)
    until(lambda: one.faults)
    two = nodes("two", LASTING)
    until(lambda: two.token)
    assert one.token == 0


def test_who_could_not_be_told_that_this_node_leads_never_sees_it_lead(leases: Leases) -> None:
    seen: list[int] = []
    one = Leading(leases=leases, holder="one", url="", draw=lambda: 0.5, terms=QUICK)

    def on_turn(turn: Turn) -> None:
        if turn.leads and len(seen) < 2:
            seen.append(one.token)
            raise RuntimeError("who is to know of it fails")

    one.on_turn = on_turn
    one.start()
    until(lambda: one.token)
    assert seen == [0, 0]
    assert one.faults == 2
    one.close()


def test_who_could_not_be_told_that_it_ended_ends_all_the_same(
    nodes: Callable[..., Leading], leases: Leases
) -> None:
    def on_turn(turn: Turn) -> None:
        if not turn.leads:
            raise RuntimeError("who is to know of it fails")

    one = nodes("one", on_turn=on_turn)
    until(lambda: one.token)
    leases.answers.clear()
    until(lambda: one.faults and not one.token)
    leases.answers.set()
    until(lambda: one.token)


def test_a_fault_that_can_not_be_told_is_counted_and_ends_nothing(
    nodes: Callable[..., Leading], leases: Leases
) -> None:
    def on_fault(error: Exception) -> None:
        raise error

    leases.failing = OSError("no route")
    one = nodes("one", on_fault=on_fault)
    until(lambda: one.faults > 1)
    leases.failing = None
    until(lambda: one.token)


def test_a_lease_that_can_not_be_given_up_runs_out(
    nodes: Callable[..., Leading], leases: Leases
) -> None:
    one = nodes("one")
    until(lambda: one.token)
    leases.keeping = OSError("no route")
    one.close()
    until(lambda: one.faults)
    assert one.token == 0
    two = nodes("two")
    until(lambda: two.token)


def test_who_resigned_before_ends_only_when_the_lease_is_given_up(
    nodes: Callable[..., Leading], leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ended sooner would leave it to run out."""
    monkeypatch.setattr(leading_module, "CLOSE_S", DEADLINE_S)
    one = nodes("one", LASTING)
    until(lambda: one.token)
    leases.lets_go.clear()
    one.resign()
    assert leases.given_up.wait(DEADLINE_S)
    closing = threading.Thread(target=one.close)
    closing.start()
    closing.join(0.5)
    ended_early = not closing.is_alive()
    leases.lets_go.set()
    closing.join()
    assert not ended_early
    assert leases.current() is None
