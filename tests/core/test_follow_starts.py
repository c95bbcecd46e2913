"""Seeded histories of starts: what an upstream has is active soon, whoever of the two began first.

The machine and the one thread that performs what it says, on a clock of its own: a question blocks
the thread, what a stream tells meanwhile is heard before the answer, and the answer is what the
upstream had at some moment in between.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from itertools import count

import pytest

from holdfast.core.conversation import (
    Activate,
    Answered,
    Catalogued,
    CloseStream,
    Command,
    Event,
    Failed,
    Fetch,
    FetchCatalogue,
    Hinted,
    OpenStream,
    Standing,
    StreamClosed,
    StreamOpened,
    Tick,
    WakeAt,
)
from holdfast.core.follow import HINT_SPREAD_S, LOOK_SPREAD_S, Follow, Plan
from holdfast.core.model import Subject
from holdfast.core.pacing import RETRIES_PER_S, RETRY_SPREAD

SHOP, MAIL = Subject("production", "demo-shop"), Subject("production", "mail")
QUESTION_S = 0.4
"""What a question and a stream's opening take at most, and a hint on its way."""
MEET_S = (1 + RETRY_SPREAD) / RETRIES_PER_S
"""After an upstream came up, at most, until one that has nothing asks it."""
SOON_S = LOOK_SPREAD_S + HINT_SPREAD_S + 12 * QUESTION_S


class Start:
    """One edge that starts at 0 with an empty disk, and its control plane, up from `up_s` on."""

    def __init__(self, seed: int, up_s: float) -> None:
        self.chance = random.Random(seed)
        self.up_s = up_s
        self.published: dict[Subject, float] = {}
        self.active: dict[Subject, float] = {}
        self.asked: list[float] = []
        self.now_s = 0.0
        self._listening_s = float("inf")
        self._order = count()
        self._coming: list[tuple[float, int, Event]] = []
        self._answers: deque[Event] = deque()
        self._wake_s: float = float("inf")
        self.machine = Follow(Plan(upstreams=1, catalogue=True), self.chance.random, 0.0)

    def publish(self, subject: Subject, at_s: float) -> None:
        self.published[subject] = at_s

    def run(self, until_s: float) -> None:
        self._take(Tick())
        while self.now_s <= until_s:
            heard = [
                heapq.heappop(self._coming)[2]
                for _ in range(sum(at_s <= self.now_s for at_s, _, _ in self._coming))
            ]
            if self._answers:
                heard.append(self._answers.popleft())
            for event in heard:
                self._take(event)
            if not heard:
                self.now_s = min(self._wake_s, self._coming[0][0] if self._coming else self._wake_s)
                if self._wake_s <= self.now_s:
                    self._take(Tick())

    def _take(self, event: Event) -> None:
        self._wake_s = float("inf")
        for command in self.machine.step(event, self.now_s):
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case Fetch() | FetchCatalogue():
                self._answers.append(self._ask(command))
            case OpenStream():
                self._open()
            case CloseStream():
                self._listening_s = float("inf")
            case Activate(subject=subject):
                self.active[subject] = self.now_s
            case WakeAt(at_s=at_s):
                self._wake_s = at_s
            case _:
                pass

    def _ask(self, question: Fetch | FetchCatalogue) -> Event:
        self.asked.append(self.now_s)
        read_s = self.now_s + self.chance.uniform(0, QUESTION_S / 2)
        self.now_s = read_s + self.chance.uniform(0, QUESTION_S / 2)
        subject = None if isinstance(question, FetchCatalogue) else question.subject
        if read_s < self.up_s:
            return Failed(subject, 0)
        there = {one: "d1" for one, at_s in self.published.items() if at_s <= read_s}
        if subject is None:
            return Catalogued(0, there)
        return Answered(subject, 0, Standing(1, "d1"))

    def _open(self) -> None:
        """A stream; what is published from when it began is told on it."""
        began_s = self.now_s + self.chance.uniform(0, QUESTION_S / 2)
        opened_s = began_s + self.chance.uniform(0, QUESTION_S / 2)
        if began_s < self.up_s:
            self._hear(opened_s, StreamClosed(0, cut=True))
            return
        self._hear(opened_s, StreamOpened(0))
        for subject, at_s in self.published.items():
            if at_s >= began_s:
                told_s = max(at_s, opened_s) + self.chance.uniform(0, QUESTION_S / 2)
                self._hear(told_s, Hinted({subject: "d1"}))

    def _hear(self, at_s: float, event: Event) -> None:
        heapq.heappush(self._coming, (at_s, next(self._order), event))


def late_s(seed: int) -> float:
    """How long after both were there the last subject was active, in one history."""
    chance = random.Random(seed)
    up_s = chance.choice((0.0, chance.uniform(0, 3), chance.uniform(0, 60)))
    start = Start(seed, up_s)
    start.publish(SHOP, up_s + chance.choice((0.0, chance.uniform(0, 2))))
    start.publish(MAIL, up_s + chance.uniform(0, 5))
    start.run(200)
    assert start.active.keys() == start.published.keys()
    return max(start.active[one] - at_s for one, at_s in start.published.items())


@pytest.mark.parametrize("first", range(0, 1_000, 100))
def test_what_is_there_is_active_soon(first: int) -> None:
    late = {seed: late_s(seed) for seed in range(first, first + 100)}
    assert {seed: at_s for seed, at_s in late.items() if at_s > MEET_S + SOON_S} == {}


def test_who_began_first_and_has_nothing_is_not_held_back_by_the_throttle() -> None:
    """The first question failed, and the dice were against each one that followed."""
    machine = Follow(Plan(upstreams=1, catalogue=True, streams=False), lambda: 0.4, 0.0)
    machine.step(Tick(), 0)
    (wake,) = machine.step(Failed(None, 0), 0.01)
    assert isinstance(wake, WakeAt)
    assert any(isinstance(one, FetchCatalogue) for one in machine.step(Tick(), wake.at_s))


def test_a_hint_at_an_unknown_subject_while_the_catalogue_is_asked_is_not_lost() -> None:
    machine = Follow(Plan(upstreams=1, catalogue=True), lambda: 0.5, 0.0)
    machine.step(Tick(), 0)
    machine.step(Hinted({SHOP: "d1"}), 0.1)
    commands = machine.step(Catalogued(0, {}), 0.2)  # read before there was a subject
    (wake,) = [one for one in commands if isinstance(one, WakeAt)]
    assert wake.at_s < 0.3
    assert any(isinstance(one, FetchCatalogue) for one in machine.step(Tick(), wake.at_s))


def test_a_stream_that_opens_during_a_question_asks_again() -> None:
    """What was published after the answer was made and before the stream began, nobody tells."""
    machine = Follow(Plan(upstreams=1, subjects=(SHOP,)), lambda: 0.5, 0.0)
    machine.step(Tick(), 0)
    machine.step(StreamOpened(0), 0.1)
    commands = machine.step(Answered(SHOP, 0, Standing(1, "d1")), 0.2)
    (wake,) = [one for one in commands if isinstance(one, WakeAt)]
    assert wake.at_s <= 0.2 + LOOK_SPREAD_S


def test_who_has_nothing_asks_a_dead_upstream_within_bounds() -> None:
    start = Start(1, up_s=3_600)
    start.run(3_599)
    assert len(start.asked) <= 8 + 3_600 * (RETRIES_PER_S + 1.2 / 30)
