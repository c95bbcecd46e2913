"""Conversations about freshness, while clocks go wrong: what a consumer believes, and what no more.

The control plane's clock, the consumer's own and what somebody replays are set apart; what really
passed is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sdk.publisher import SHOP, Publisher

from holdfast.adapters.ed25519 import verify
from holdfast.core import trust
from holdfast.core.snapshot import Freshness
from holdfast.core.wire import digest

HOUR_S = 3_600.0
YEARS_S = 10 * 365 * 86_400.0
DAY_S = 1_790_000_000.0
STALE_AFTER_S = 90.0


class World:
    """One control plane and one consumer, whose clocks are off by so much."""

    def __init__(self) -> None:
        self.publisher = Publisher()
        self.admitted = trust.admit(self.publisher.publish(tiles=9), SHOP, None, None, verify)
        self.passed_s = 0.0
        self.plane_off_s = self.own_off_s = 0.0
        self.revision = 1
        self.known: Freshness | None = None
        self.floor: trust.Floor | None = None

    def says(self) -> bytes:
        """A statement, made now."""
        return self.publisher.fresh(
            at_ms=self._ms(self.plane_off_s),
            journal_revision=self.revision,
            journal_head=digest(b"entry %d" % self.revision),
        )

    def hears(self, sealed: bytes) -> bool:
        """Whether it is news."""
        times = trust.Times(self._ms(self.own_off_s), self.passed_s, self.floor)
        said = trust.vouch(sealed, self.admitted, self.known, verify, times)
        if said is None or said is self.known:
            return False
        self.known, self.floor = said, times.raised(said, self.admitted)
        return True

    def passes(self, seconds: float) -> World:
        self.passed_s += seconds
        return self

    def age_s(self) -> float:
        """By how much the newest statement says that it is old."""
        assert self.known is not None
        return (self._ms(0.0) - self.known.at_ms) / 1000

    def _ms(self, off_s: float) -> int:
        return round(1000 * (DAY_S + self.passed_s + off_s))


def ahead_for_a_while(ahead_s: float) -> World:
    """The consumer heard two right statements, then one from ahead; the clock is right again."""
    world = World()
    assert world.hears(world.says())
    assert world.hears(world.passes(10.0).says())
    world.plane_off_s = ahead_s
    assert world.hears(world.passes(10.0).says())
    world.plane_off_s = 0.0
    return world.passes(10.0)


@pytest.mark.parametrize("ahead_s", [2 * STALE_AFTER_S, HOUR_S, YEARS_S])
@pytest.mark.parametrize("own_off_s", [0.0, YEARS_S, -HOUR_S])
def test_a_control_plane_whose_clock_is_right_again_is_believed_at_once(
    ahead_s: float, own_off_s: float
) -> None:
    """Whatever the consumer's own clock has come to meanwhile."""
    world = ahead_for_a_while(ahead_s)
    world.own_off_s = own_off_s
    assert world.hears(world.says())
    assert world.hears(world.passes(10.0).says())


def test_without_the_count_it_is_stale_until_the_next_commit() -> None:
    world = ahead_for_a_while(YEARS_S)
    world.floor = None
    assert not world.hears(world.says())
    assert not world.hears(world.passes(HOUR_S).says())
    world.revision += 1
    assert world.hears(world.says())


def test_what_was_said_before_the_clock_went_wrong_is_no_news() -> None:
    world = World()
    first, second = world.says(), world.passes(10.0).says()
    assert world.hears(first)
    assert world.hears(second)
    world.plane_off_s = HOUR_S
    assert world.hears(world.passes(10.0).says())
    assert not world.hears(first)
    assert not world.hears(second)


@pytest.mark.parametrize("own_off_s", [0.0, -HOUR_S, YEARS_S])
def test_what_somebody_kept_is_no_news_once_it_is_stale(own_off_s: float) -> None:
    """The consumer's own clock may be set to the time at which it was said: the count goes on."""
    world = ahead_for_a_while(YEARS_S)
    kept = world.says()
    world.own_off_s = own_off_s
    world.passes(HOUR_S)
    assert not world.hears(kept)


def test_a_consumer_whose_clock_was_never_right_hears_no_old_news() -> None:
    world = World()
    world.own_off_s = -HOUR_S
    kept = [world.passes(10.0).says() for _ in range(3)]
    world.passes(HOUR_S)
    assert world.hears(world.says())
    assert not any(world.hears(each) for each in kept)


def test_what_is_somewhat_late_is_news_all_the_same() -> None:
    """It came over other edges: the count begins with the earliest."""
    world = World()
    late = world.says()
    assert world.hears(late) is True
    world.passes(STALE_AFTER_S - 10.0)
    world.plane_off_s = HOUR_S
    assert world.hears(world.says())
    world.plane_off_s = 0.0
    late = world.passes(5.0).says()
    assert world.passes(STALE_AFTER_S - 10.0).hears(late)
    assert world.hears(world.says())


PLANE_OFF_S = st.sampled_from((0.0, HOUR_S, YEARS_S, -HOUR_S))
OWN_OFF_S = st.sampled_from((0.0, 2 * HOUR_S, 2 * YEARS_S, -YEARS_S))
"""Never off by as much as the other one, or by less: two that are wrong do not agree."""
HONEST = (
    st.tuples(st.just("plane"), PLANE_OFF_S),
    st.tuples(st.just("own"), OWN_OFF_S),
    st.tuples(st.just("passes"), st.floats(1.0, 2 * HOUR_S)),
    st.tuples(st.just("says"), st.booleans()),
    st.tuples(st.just("commits"), st.none()),
)
REPLAYED = (st.tuples(st.just("replays"), st.integers(0, 50)),)


def play(world: World, events: list[tuple[str, Any]], check: Callable[[], None]) -> None:
    """What is said is heard, or kept by somebody who may replay it."""
    said = [world.says()]
    assert world.hears(said[0])
    for what, value in events:
        match what:
            case "plane":
                world.plane_off_s = value
            case "own":
                world.own_off_s = value
            case "passes":
                world.passes(value)
            case "commits":
                world.revision += 1
            case "says":
                said.append(world.says())
                if value:
                    world.hears(said[-1])
            case "replays":
                world.hears(said[value % len(said)])
        check()


@given(st.lists(st.one_of(*HONEST, *REPLAYED), max_size=30))
@settings(deadline=None)
def test_only_what_was_said_just_now_goes_before_what_is_known(
    events: list[tuple[str, Any]],
) -> None:
    world = World()
    before: list[Freshness] = []

    def check() -> None:
        known = world.known
        assert known is not None
        if before and known is not before[-1]:
            was = before[-1]
            back = (known.journal_revision, known.at_ms) <= (was.journal_revision, was.at_ms)
            assert known.journal_revision >= was.journal_revision
            assert not back or world.age_s() <= STALE_AFTER_S
        before.append(known)

    play(world, events, check)


@given(st.lists(st.one_of(*HONEST), max_size=30))
@settings(deadline=None)
def test_whatever_clocks_did_one_that_is_right_again_is_believed(
    events: list[tuple[str, Any]],
) -> None:
    world = World()
    play(world, events, lambda: None)
    world.plane_off_s = 0.0
    assert world.hears(world.passes(10.0).says())
