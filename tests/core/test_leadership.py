"""Conversations with one node, and seeded histories of several on one store.

The histories have clocks that run at other rates, answers that are lost or late, and processes that
sleep at any moment. Two things must hold in all of them: no two nodes lead at once, as long as the
rates differ by no more than the margin allows; and whatever sleeps, the journal takes no write of a
leader that was succeeded.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest

from holdfast.core.leadership import (
    TERMS,
    Ask,
    Closing,
    Command,
    Event,
    Faulted,
    Fenced,
    Follow,
    GiveUp,
    Lead,
    Refused,
    Standing,
    Terms,
    Tick,
    Took,
    Unanswered,
    step,
)

HISTORIES = 100
HISTORIES_LONG = 1_500
RUN_S = 60.0


class Node:
    """One node in a conversation."""

    def __init__(self) -> None:
        self.standing = Standing()

    def told(self, event: Event, now_s: float) -> list[Command]:
        self.standing, commands = step(self.standing, event, now_s, 0.5)
        return list(commands)

    def leading(self, token: int = 1) -> Node:
        """A node that was given the lease at 0 s."""
        assert self.told(Tick(), 0.0) == [Ask()]
        assert self.told(Took(token, 0.0), 0.0) == [Lead(token)]
        return self


def test_it_asks_at_once_and_leads_when_it_has_the_lease() -> None:
    node = Node().leading(7)
    assert node.standing.leads(0.0)
    assert node.standing.token == 7


def test_it_asks_again_before_the_lease_ends_and_leads_on() -> None:
    node = Node().leading()
    assert node.told(Tick(), 1.4) == []
    assert node.told(Tick(), 1.5) == [Ask()]
    assert node.told(Took(1, 1.5), 1.6) == []
    assert node.standing.leads(5.4)


def test_it_never_asks_twice_at_once() -> None:
    node = Node()
    assert node.told(Tick(), 0.0) == [Ask()]
    assert node.told(Tick(), 100.0) == []


def test_who_is_refused_asks_again_later() -> None:
    node = Node()
    node.told(Tick(), 0.0)
    assert node.told(Refused(), 0.0) == []
    assert node.told(Tick(), TERMS.retry_s - 0.1) == []
    assert node.told(Tick(), TERMS.retry_s) == [Ask()]


def test_chance_spreads_the_questions_of_those_who_wait() -> None:
    asked, _ = step(Standing(), Tick(), 0.0, 0.0)
    due = [step(asked, Refused(), 0.0, chance)[0].due_s for chance in (0.0, 0.5, 1.0)]
    assert due == [0.5 * TERMS.retry_s, TERMS.retry_s, 1.5 * TERMS.retry_s]


def test_a_leader_whose_store_hangs_stops_in_time() -> None:
    node = Node().leading()
    assert node.told(Tick(), 1.5) == [Ask()]
    assert node.standing.wake_s == TERMS.ttl_s - TERMS.margin_s
    assert node.told(Tick(), 3.99) == []
    assert not node.standing.leads(4.0)
    assert node.told(Tick(), 4.0) == [Follow(1, "the lease was not extended in time")]


def test_a_leader_whose_store_does_not_answer_tries_again_soon_and_leads_meanwhile() -> None:
    node = Node().leading()
    node.told(Tick(), 1.5)
    assert node.told(Unanswered(), 1.6) == []
    assert node.standing.leads(1.6)
    assert node.told(Tick(), 1.6 + TERMS.renew_s / 4) == [Ask()]
    assert node.told(Took(1, 2.0), 2.1) == []
    assert node.standing.leads(5.9)


def test_an_answer_that_comes_too_late_makes_no_leader() -> None:
    node = Node()
    node.told(Tick(), 0.0)
    assert node.told(Took(1, 0.0), 4.0) == []
    assert not node.standing.leads(4.0)
    assert node.told(Tick(), 4.0 + TERMS.retry_s) == [Ask()]


def test_a_store_that_goes_on_handing_out_a_lease_of_old_is_asked_no_more_often() -> None:
    """Else it is asked as fast as it answers, by every node that it does that to."""
    node = Node().leading()
    node.told(Fenced(1), 0.0)
    now_s, asked = 0.0, 0
    while now_s < 60.0:
        now_s = max(now_s, node.standing.wake_s)
        asked += node.told(Tick(), now_s) == [Ask()]
        assert node.told(Took(1, now_s), now_s) == []
    assert asked <= 60.0 / TERMS.retry_s + 1


def test_who_lost_the_lease_stops_at_once() -> None:
    node = Node().leading()
    node.told(Tick(), 1.5)
    assert node.told(Refused(), 1.6) == [Follow(1, "another node holds the lease")]


def test_a_fenced_write_ends_the_term_and_no_late_answer_brings_it_back() -> None:
    node = Node().leading()
    node.told(Tick(), 1.5)
    (stopped,) = node.told(Fenced(1), 1.6)
    assert isinstance(stopped, Follow)
    assert node.told(Took(1, 1.5), 1.7) == []
    assert not node.standing.leads(1.7)
    assert node.told(Tick(), 1.7 + TERMS.retry_s) == [Ask()]
    assert node.told(Took(3, 3.2), 3.3) == [Lead(3)]


def test_a_fenced_write_of_an_earlier_term_changes_nothing() -> None:
    node = Node().leading(5)
    assert node.told(Fenced(4), 0.1) == []
    assert node.standing.leads(0.1)


def test_another_token_begins_another_term() -> None:
    node = Node().leading()
    node.told(Tick(), 1.5)
    stopped, begun = node.told(Took(3, 1.5), 1.5)
    assert isinstance(stopped, Follow)
    assert begun == Lead(3)


def test_who_closes_gives_the_lease_up_and_asks_no_more() -> None:
    node = Node().leading()
    stopped, given_up = node.told(Closing(), 1.0)
    assert isinstance(stopped, Follow)
    assert given_up == GiveUp(1)
    assert node.told(Tick(), 100.0) == []


def test_a_lease_that_comes_to_one_that_closed_is_given_up() -> None:
    node = Node()
    node.told(Tick(), 0.0)
    assert node.told(Closing(), 0.1) == []
    assert node.told(Took(1, 0.0), 0.2) == [GiveUp(1)]
    assert not node.standing.leads(0.2)


def test_a_leader_in_which_something_fails_steps_down_and_tries_again() -> None:
    node = Node().leading()
    stopped, given_up = node.told(Faulted(), 1.0)
    assert isinstance(stopped, Follow)
    assert given_up == GiveUp(1)
    assert not node.standing.leads(1.0)
    assert node.told(Tick(), 1.0 + TERMS.retry_s) == [Ask()]
    assert node.told(Took(1, 2.5), 2.5) == [Lead(1)]


def test_who_fails_while_it_asks_lets_go_of_what_it_may_have_been_given() -> None:
    node = Node()
    node.told(Tick(), 0.0)
    assert node.told(Faulted(), 0.1) == [GiveUp(0)]
    assert node.told(Tick(), 10.0) == [], "its question is under way"
    assert node.told(Unanswered(), 10.0) == []
    assert node.told(Tick(), 10.0 + TERMS.retry_s) == [Ask()]


# Histories


class Store:
    """The lease by the store's own clock, which is the true one, and the writes it took."""

    def __init__(self, *, fenced: bool = True, lets_go: bool = True) -> None:
        self.fenced, self.lets_go = fenced, lets_go
        self.newest, self.holder, self.until_s = 0, -1, -1.0
        self.taken: list[int] = []
        self.refused = 0

    def take(self, holder: int, ttl_s: float, now_s: float) -> int:
        """The token, or 0."""
        if self.holder != holder and now_s < self.until_s:
            return 0
        self.newest += self.holder != holder
        self.holder, self.until_s = holder, now_s + ttl_s
        return self.newest

    def give_up(self, holder: int, token: int) -> None:
        if token == self.newest or (not token and holder == self.holder):
            self.until_s = -1.0

    def write(self, token: int) -> bool:
        """Whether it was taken."""
        if self.fenced and token != self.newest:
            self.refused += 1
            return False
        self.taken.append(token)
        return True


