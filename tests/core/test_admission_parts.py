"""The parts of admission by themselves: queue, limit, shares, trial."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.admission_limit import LEAST, MOST, START, Limit
from holdfast.core.admission_queue import INTERVAL_S, Queue
from holdfast.core.admission_shares import KEYS_MAX, Shares, fair_share
from holdfast.core.admission_trial import (
    ASIDE_MOST,
    DISARMED_FIRST_S,
    DISARMED_MOST_S,
    WINDOWS_FIRST,
    WINDOWS_MOST,
    Arms,
    Trial,
)

amounts = st.floats(0, 1e6, allow_nan=False)


class TestQueue:
    def test_who_comes_to_a_server_at_rest_has_not_waited(self) -> None:
        queue = Queue(0.0)
        queue.begin(0.010)
        queue.end(0.012, 0.002)
        queue.begin(0.050)
        assert queue.before_s == 0.0

    def test_who_comes_to_a_busy_one_has_waited_through_the_batch_before(self) -> None:
        queue = Queue(0.0)
        queue.begin(0.010)
        queue.end(0.030, 0.020)
        queue.begin(0.031)
        assert queue.before_s == pytest.approx(0.021)

    def test_one_moment_of_rest_in_an_interval_and_no_queue_stands(self) -> None:
        queue, now = Queue(0.0), 0.0
        for batch in range(12):
            rest = 0.05 if batch == 3 else 0.0
            queue.begin(now + rest)
            now += rest + 0.02
            if queue.end(now, 0.02):
                assert queue.standing_s == 0.0
                return
        pytest.fail("no interval was over")

    def test_without_rest_it_stands(self) -> None:
        queue, now = Queue(0.0), 0.0
        intervals = 0
        for _ in range(30):
            queue.begin(now)
            now += 0.02
            intervals += queue.end(now, 0.02)
        assert queue.standing_s == pytest.approx(0.02)
        assert intervals == pytest.approx(0.6 / INTERVAL_S, abs=1)

    @given(st.lists(st.tuples(st.floats(0, 0.3), st.floats(0, 0.3)), max_size=50))
    def test_no_delay_is_longer_than_the_batch_before_and_the_pause(
        self, batches: list[tuple[float, float]]
    ) -> None:
        queue, now, longest = Queue(0.0), 0.0, 0.0
        for pause, length in batches:
            queue.begin(now + pause)
            assert 0 <= queue.before_s <= longest + pause + 1e-9
            now += pause + length
            queue.end(now, length)
            longest = max(longest, length)
            assert 0 <= queue.standing_s <= 2 * longest + 0.002


class TestLimit:
    def test_round_trips_as_always_let_it_grow(self) -> None:
        limit = Limit()
        for _ in range(100):
            limit.learn(0.01, int(limit.most), 0)
        assert limit.most > START

    def test_longer_round_trips_shrink_it(self) -> None:
        limit = Limit()
        for _ in range(20):
            limit.learn(0.01, 20, 0)
        before = limit.most
        for _ in range(20):
            limit.learn(0.04, int(limit.most), 0)
        assert limit.most < before / 2

    def test_what_is_not_used_does_not_grow(self) -> None:
        limit = Limit()
        for _ in range(100):
            limit.learn(0.01, int(limit.most / 2) - 1, 0)
        assert limit.most == START

    def test_the_formula(self) -> None:
        limit = Limit()
        limit.learn(0.01, 20, 0)
        assert limit.most == pytest.approx(0.8 * START + 0.2 * (START + 4))

    @given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 5_000), st.floats(0, 100))))
    def test_it_stays_within_its_bounds(self, samples: list[tuple[float, int, float]]) -> None:
        limit = Limit()
        for round_trip_s, in_flight, least in samples:
            before = limit.most
            limit.learn(round_trip_s, in_flight, least)
            assert LEAST <= limit.most <= MOST
            if in_flight < before / 2:
                assert limit.most <= max(before, least)


class TestShares:
    @given(st.lists(amounts, max_size=50), amounts)
    def test_the_fair_share_is_that_of_max_min_fairness(
        self, wanted: list[float], capacity: float
    ) -> None:
        level = fair_share(wanted, capacity)
        if math.isinf(level):
            assert sum(wanted) <= capacity * (1 + 1e-9) + 1e-6
        else:
            given_out = sum(min(each, level) for each in wanted)
            assert given_out == pytest.approx(capacity, rel=1e-6, abs=1e-6)
            assert max(wanted) > level

    @given(st.dictionaries(st.integers(0, 20), st.floats(0.001, 0.02), min_size=1))
    def test_with_enough_for_all_nobody_is_heavy(self, wanted: dict[int, float]) -> None:
        shares = Shares()
        for _ in range(5):
            for caller, cost_s in wanted.items():
                shares.is_heavy(caller, cost_s)
            shares.turn(sum(wanted.values()) * 2)
        assert not any(shares.is_heavy(caller, cost_s) for caller, cost_s in wanted.items())

    def test_a_heavy_one_is_told_from_the_light_ones(self) -> None:
        shares = Shares()
        for _ in range(3):
            shares.is_heavy("heavy", 1.0)
            for light in range(10):
                shares.is_heavy(light, 0.001)
            shares.turn(0.09)
        assert shares.is_heavy("heavy", 0.001)
        assert not any(shares.is_heavy(light, 0.001) for light in range(10))

    def test_in_the_first_window_the_one_behind_most_of_it_is_heavy(self) -> None:
        shares = Shares()
        found = [shares.is_heavy("flood", 0.001) for _ in range(10)]
        assert found[-1]
        assert not shares.is_heavy("light", 0.001)

    def test_who_has_stopped_is_forgiven(self) -> None:
        shares = Shares()
        shares.is_heavy("heavy", 1.0)
        shares.is_heavy("other", 0.5)
        for _ in range(30):
            shares.turn(0.09)
        assert len(shares) == 0
        assert not shares.is_heavy("heavy", 0.001)

    def test_only_so_many_are_told_apart(self) -> None:
        shares = Shares()
        for _ in range(3):
            for caller in range(KEYS_MAX + 100):
                shares.is_heavy(caller, 0.001)
            shares.turn(0.09)
        assert shares.beyond == 300
        assert len(shares) <= 2 * KEYS_MAX
        for caller in range(KEYS_MAX):
            shares.is_heavy(caller, 0.001)
        shares.is_heavy("one more", 0.01, 10)
        assert shares.beyond == 310


class TestTrial:
    @staticmethod
    def until_aside(trial: Trial, now_s: float, useful_per_s: float = 100.0) -> int:
        """Windows that pass, engaged, until it stands aside."""
        for passed in range(1, 1_000):
            arms = trial.window(now_s, useful_per_s, refusing=True, standing=True)
            if arms is Arms.ASIDE:
                return passed
        raise AssertionError("it never stood aside")

    def test_without_engagement_nothing_is_tried(self) -> None:
        trial = Trial()
        for n in range(1_000):
            assert trial.window(n / 10, 100, refusing=False, standing=False) is Arms.ON

    def test_less_comes_out_without_it_it_stays(self) -> None:
        trial = Trial()
        self.until_aside(trial, 1.0)
        for _ in range(ASIDE_MOST - 1):
            assert trial.window(1.1, 50, refusing=False, standing=False) is Arms.ASIDE
        assert trial.window(1.1, 50, refusing=False, standing=False) is Arms.ON
        assert (trial.needed, trial.over) == (1, 0)

    def test_less_by_chance_in_one_window_is_made_up_for_in_the_next(self) -> None:
        trial = Trial()
        self.until_aside(trial, 1.0)
        assert trial.window(1.1, 0, refusing=False, standing=False) is Arms.ASIDE
        assert trial.window(1.2, 200, refusing=False, standing=False) is Arms.OFF

    def test_as_much_comes_out_but_a_queue_stands_it_stays(self) -> None:
        trial = Trial()
        self.until_aside(trial, 1.0)
        assert trial.window(1.1, 100, refusing=False, standing=True) is Arms.ON

    def test_as_much_comes_out_and_no_queue_stands_it_is_disarmed(self) -> None:
        trial = Trial()
        self.until_aside(trial, 1.0)
        assert trial.window(1.1, 100, refusing=False, standing=False) is Arms.OFF
        assert trial.is_eased(1.2)
        assert trial.window(1.2 + DISARMED_FIRST_S, 100, refusing=False, standing=False) is Arms.ON

    def test_a_queue_ends_a_trial_and_a_time_without_defence(self) -> None:
        trial = Trial()
        self.until_aside(trial, 1.0)
        trial.burn()
        assert (trial.arms, trial.needed) == (Arms.ON, 1)
        self.until_aside(trial, 2.0)
        trial.window(2.1, 100, refusing=False, standing=False)
        trial.burn()
        assert trial.arms is Arms.ON
        assert trial.is_eased(2.2)

    def test_each_trial_that_shows_a_need_doubles_the_time_to_the_next(self) -> None:
        trial = Trial()
        waits = []
        for n in range(8):
            waits.append(self.until_aside(trial, float(n)))
            trial.burn()
        expected = [min(WINDOWS_FIRST * 2**n, WINDOWS_MOST) for n in range(8)]
        assert waits == expected

    def test_each_time_without_need_it_stays_away_longer(self) -> None:
        trial, now_s, times = Trial(), 0.0, []
        for _ in range(8):
            self.until_aside(trial, now_s)
            trial.window(now_s, 100, refusing=False, standing=False)
            began_s = now_s
            while trial.window(now_s, 100, refusing=False, standing=False) is Arms.OFF:
                now_s += 1.0
            times.append(now_s - began_s)
        assert times == [min(DISARMED_FIRST_S * 2**n, DISARMED_MOST_S) for n in range(8)]
