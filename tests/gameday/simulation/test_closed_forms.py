"""Against what can be computed without a simulation."""

from __future__ import annotations

import math

import pytest
from tests.gameday.simulation.fleets import fleet, played

from holdfast.core.listening import REOPEN_SPREAD_S
from holdfast.core.pacing import JITTER_SHARE
from holdfast.gameday.simulation.costs import Costs
from holdfast.gameday.simulation.parameters import Change, Outage, Pace, Region

FREE = Costs(**{name: 0.0 for name in Costs.__struct_fields__ if name.endswith("_s")})
NEAR = (Region(name="eu", share=1.0, edges=1, client_ms=0, relay_ms=0, control_ms=0),)
POLLING = Pace(poll_interval_s=10, poll_interval_max_s=60, streams=False)


def distribution(spread_s: float, interval_s: float) -> float:
    """P(the next poll comes within `spread_s`) of a poll with steady jitter at a random moment.

    The residual life of a renewal process whose steps are even in [(1-j)T, (1+j)T], of mean T:
    F(t) = 1/T * integral of P(step > u) over u in [0, t].
    """
    low, high = interval_s * (1 - JITTER_SHARE), interval_s * (1 + JITTER_SHARE)
    at = min(spread_s, high)
    if at <= low:
        return at / interval_s
    over = (at - low) - (at - low) ** 2 / (2 * (high - low))
    return (low + over) / interval_s


def test_without_streams_a_change_comes_with_the_next_poll_of_a_jittered_interval():
    """Kolmogorov-Smirnov at 0.1 %: a right simulation fails once in a thousand seeds, not here."""
    asked = fleet(
        clients=1_000,
        regions=NEAR,
        run_s=60.0,
        settle_s=60.0,
        pace=POLLING,
        costs=FREE,
        wait_budget_ms=0,
        happenings=(Change(at_s=30),),
    )
    result = played(asked)
    (points,) = result.cdfs.values()
    edge = next(each for each in result.propagation if each.layer == "edges").last_s
    distance = max(abs(distribution(max(0.0, at_s - edge), 10) - share) for at_s, share in points)
    # The shares come in hundredths.
    assert distance < 1.95 / math.sqrt(asked.clients) + 0.01
    assert result.layers[-1].requests_per_s == pytest.approx(100, rel=0.02)


def test_steady_polls_are_what_the_interval_says_and_cost_what_each_costs():
    asked = fleet(clients=1_000, pace=POLLING)
    result = played(asked)
    cost = result.cost
    assert cost.requests_per_h == pytest.approx(360, rel=0.02)
    assert cost.sent_bytes_per_h == pytest.approx(360 * asked.costs.request_bytes, rel=0.02)
    assert cost.client_cpu_s_per_h == pytest.approx(360 * asked.costs.client_poll_s, rel=0.05)


def test_streams_that_were_cut_open_again_as_full_jitter_and_the_next_poll_say():
    """A stream that was cut opens again after a wait that is even in [0, 4 s), and not before its
    upstream answered a poll: P(open after t) = min(1, t / 4) * P(the next poll came by t)."""
    asked = fleet(
        clients=1_000,
        regions=NEAR,
        upstreams=1,
        settle_s=40.0,
        start_within_s=30.0,
        costs=FREE,
        wait_budget_ms=0,
        happenings=(Outage(at_s=20, for_s=0.001, region="eu"),),
    )
    listening = played(asked).listening
    assert listening[19] == asked.clients, "the moment before"
    for second in range(1, 13):
        computed = min(1.0, second / REOPEN_SPREAD_S) * distribution(second, 10)
        seen = listening[19 + second] / asked.clients
        assert seen == pytest.approx(computed, abs=1.95 / math.sqrt(asked.clients))


@pytest.mark.parametrize("protected", [True, False])
def test_a_herd_is_spread_and_without_protection_it_shows(protected):
    """A minute of 503: with the protections clients ask no oftener than ever, without them each
    asks twice a second (`follow.RETRY_BASE_S`)."""
    asked = fleet(
        clients=200,
        protected=protected,
        regions=(Region(name="eu", share=1.0, edges=1),),
        pace=POLLING,
        upstreams=1,
        happenings=(Outage(at_s=10, for_s=30, region="eu", how="refusing"),),
    )
    (herd,) = played(asked).herds
    assert herd.unserved_most == asked.clients
    assert herd.steady_per_s == pytest.approx(20, rel=0.1)
    assert (herd.interval_times < 2) == protected
    if not protected:
        assert herd.interval_times > 10
    assert herd.back_s is not None
    assert herd.back_s < 15


def test_without_jitter_clients_that_began_together_stay_together():
    told = {"clients": 200, "pace": POLLING, "start_within_s": 0.0, "settle_s": 30.0}
    gentle = played(fleet(**told, run_s=90.0)).layers[-1]
    naive = played(fleet(**told, run_s=90.0, protected=False)).layers[-1]
    assert naive.requests_per_s_peak == pytest.approx(200, rel=0.01)
    assert gentle.requests_per_s_peak < 0.75 * naive.requests_per_s_peak
    assert gentle.requests_per_s == pytest.approx(naive.requests_per_s, rel=0.1)
