"""The time by which tokens expire: no clock that runs ahead locks anybody out."""

from __future__ import annotations

import pytest
from tests.sdk.publisher import Publisher

from holdfast.apps.edge.attested import AttestedClock

YEARS_S = 10 * 365 * 86_400.0


class Time:
    def __init__(self) -> None:
        self.day_s, self.count_s = 1_790_000_000.0, 100.0
        self.clock = AttestedClock(lambda: self.day_s, lambda: self.count_s)

    def pass_s(self, seconds: float) -> None:
        self.day_s += seconds
        self.count_s += seconds


@pytest.fixture
def time() -> Time:
    return Time()


def sealed(at_s: float) -> bytes:
    publisher = Publisher()
    publisher.publish(tiles=9)
    return publisher.fresh(at_ms=int(at_s * 1000))


def test_before_anything_was_heard_it_is_the_machines_own(time: Time) -> None:
    assert time.clock() == time.day_s
    assert time.clock.skew_s() == 0.0


@pytest.mark.parametrize("ahead_s", [3_600.0, YEARS_S])
def test_a_clock_that_jumps_ahead_is_not_believed(time: Time, ahead_s: float) -> None:
    right = time.day_s
    time.clock.hear(sealed(right))
    time.day_s += ahead_s
    assert time.clock() == right
    assert time.clock.skew_s() == ahead_s
    time.pass_s(60.0)
    assert time.clock() == right + 60.0, "withheld statements prolong nothing: the count goes on"


def test_a_clock_that_was_set_back_is_taken_as_it_is(time: Time) -> None:
    time.clock.hear(sealed(time.day_s))
    time.day_s -= YEARS_S
    assert time.clock() == time.day_s


def test_an_older_statement_is_no_news(time: Time) -> None:
    right = time.day_s
    time.clock.hear(sealed(right))
    time.clock.hear(sealed(right - 1_000.0))
    assert time.clock() == right


def test_a_control_plane_that_was_ahead_for_a_while_is_believed_no_more(time: Time) -> None:
    right = time.day_s
    time.clock.hear(sealed(right + YEARS_S))
    assert time.clock() == right, "its clock alone does not expire anything either"
    time.clock.hear(sealed(right))
    time.day_s += YEARS_S
    assert time.clock() == right
