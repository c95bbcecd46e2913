"""Failover is quick, the way back is slow, and an upstream that flaps is not followed."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.core import upstreams as links

ALL_DOWN_FOR_LONG = [(False, 5.0, 0.9 if number == 22 else 0.0) for number in range(23)]
"""The last one drew a longer rest than the others, the last time."""


def test_the_first_is_preferred() -> None:
    assert links.pick(links.known(3, 0), 0)[1] == 0


def test_one_failure_moves_to_the_next() -> None:
    state = links.failed(links.known(2, 0), 0, 0, 0.5)
    assert links.pick(state, 0)[1] == 1


def test_with_one_upstream_it_stays_the_one() -> None:
    state = links.failed(links.known(1, 0), 0, 0, 0.5)
    assert links.pick(state, 0)[1] == 0


def test_when_all_fail_each_is_tried_in_turn() -> None:
    state, tried = links.known(3, 0), set()
    for now_s in range(3):
        state, index = links.pick(state, now_s)
        tried.add(index)
        state = links.failed(state, index, now_s, 0.5)
    assert tried == {0, 1, 2}


def _poll(state: links.Upstreams, now_s: float, up: set[int]) -> tuple[links.Upstreams, int]:
    state, index = links.pick(state, now_s)
    if index in up:
        return links.answered(state, index, now_s), index
    return links.failed(state, index, now_s, 0.5), index


def test_it_returns_to_the_preferred_one_after_good_probes() -> None:
    state = links.failed(links.known(2, 0), 0, 0, 0.5)
    asked = []
    for now_s in range(10, 200, 10):
        state, index = _poll(state, now_s, {0, 1})
        asked.append(index)
    assert state.current == 0
    assert asked[0] == 1
    assert asked.index(0) > 0


def test_a_flapping_upstream_is_left_alone_more_and_more() -> None:
    """The preferred one answers, then fails, every minute: a follower moves ever less often."""
    state, moves = links.known(2, 0), []
    for now_s in range(0, 4 * 3600, 5):
        up = {0, 1} if now_s % 120 < 60 else {1}
        before = state.current
        state, _ = _poll(state, now_s, up)
        if state.current != before:
            moves.append(now_s)
    first_hour = sum(1 for moved_s in moves if moved_s < 3600)
    last_hour = sum(1 for moved_s in moves if moved_s >= 3 * 3600)
    assert last_hour < first_hour
    assert last_hour <= 24


@example(ALL_DOWN_FOR_LONG)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 30), st.floats(0, 0.99)), max_size=200))
def test_a_live_upstream_is_found_within_as_many_polls_as_there_are(
    history: list[tuple[bool, float, float]],
) -> None:
    """Whatever happened before: once only the last is alive, as many polls find it, and as many
    probes between them."""
    state, now_s = links.known(3, 0), 0.0
    for good, wait_s, chance in history:
        now_s += wait_s
        state, index = links.pick(state, now_s)
        state = (
            links.answered(state, index, now_s)
            if good
            else links.failed(state, index, now_s, chance)
        )
    for _ in range(6):
        state, index = _poll(state, now_s, {2})
        if index == 2:
            return
    raise AssertionError(state)


def test_silent_when_each_one_failed_twice() -> None:
    """One failure may be a restart; one that answers is enough."""
    state = links.known(2, 0)
    for index in (0, 1, 0):
        state = links.failed(state, index, 0, 0.5)
        assert not links.silent(state)
    state = links.failed(state, 1, 0, 0.5)
    assert links.silent(state)
    assert not links.silent(links.answered(state, 1, 0))
    assert not links.silent(links.known(0, 0))


def _doubt(state: links.Upstreams, index: int, times: int, now_s: float) -> links.Upstreams:
    for _ in range(times):
        state = links.answered(state, index, now_s)
        state = links.doubted(state, index, links.weight_of("frozen"), now_s)
    return state


def test_one_that_is_alive_and_stuck_is_left_for_one_that_is_not() -> None:
    state = _doubt(links.known(2, 0), 0, 2, 0)
    assert state.current == 0  # a moment's lag is no reason
    assert _doubt(state, 0, 1, 1).current == 1


def test_when_all_are_stuck_nobody_moves() -> None:
    state = _doubt(links.known(2, 0), 0, 5, 0)
    state = _doubt(state, 1, 5, 0)
    moves = 0
    for now_s in range(1, 600):
        before = state.current
        state, index = links.pick(state, now_s)
        state = _doubt(state, index, 1, now_s)
        moves += state.current != before
    assert moves <= 1


def test_its_probes_bring_one_back_only_when_it_is_not_stuck_any_more() -> None:
    state = _doubt(links.known(2, 0), 0, 5, 0)
    for now_s in range(10, 2000, 10):
        state, index = links.pick(state, now_s)
        state = _doubt(state, 0, 1, now_s) if index == 0 else links.answered(state, 1, now_s)
        assert state.current == 1
    for now_s in range(2000, 6000, 10):
        state, index = links.pick(state, now_s)
        state = links.answered(state, index, now_s)
    assert state.current == 0


def test_what_any_upstream_would_have_sent_speaks_against_none() -> None:
    assert links.weight_of("schema") == links.weight_of("not-found") == 0
    assert links.weight_of("root-forked") > links.weight_of("frozen") > 0


def test_one_that_fails_falls_to_one_without_doubts() -> None:
    state = _doubt(links.known(3, 0), 1, 5, 0)
    assert links.failed(state, 0, 1, 0.5).current == 2
    late_s = 3600.0  # doubts fade
    assert links.failed(state, 0, late_s, 0.5).current == 1
