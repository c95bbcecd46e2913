"""The simulation beside real processes: what the schedule sets; and all of it, alone."""

from __future__ import annotations

import pytest
from tests.gameday.simulation.fleets import played

from holdfast.gameday.drill import Day
from holdfast.gameday.fleet import Fleet
from holdfast.gameday.simulation.calibrating import begin
from holdfast.gameday.simulation.checking import (
    Checking,
    Run,
    check,
    compare,
    of_result,
    parameters,
    real_run,
    stretched,
    switch_streams_off,
)
from holdfast.gameday.simulation.costs import Costs


def test_real_clients_ask_as_often_as_simulated_ones_and_changes_come_in_the_same_shape(tmp_path):
    told = Checking(clients=40, interval_s=1, changes=2, streams=False)
    with Fleet(Day(tmp_path, seed=1, protected=True)) as fleet:
        begin(fleet, told.interval_s)
        switch_streams_off(fleet, told.interval_s)
        real = real_run(fleet, tmp_path, told)
    simulated = of_result(played(parameters(told, Costs())))
    assert real.requests_per_s == pytest.approx(simulated.requests_per_s, rel=0.3)
    for run in (real, simulated):
        for p50_s, p99_s, last_s in run.changes:
            assert 0 < p50_s < p99_s <= last_s, "spread over the interval of the polls"
            assert p99_s > 0.4 * told.interval_s


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.parametrize("streams", [True, False])
def test_at_2_000_clients_both_are_within_a_fifth(streams):
    found = check(Checking(streams=streams), lambda _: None)
    assert found.passed, found


def test_what_differs_by_more_than_a_fifth_fails():
    told, costs = Checking(), Costs()
    real = Run(200.0, ((0.4, 1.0, 1.1),) * 3)
    near = Run(190.0, ((0.2, 1.1, 2.0),) * 3)
    found = compare(told, real, near, costs)
    assert found.passed, "the median and the last one are told, and don't decide"
    assert [each.holds for each in found.figures] == [True, False, True, False, True]
    assert not compare(told, real, Run(150.0, real.changes), costs).passed
    assert not compare(told, real, Run(200.0, ((0.4, 1.3, 1.3),) * 3), costs).passed


def test_without_streams_the_mean_counts_since_each_change_is_one_draw():
    told, costs = Checking(streams=False), Costs()
    real = Run(200.0, ((5.0, 9.0, 10.0), (5.0, 9.0, 10.0), (11.0, 18.0, 20.0)))
    same = Run(200.0, ((11.0, 18.0, 20.0), (5.0, 9.0, 10.0), (5.0, 9.0, 10.0)))
    late = Run(200.0, ((5.0, 9.0, 10.0), (5.0, 9.0, 10.0), (20.0, 27.0, 30.0)))
    assert compare(told, real, same, costs).passed
    assert not compare(told, real, late, costs).passed
    assert compare(Checking(), real, late, costs).passed, "with streams one late change is a stall"


def test_where_clients_share_a_cpu_they_take_longer_and_nothing_else_changes():
    costs = Costs()
    busy = stretched(costs, 3.0)
    assert busy.client_poll_s == 3 * costs.client_poll_s
    assert busy.client_activate_s == 3 * costs.client_activate_s
    assert (busy.snapshot_s, busy.hand_on_s) == (costs.snapshot_s, costs.hand_on_s)
    assert stretched(costs, 1.0) == costs
