"""Seeded histories of lines that go bad: what is published arrives by the other upstream in time.

The machine alone, on a clock of its own; how long each question to a bad line takes is what
`adapters.http_source` allows it.
"""

from __future__ import annotations

import heapq
import random
from itertools import count

import pytest

from holdfast.core.conversation import (
    Activate,
    Answered,
    CloseStream,
    Command,
    Event,
    Failed,
    Fetch,
    Hinted,
    OpenStream,
    Refused,
    Standing,
    StreamClosed,
    StreamOpened,
    StreamSilent,
    Tick,
    WakeAt,
)
from holdfast.core.follow import Follow, Plan
from holdfast.core.model import Subject

SHOP = Subject("production", "demo-shop")
CONNECT_S, SILENCE_S = 2.0, 3.0
FAILOVER_S = 10.0
BAD = ("refused", "syn-dropped", "silent", "drip", "reset")


class Net:
    """Upstreams behind lines: `line[n]` is how the n-th is now, `holds[n]` its revision."""

    def __init__(self, seed: int, upstreams: int = 2, *, gentle: bool = True) -> None:
        self.chance = random.Random(seed)
        self.now_s = 0.0
        self.line = ["up"] * upstreams
        self.holds = [1] * upstreams
        self.seen: list[tuple[float, int]] = []
        self.used: list[int] = [0]
        self.asked: list[tuple[float, int]] = []
        self._order = count()
        self._coming: list[tuple[float, int, Event]] = []
        self._wake_s = float("inf")
        self._stream: int | None = None
        plan = Plan(upstreams=upstreams, subjects=(SHOP,), gentle=gentle)
        self.machine = Follow(plan, self.chance.random, 0.0)
        self.take(Tick())

    @property
    def revision(self) -> int:
        return self.seen[-1][1] if self.seen else 0

    def take(self, event: Event) -> None:
        self._wake_s = float("inf")
        for command in self.machine.step(event, self.now_s):
            self._perform(command)
        if self.machine.upstream != self.used[-1]:
            self.used.append(self.machine.upstream)

    def _perform(self, command: Command) -> None:
        match command:
            case Fetch():
                self.asked.append((self.now_s, command.upstream))
                self.after(*self._answer(command))
            case Activate(standing=standing):
                self.seen.append((self.now_s, standing.revision))
            case OpenStream(upstream=upstream):
                self._stream = upstream
                up = self.line[upstream] == "up"
                self.after(
                    0.01 if up else SILENCE_S,
                    StreamOpened(upstream) if up else StreamClosed(upstream),
                )
            case CloseStream():
                self._stream = None
            case WakeAt(at_s=at_s):
                self._wake_s = at_s
            case _:
                pass

    def _answer(self, fetch: Fetch) -> tuple[float, Event]:
        upstream, held = fetch.upstream, self.holds[fetch.upstream]
        match self.line[upstream]:
            case "up" if held < self.revision:
                return 0.01, Refused(SHOP, upstream, "rollback", "it is behind")
            case "up":
                news = None if held == self.revision else Standing(held, f"d{held}")
                return 0.01, Answered(SHOP, upstream, news)
            case "syn-dropped":
                return CONNECT_S, Failed(SHOP, upstream)
            case "silent":
                return SILENCE_S, Failed(SHOP, upstream)
            case "drip":
                return fetch.patience_s, Failed(SHOP, upstream)
        return 0.001, Failed(SHOP, upstream)

    def after(self, wait_s: float, event: Event) -> None:
        heapq.heappush(self._coming, (self.now_s + wait_s, next(self._order), event))

    def become(self, upstream: int, how: str) -> None:
        """The line changes, and an open stream on it notices what it can."""
        self.line[upstream] = how
        if self._stream != upstream or how == "up":
            return
        if how in {"refused", "reset"}:
            self.after(0.01, StreamClosed(upstream))
        elif how == "drip":
            self.after(2.0, Hinted({SHOP: f"d{max(self.holds)}"}))
        else:
            for wait_s in (self.chance.uniform(2.5, 5.0), 10.0, 20.0):
                self.after(wait_s, StreamSilent(upstream))

    def pass_time(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while True:
            coming_s = self._coming[0][0] if self._coming else float("inf")
            next_s = min(coming_s, max(self._wake_s, self.now_s))
            if next_s > end_s:
                break
            self.now_s = max(self.now_s, next_s)
            self.take(heapq.heappop(self._coming)[2] if coming_s <= next_s else Tick())
        self.now_s = end_s


def check(seed: int) -> None:
    net = Net(seed)
    chance = net.chance
    net.pass_time(chance.uniform(20, 200))
    before = len(net.asked)
    net.holds = [2, 2] if chance.random() < 0.5 else [1, 2]
    began_s = net.now_s
    net.become(0, chance.choice(BAD))
    net.pass_time(FAILOVER_S)
    reached_s = [at_s - began_s for at_s, revision in net.seen if revision == 2]
    assert reached_s, "what was published did not arrive in time"
    assert len(net.asked) - before <= 6, "a failover takes a handful of questions"
    net.pass_time(chance.uniform(0, 300))
    net.become(0, "up")
    net.holds = [3, 3]
    net.pass_time(900)
    assert net.machine.upstream == 0, "back at the preferred one"
    assert len(net.used) <= 3, f"there and back, and no more: {net.used}"
    revisions = [revision for _, revision in net.seen]
    assert revisions == sorted(revisions)
    assert revisions[-1] == 3


def test_a_bad_line_is_left_within_ten_seconds_and_found_again_without_flapping() -> None:
    for seed in range(400):
        check(seed)


@pytest.mark.long
def test_a_bad_line_is_left_within_ten_seconds_long() -> None:
    for seed in range(400, 10_000):
        check(seed)


def test_a_client_that_is_ahead_of_the_other_edge_stays_where_it_is() -> None:
    net = Net(1)
    net.pass_time(60)
    net.holds = [9, 7]
    net.pass_time(60)
    net.become(0, "silent")
    net.pass_time(120)
    assert net.revision == 9
    net.holds[1] = 10
    net.after(0.0, Hinted({SHOP: "d10"}))
    net.pass_time(FAILOVER_S)
    assert [revision for _, revision in net.seen] == [1, 9, 10]


@pytest.mark.parametrize("gentle", [True, False])
def test_a_fleet_asks_a_dead_upstream_no_more_than_a_live_one(gentle: bool) -> None:
    """And without budget, throttle and jitter sixty times as often."""
    nets = [Net(seed, 1, gentle=gentle) for seed in range(50)]
    asked = 0
    for net in nets:
        net.pass_time(120)
        before = len(net.asked)
        net.become(0, "refused")
        net.pass_time(300)
        asked += len(net.asked) - before
        net.become(0, "up")
    organic = 50 * 300 / 30
    assert (asked <= 1.1 * organic + 50) is gentle


def test_a_comeback_is_spread_by_itself() -> None:
    nets = [Net(seed, 1) for seed in range(100)]
    for net in nets:
        net.pass_time(120)
        net.become(0, "refused")
        net.pass_time(60)
        net.become(0, "up")
        net.holds = [2]
        net.pass_time(60)
    assert all(net.revision == 2 for net in nets), "within 60 s, by themselves"
    back_s = sorted(net.seen[-1][0] - 180 for net in nets)
    assert back_s[75] - back_s[25] > 10, "and not together"
