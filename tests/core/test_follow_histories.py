"""Seeded histories: whatever upstreams do, answers never go back and always come on."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    Restored,
    Standing,
    StreamClosed,
    StreamOpened,
    Tick,
    WakeAt,
)
from holdfast.core.follow import Follow, Plan
from holdfast.core.model import Subject
from holdfast.core.upstreams import PROBE_MAX_S

SHOP = Subject("production", "demo-shop")


class World:
    """A publisher and its upstreams, on a clock of its own; `follower` may be restarted in it."""

    def __init__(self, seed: int, upstreams: int) -> None:
        self.chance = random.Random(seed)
        self.now_s = 0.0
        self.newest = 1
        self.holds = [1] * upstreams
        self.up = [True] * upstreams
        self.lies = [False] * upstreams
        self.stream: int | None = None
        self.answers: list[int] = []
        self.asked: list[float] = []
        self.kept = 0
        self.wake_s = 0.0
        self.machine: Follow
        self.restart()

    def restart(self) -> None:
        self.stream = None
        plan = Plan(upstreams=len(self.up), subjects=(SHOP,))
        self.machine = Follow(plan, self.chance.random, self.now_s)
        kept = (Standing(self.kept, f"d{self.kept}"),) if self.kept else ()
        self.perform(self.machine.step(Restored(SHOP, kept), self.now_s))

    def send(self, event: Event) -> None:
        self.perform(self.machine.step(event, self.now_s))

    def perform(self, commands: list[Command]) -> None:
        self.wake_s = float("inf")
        for command in commands:
            match command:
                case Activate(standing=standing):
                    self.answers.append(standing.revision)
                    self.kept = standing.revision
                case Fetch():
                    self.send(self.ask(command))
                    return
                case OpenStream(upstream=upstream):
                    if self.up[upstream]:
                        self.stream = upstream
                        self.send(StreamOpened(upstream))
                    else:
                        self.send(StreamClosed(upstream))
                    return
                case CloseStream():
                    self.stream = None
                case WakeAt(at_s=at_s):
                    self.wake_s = at_s
                case _:
                    pass

    def ask(self, fetch: Fetch) -> Event:
        self.asked.append(self.now_s)
        upstream = fetch.upstream
        if not self.up[upstream]:
            return Failed(SHOP, upstream)
        if self.lies[upstream]:
            return Refused(SHOP, upstream, "signature", "no key signed it")
        revision = self.holds[upstream]
        if f"d{revision}" == fetch.have:
            frozen = revision < self.newest  # its freshness statements do not advance
            return (
                Refused(SHOP, upstream, "frozen", "") if frozen else Answered(SHOP, upstream, None)
            )
        # The trust check would refuse an older one; here the machine alone must hold the line.
        return Answered(SHOP, upstream, Standing(revision, f"d{revision}"))

    def pass_time(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self.wake_s <= until_s:
            self.now_s = max(self.now_s, self.wake_s)
            self.send(Tick())
        self.now_s = until_s

    def happen(self) -> None:
        """One thing goes wrong, or right."""
        upstream = self.chance.randrange(len(self.up))
        things: list[Callable[[], None]] = [
            self.publish,
            lambda: self.catch_up(upstream),
            lambda: self.kill(upstream),
            lambda: self.up.__setitem__(upstream, True),
            lambda: self.lies.__setitem__(upstream, not self.lies[upstream]),
            lambda: self.holds.__setitem__(upstream, self.chance.randint(1, self.newest)),
            lambda: self.send(Hinted({SHOP: f"d{self.chance.randint(1, 99)}"})),
            self.restart,
            lambda: self.pass_time(self.chance.choice((0.01, 1, 40, 400))),
        ]
        self.chance.choice(things)()

    def publish(self) -> None:
        self.newest += 1

    def catch_up(self, upstream: int) -> None:
        self.holds[upstream] = self.newest
        if self.stream == upstream and self.up[upstream]:
            self.send(Hinted({SHOP: f"d{self.newest}"}))

    def kill(self, upstream: int) -> None:
        self.up[upstream] = False
        if self.stream == upstream:
            self.stream = None
            self.send(StreamClosed(upstream))


def check(seed: int, upstreams: int, things: int) -> None:
    world = World(seed, upstreams)
    for _ in range(things):
        world.happen()
    assert world.answers == sorted(world.answers), "an answer went back"
    survivor = world.chance.randrange(upstreams)
    world.up[survivor], world.lies[survivor] = True, False
    world.holds[survivor] = world.newest
    world.pass_time(600)
    assert world.kept == world.newest, "an upstream had the newest for ten minutes"
    before = len(world.asked)
    world.pass_time(3_000)
    probes = 3_000 / PROBE_MAX_S + 5  # of each upstream, and what a failed one asks elsewhere
    bound = 100 * 1.1 * 1.2 + 8 + probes * upstreams
    assert len(world.asked) - before <= bound, "asked beyond poll rate, budget and probes"


@given(st.integers(0, 2**32), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_answers_go_forward_only_and_heal(seed: int, upstreams: int) -> None:
    check(seed, upstreams, things=40)


@pytest.mark.long
@given(st.integers(0, 2**32), st.integers(1, 4))
@settings(max_examples=5_000, deadline=None)
def test_answers_go_forward_only_and_heal_long(seed: int, upstreams: int) -> None:
    check(seed, upstreams, things=80)


def test_a_machine_without_memory_goes_back() -> None:
    """The damage with the protection off: forget the standing, and a lagging edge wins."""
    world = World(1, 2)
    world.newest, world.holds = 5, [5, 3]
    world.pass_time(60)
    world.machine._schedule[SHOP].standing = None
    world.kill(0)
    world.pass_time(60)
    assert world.answers[-2:] == [5, 3]
