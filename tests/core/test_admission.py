"""Admission: conversations about its states, and a simulated server that would drown without it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.server_twin import Outcome, Stream, serve

from holdfast.core.admission import BOUNDS, TURNS_MAX, WAIT_BUDGET_S, Admission, Rank, Why
from holdfast.core.admission_trial import Arms

BULK_S = 1e-3


def bulk(times: float, **more: float | str) -> Stream:
    """Bulk reads at so many times what the server can do."""
    return Stream("bulk", Rank.BULK, times / BULK_S, BULK_S, **more)  # type: ignore[arg-type]


def states(admission: Admission) -> list[str]:
    return [turn.state for turn in admission.turns]


def mixed(times: float) -> list[Stream]:
    return [
        Stream("important", Rank.IMPORTANT, 200 * times, 20e-6, "a"),
        Stream("single", Rank.INTERACTIVE, 300 * times, 25e-6, "b"),
        Stream("bulk", Rank.BULK, 850 * times, BULK_S, "c"),
        Stream("export", Rank.EXPORT, 200 * times, 0.5e-3, "d"),
    ]


def ok(outcome: Outcome) -> float:
    return outcome.useful() / outcome.offered


# -- the bars, on a simulated server


def test_a_costly_route_at_three_times_its_capacity() -> None:
    admission = Admission(WAIT_BUDGET_S, 0.0)
    found = serve([bulk(3)], 5.0, admission)["bulk"]
    assert found.useful() >= 0.8 * 5.0 / BULK_S
    assert found.p99_s() <= 4 * WAIT_BUDGET_S
    without = serve([bulk(3)], 5.0, None)["bulk"]
    assert without.useful() < 0.1 * 5.0 / BULK_S


@pytest.mark.parametrize("times", [10, 20])
def test_under_a_mixed_overload_what_matters_is_answered(times: float) -> None:
    peak = sum(each.useful() for each in serve(mixed(0.9), 3.0, None).values())
    admission = Admission(WAIT_BUDGET_S, 0.0)
    found = serve(mixed(times), 3.0, admission)
    assert ok(found["important"]) >= 0.994
    assert ok(found["single"]) >= 0.994
    assert sum(each.useful() for each in found.values()) >= 0.8 * peak
    assert ok(found["export"]) < ok(found["bulk"]) < 0.2
    without = serve(mixed(times), 2.0, None)
    assert ok(without["important"]) < 0.1


def test_light_callers_do_not_notice_a_flood() -> None:
    light = [
        Stream(f"light-{n}", Rank.BULK if n % 2 else Rank.INTERACTIVE, 20, 1e-3, f"token-{n}")
        for n in range(6)
    ]
    flood = Stream("flood", Rank.BULK, 10_000, BULK_S, "evil", from_s=1, to_s=3)
    admission = Admission(WAIT_BUDGET_S, 0.0)
    found = serve([*light, flood], 5.0, admission)
    assert sum(len(found[each.name].refusals) for each in light) == 0
    assert min(ok(found[each.name]) for each in light) == 1.0
    assert states(admission)[0] == "engaged"
    assert states(admission)[-1] == "released"
    without = serve([*light, flood], 5.0, None)
    assert max(ok(without[each.name]) for each in light) < 0.8


def test_when_the_flood_is_over_everything_is_answered_again() -> None:
    usual, flood = bulk(0.5), Stream("flood", Rank.BULK, 10_000, BULK_S, "evil", to_s=2)
    found = serve([usual, flood], 5.0, Admission(WAIT_BUDGET_S, 0.0))["bulk"]
    assert not [at for at in found.refusals if at > 2.2]
    assert found.p99_s(from_s=2.5) < 4 * WAIT_BUDGET_S


def test_a_burst_is_answered() -> None:
    admission = Admission(WAIT_BUDGET_S, 0.0)
    bursts = [
        Stream(f"burst-{n}", Rank.BULK, 3_000, BULK_S, f"token-{n}", from_s=n, to_s=n + 0.008)
        for n in range(5)
    ]
    found = serve([bulk(0.1), *bursts], 6.0, admission)
    assert sum(each.offered for each in found.values()) > 600
    assert not any(each.refusals for each in found.values())


def test_consumers_that_hear_of_a_change_at_once_are_all_let_in() -> None:
    admission = Admission(WAIT_BUDGET_S, 0.0)
    hinted = Stream("hinted", Rank.IMPORTANT, 250_000, 100e-6, from_s=1, to_s=1.01)
    found = serve([bulk(0.1), hinted], 3.0, admission)
    assert found["hinted"].offered > 2_000
    assert found["hinted"].refusals == []


def test_a_stall_of_the_machine_is_no_overload() -> None:
    admission = Admission(WAIT_BUDGET_S, 0.0)
    stalls = tuple((0.5 * n, 0.03) for n in range(1, 10))
    found = serve([bulk(0.3)], 5.0, admission, stalls=stalls)["bulk"]
    assert found.refusals == []
    assert states(admission) == []


def test_a_threshold_that_is_wrong_disarms_the_defence() -> None:
    strict = Admission(WAIT_BUDGET_S / 500, 0.0)
    found = serve([bulk(0.7)], 10.0, strict)["bulk"]
    assert "disarmed" in states(strict)
    assert len([at for at in found.refusals if at < 2.0]) > 50
    assert len([at for at in found.refusals if at > 5.0]) <= 0.001 * found.offered
    assert ok(found) > 0.95


def test_who_is_disarmed_wakes_up_when_a_flood_comes() -> None:
    strict = Admission(WAIT_BUDGET_S / 500, 0.0)
    usual = bulk(0.5)
    flood = Stream("flood", Rank.BULK, 10_000, BULK_S, "evil", from_s=3, to_s=5)
    light = Stream("light", Rank.INTERACTIVE, 50, 20e-6, "light")
    found = serve([usual, light, flood], 7.0, strict)
    said = states(strict)
    assert said.index("armed") > said.index("disarmed")
    assert ok(found["light"]) >= 0.999
    without = serve([usual, light, flood], 7.0, None)
    assert ok(without["light"]) < 0.6


def test_what_is_needed_is_tried_ever_more_rarely() -> None:
    admission = Admission(WAIT_BUDGET_S, 0.0)
    serve([bulk(2)], 10.0, admission)
    assert admission.trial.over == 0
    assert 3 <= admission.trial.needed <= 5


# -- conversations


def engaged(budget_s: float = WAIT_BUDGET_S) -> Admission:
    """One that has seen a queue stand for an interval."""
    admission = Admission(budget_s, 0.0)
    for n in range(1, 17):
        admission.done(0.02)
        admission.batch(n * 0.02, 0.02)
    assert admission.engaged
    return admission


def test_nothing_is_refused_before_a_queue_stands() -> None:
    admission = Admission(WAIT_BUDGET_S, 0.0)
    assert admission.calm
    assert admission.alert_s == 4 * WAIT_BUDGET_S
    for rank in Rank:
        assert admission.judge(1.0, 0.004, rank, "t", "s") is None
    assert sum(admission.admitted) == 0


def test_a_queue_that_stands_for_an_interval_engages() -> None:
    admission = engaged()
    assert not admission.calm
    assert admission.alert_s < 0
    assert states(admission) == ["engaged"]
    assert "stands" in admission.turns[0].why


def test_the_least_important_goes_first() -> None:
    admission = engaged()
    waits = [n * 0.001 for n in range(300)]
    limits = []
    for rank in Rank:
        let_in = [w for w in waits if admission.judge(0.32, w, rank, f"t{rank}", "s") is None]
        limits.append(max(let_in))
    assert limits == sorted(limits, reverse=True)
    assert len(set(limits)) >= 3


def test_it_lets_go_when_there_is_nothing_to_refuse() -> None:
    admission = engaged()
    for n in range(1, 80):
        admission.batch(0.33 + n * 0.02, 0.001)
    assert not admission.engaged
    assert states(admission)[-1] == "released"


def test_half_a_trial_that_goes_wrong_is_over_at_once() -> None:
    admission = Admission(WAIT_BUDGET_S, 0.0)
    serve([bulk(3)], 0.7, admission)
    assert admission.trial.arms is Arms.ON
    assert states(admission)[:3] == ["engaged", "aside", "engaged"]
    assert admission.trial.needed == 1


def test_prices_are_those_measured() -> None:
    admission = engaged()
    for n in range(50):
        assert admission.judge(0.32, 0.0, Rank.INTERACTIVE, f"t{n}", "s") is None
        admission.done(0.002)
    assert admission.prices_s[Rank.INTERACTIVE] == pytest.approx(0.002)


def test_what_is_refused_costs_nothing_and_moves_no_price() -> None:
    admission = engaged()
    before = list(admission.prices_s)
    assert admission.judge(0.32, 10.0, Rank.EXPORT, "t", "s") is Why.WAITED
    admission.done(1.0)
    assert admission.prices_s == before


# -- properties

Asked = tuple[float, Rank, str, str, float]
requests = st.lists(
    st.tuples(
        st.floats(0, 0.5),
        st.sampled_from(Rank),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["x", "y"]),
        st.floats(0, 0.1),
    ),
    max_size=12,
)


@settings(max_examples=50)
@given(st.lists(requests, max_size=20), st.floats(1e-5, 0.5))
def test_every_decision_is_counted_whatever_happens(
    batches: list[list[Asked]], budget_s: float
) -> None:
    admission = Admission(budget_s, 0.0)
    now_s = 0.0
    refused = 0
    for batch in batches:
        start_s = now_s
        for waits_s, rank, token, service, took_s in batch:
            now_s += waits_s
            waited_s = now_s - start_s
            why = None
            if waited_s >= admission.alert_s:
                was_engaged, before = admission.engaged, sum(admission.admitted)
                why = admission.judge(now_s, waited_s, rank, token, service)
                if was_engaged:
                    assert (why is None) == (sum(admission.admitted) == before + 1)
            if why is None:
                now_s += took_s
                admission.done(took_s)
            else:
                refused += 1
                assert admission.engaged
        admission.batch(now_s, now_s - start_s)
        now_s += 0.001
    assert sum(map(sum, admission.refused)) == admission.refusals == refused
    assert all(price > 0 for price in admission.prices_s) or not batches
    # Changes of state follow each other as they can.
    follows = {
        "engaged": {"", "released", "aside", "armed"},
        "released": {"engaged"},
        "aside": {"engaged"},
        "disarmed": {"aside"},
        "armed": {"disarmed"},
    }
    said = ["", *states(admission)]
    if len(said) < TURNS_MAX:
        assert all(before in follows[after] for before, after in pairwise(said))


@settings(max_examples=200)
@given(requests, st.floats(1e-5, 0.5), st.lists(st.sampled_from(["a", "b", "d"]), max_size=40))
def test_who_was_refused_is_refused_for_the_rest_of_his_batch(
    batch: list[Asked], budget_s: float, window_before: list[str]
) -> None:
    admission = Admission(budget_s, 0.0)
    now_s = 0.0
    for n in range(1, 30):  # some callers have had their share before, and a window is over
        for token in window_before:
            if admission.judge(now_s, 0.0, Rank.BULK, token, "x") is None:
                admission.done(0.02)
        now_s = n * 0.02
        admission.batch(now_s, 0.02)
    start_s, refused = now_s, set[tuple[Rank, str, str]]()
    for waits_s, rank, token, service, took_s in batch * 2:
        now_s += waits_s
        why = None
        if now_s - start_s >= admission.alert_s:
            why = admission.judge(now_s, now_s - start_s, rank, token, service)
        question = rank, token, service
        assert why is not None or question not in refused
        if why is None:
            admission.done(took_s)
        elif admission.tokens.tells:
            refused.add(question)


@given(st.floats(1e-5, 0.5), st.floats(0, 0.079), st.sampled_from(["new", "other"]))
def test_no_setting_sheds_important_work_of_light_callers_early(
    budget_s: float, waited_s: float, token: str
) -> None:
    admission = Admission(budget_s, 0.0)
    admission.done(1.0)
    admission.done(1.0)
    admission.done(1.0)
    bound_s = BOUNDS[0][Rank.IMPORTANT] * WAIT_BUDGET_S
    assert waited_s < bound_s
    assert admission.judge(0.5, waited_s, Rank.IMPORTANT, token, "s") is None
