"""The time by which tokens expire: no clock that runs ahead locks anybody out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
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


def test_a_control_plane_that_is_ahead_is_outvoted_by_the_clock_and_the_count(time: Time) -> None:
    right = time.day_s
    time.clock.hear(sealed(right))
    time.clock.hear(sealed(right + 3_600.0))
    assert time.clock.skew_s() == -3_600.0, "whoever looks sees that one of them is wrong"
    time.day_s += YEARS_S
    assert time.clock() == right, "the machine's clock goes wrong before a right statement came"
    time.pass_s(60.0)
    time.clock.hear(sealed(right + 60.0))
    assert time.clock() == right + 60.0
    assert time.clock.skew_s() == YEARS_S


def test_so_it_is_where_the_machines_own_clock_was_the_first_to_go_wrong(time: Time) -> None:
    right = time.day_s
    time.clock.hear(sealed(right))
    time.day_s += YEARS_S
    time.clock.hear(sealed(right + 3_600.0))
    assert time.clock() == right
    time.pass_s(60.0)
    time.clock.hear(sealed(right + 60.0))
    assert time.clock() == right + 60.0


def test_what_the_machines_clock_agrees_with_is_believed_again(time: Time) -> None:
    """Both were wrong in the same way, or the count stood still."""
    right = time.day_s
    time.clock.hear(sealed(right))
    time.day_s = right + 3_600.0
    time.clock.hear(sealed(right + 3_600.0))
    assert time.clock() == right + 3_600.0
    time.day_s = right
    assert time.clock() == right
    time.clock.hear(sealed(right))
    time.day_s += YEARS_S
    assert time.clock() == right


def test_a_start_with_a_clock_that_is_wrong_has_no_witness_until_both_agree(time: Time) -> None:
    right = time.day_s
    time.clock.hear(sealed(right + 3_600.0))
    time.day_s += YEARS_S
    time.clock.hear(sealed(right))
    assert time.clock() == right + 3_600.0
    time.day_s = right
    time.clock.hear(sealed(right))
    time.day_s += YEARS_S
    assert time.clock() == right


def test_statements_that_are_a_little_late_prolong_nothing(time: Time) -> None:
    right = time.day_s
    time.clock.hear(sealed(right))
    for _ in range(10):
        time.pass_s(30.0)
        time.clock.hear(sealed(time.day_s - 20.0))
        assert time.clock() == time.day_s
    time.day_s += YEARS_S
    for _ in range(10):
        time.pass_s(30.0)
        time.clock.hear(sealed(time.day_s - YEARS_S - 20.0))
        assert time.clock() == time.day_s - YEARS_S


OFF_S = (0.0, 3_600.0, -7_200.0)
OWN_OFF_S = (0.0, 1_800.0, -20_000.0, YEARS_S)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("signs"), st.sampled_from(OFF_S)),
            st.tuples(st.just("own"), st.sampled_from(OWN_OFF_S)),
            st.tuples(st.just("passes"), st.floats(0.0, 300.0)),
        ),
        max_size=25,
    )
)
def test_once_both_agreed_no_clock_that_is_wrong_makes_a_token_end_too_soon(
    events: list[tuple[str, float]],
) -> None:
    """Nor last longer, unless the machine's own clock is behind."""
    time = Time()
    right, own_off_s = time.day_s, 0.0
    time.clock.hear(sealed(right))
    for what, value in events:
        if what == "own":
            time.day_s, own_off_s = right + value, value
        elif what == "signs":
            time.clock.hear(sealed(right + value))
        else:
            time.pass_s(value)
            right += value
        assert time.clock() == pytest.approx(right + min(0.0, own_off_s), abs=0.01)
