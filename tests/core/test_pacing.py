"""Pacing keeps its averages and its bounds."""

from __future__ import annotations

import random
import statistics

from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.pacing import RETRIES_SAVED_MAX, RetryBudget, full_jitter, spread, steady

chances = st.floats(0, 1, exclude_max=True)


@given(st.floats(0.01, 3600), chances)
def test_a_steady_poll_stays_within_a_tenth_of_its_interval(
    interval_s: float, chance: float
) -> None:
    assert 0.899 * interval_s <= steady(interval_s, chance) <= 1.101 * interval_s


def test_a_steady_poll_keeps_its_rate_on_average() -> None:
    draw = random.Random(1).random
    assert abs(statistics.fmean(steady(30, draw()) for _ in range(4000)) - 30) < 0.2


@given(st.integers(0, 10_000), st.floats(0.01, 10), st.floats(0.01, 3600), chances)
def test_backoff_never_waits_beyond_its_cap(
    failures: int, base_s: float, cap_s: float, chance: float
) -> None:
    assert 0 <= full_jitter(failures, base_s, cap_s, chance) <= cap_s


def test_backoff_doubles_until_the_cap() -> None:
    waits = [full_jitter(n, 1, 10, 0.5) for n in (1, 2, 3, 4, 5, 6)]
    assert waits == [0.5, 1, 2, 4, 5, 5]


def test_full_jitter_spreads_a_fleet_evenly() -> None:
    draw = random.Random(2).random
    tenths = [0] * 10
    for _ in range(10_000):
        tenths[int(full_jitter(6, 1, 10, draw()))] += 1
    assert max(tenths) < 1.2 * min(tenths)


@given(chances)
def test_a_spread_stays_below_its_bound(chance: float) -> None:
    assert 0 <= spread(0.01, chance) < 0.01


def test_retries_are_a_fifth_of_the_polls_after_the_first_few() -> None:
    budget, taken = RetryBudget(), 0
    for _ in range(1_000):
        budget = budget.earn()
        while (left := budget.spend()) is not None:
            budget, taken = left, taken + 1
    assert RETRIES_SAVED_MAX + 0.19 * 1_000 <= taken <= RETRIES_SAVED_MAX + 0.2 * 1_000