class Member:
    """A node with a clock of its own; `asleep_until_s` in true seconds."""

    def __init__(self, number: int, chance: random.Random, skew: float, *, deaf: bool) -> None:
        self.number, self.deaf = number, deaf
        self.rate = 1.0 + chance.uniform(-skew, skew)
        self.offset_s = chance.uniform(0.0, 1e6)
        self.standing = Standing()
        self.asleep_until_s = 0.0
        self.answers: list[tuple[float, Event]] = []
        self.writing: tuple[float, int] | None = None

    def clock(self, true_s: float) -> float:
        return self.offset_s + true_s * self.rate

    def leads(self, true_s: float) -> bool:
        return self.standing.leads(self.clock(true_s))


def history(
    seed: int,
    *,
    skew: float,
    fenced: bool = True,
    terms: Terms = TERMS,
    deaf: int | None = None,
    lets_go: bool = True,
) -> Played:
    """Three nodes for `RUN_S` true seconds, in steps of 50 ms.

    What the store answers to the node `deaf` always ends in an error there.
    """
    chance = random.Random(seed)
    store = Store(fenced=fenced, lets_go=lets_go)
    nodes = [Member(number, chance, skew, deaf=number == deaf) for number in range(3)]
    together = led = 0
    true_s = 0.0
    while true_s < RUN_S:
        true_s += 0.05
        chance.shuffle(nodes)
        for node in nodes:
            if chance.random() < 0.002:
                node.asleep_until_s = true_s + chance.expovariate(1 / 4.0)
            if true_s >= node.asleep_until_s:
                turn(node, store, true_s, chance, terms)
        leaders = [node for node in nodes if node.leads(true_s)]
        together += len(leaders) > 1
        led += bool(leaders)
    return Played(store.taken, store.refused, together, led, store.newest)


class Played(msgspec.Struct):
    """`together` and `led` count moments: with more than one leader, and with any."""

    taken: list[int]
    refused: int
    together: int
    led: int
    terms: int


def turn(node: Member, store: Store, true_s: float, chance: random.Random, terms: Terms) -> None:
    """All that one node does in 50 ms."""
    if node.writing is not None and node.writing[0] <= true_s:
        token, node.writing = node.writing[1], None
        if not store.write(token):
            told(node, Fenced(token), store, true_s, chance, terms)
    come = [event for at_s, event in node.answers if at_s <= true_s]
    node.answers = [each for each in node.answers if each[0] > true_s]
    for event in come or [Tick()]:
        told(node, event, store, true_s, chance, terms)
    if node.leads(true_s) and node.writing is None:  # what it decided now, it writes a while later
        node.writing = true_s + chance.uniform(0.0, 0.5), node.standing.token


def told(  # noqa: PLR0917
    node: Member, event: Event, store: Store, true_s: float, chance: random.Random, terms: Terms
) -> None:
    now_s = node.clock(true_s)
    node.standing, commands = step(node.standing, event, now_s, chance.random(), terms)
    for command in commands:
        if isinstance(command, GiveUp) and (command.token or store.lets_go):
            store.give_up(node.number, command.token)
        if isinstance(command, Ask):
            node.answers += answer(node, store, true_s, now_s, chance, terms)


def answer(  # noqa: PLR0917
    node: Member, store: Store, true_s: float, now_s: float, chance: random.Random, terms: Terms
) -> list[tuple[float, Event]]:
    """One in ten answers is lost, after the store gave the lease or before it heard of it.

    And one in a hundred makes something fail that nobody foresaw.
    """
    late_s = chance.expovariate(1 / 0.2)
    heard = chance.random() >= 0.05
    token = store.take(node.number, terms.ttl_s, true_s) if heard else 0
    if node.deaf or chance.random() < 0.01:
        return [(true_s + late_s, Faulted()), (true_s + late_s, Unanswered())]
    if not heard or chance.random() < 0.05:
        return [(true_s + 2.0, Unanswered())]
    return [(true_s + late_s, Took(token, now_s) if token else Refused())]


def grows(tokens: Sequence[int]) -> bool:
    return list(tokens) == sorted(tokens)


def play(histories: int) -> None:
    refused = terms = 0
    for seed in range(histories):
        played = history(seed, skew=0.05)
        assert played.together == 0, seed
        assert grows(played.taken), seed
        assert played.led * 0.05 > RUN_S / 4, seed
        refused += played.refused
        terms += played.terms
    assert refused > histories / 100
    assert terms > histories


def test_no_two_lead_at_once_and_no_leader_of_old_writes() -> None:
    play(HISTORIES)


@pytest.mark.long
def test_no_two_lead_at_once_and_no_leader_of_old_writes_at_length() -> None:
    play(HISTORIES_LONG)


def test_without_the_fence_a_leader_that_slept_writes_after_its_successor() -> None:
    assert any(not grows(history(seed, skew=0.05, fenced=False).taken) for seed in range(100))


def test_a_node_that_never_hears_that_it_has_the_lease_keeps_it_from_nobody() -> None:
    for seed in range(20):
        played = history(seed, skew=0.05, deaf=0)
        assert played.together == 0, seed
        assert played.led * 0.05 > RUN_S / 4, seed


def test_without_letting_go_it_keeps_the_lease_from_all_others() -> None:
    led = [history(seed, skew=0.05, deaf=0, lets_go=False).led for seed in range(20)]
    assert any(each * 0.05 < RUN_S / 4 for each in led)


def test_without_the_margin_clocks_at_other_rates_make_two_leaders() -> None:
    bare = Terms(margin_s=0.0)
    assert any(history(seed, skew=0.2, terms=bare).together for seed in range(100))


def test_with_any_clocks_the_fence_holds() -> None:
    for seed in range(100):
        assert grows(history(seed, skew=0.6).taken), seed
