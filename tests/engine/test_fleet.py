"""The fleet: cumulative reports become differences, refusals become alarms, and all is bounded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.model import Head, Subject
from holdfast.core.reports import ConsumerReport, Outcomes, Refusal, Sample, Witness
from holdfast.engine import fleet as module
from holdfast.engine.fleet import Fleet

ROLLOUT = "production.7"
BAD = Refusal(7, "d" * 64, "probe", "an answer moved", 1_000, "tiles")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fleet(clock: Clock) -> Fleet:
    return Fleet(clock, lambda: [ROLLOUT])


def report(sequence: int = 1, consumer: str = "consumer-a", **more: Any) -> ConsumerReport:
    given = {"service": "shop", "environment": "production", "kind": "sdk", "build": "holdfast/0"}
    return ConsumerReport(**{"at_ms": 0, **given, **more}, consumer=consumer, sequence=sequence)


def rows(requests: int, errors: int = 0, *, exposed: bool = True, stage: int = 0) -> Any:
    return (Outcomes(ROLLOUT, stage, exposed, requests, errors, 0, requests),)


def totals(fleet: Fleet, rollout: str = ROLLOUT) -> dict[int, tuple[tuple[int, int], ...]]:
    """stage -> (requests, errors) of the exposed, and of the others."""
    return {
        stage: tuple((one.requests, one.errors) for one in (sides.exposed, sides.baseline))
        for stage, sides in fleet.look(rollout).items()
    }


def test_the_first_report_counts_whole_and_the_next_by_its_difference(fleet: Fleet) -> None:
    fleet.take([report(1, outcomes=rows(10, 2))])
    fleet.take([report(2, outcomes=rows(15, 3))])
    assert totals(fleet) == {0: ((15, 3), (0, 0))}
    assert totals(fleet) == {}, "a look takes what there is"
    fleet.take([report(3, outcomes=rows(16, 3))])
    assert totals(fleet) == {0: ((1, 0), (0, 0))}


def test_a_report_that_comes_twice_late_or_never_changes_nothing(fleet: Fleet) -> None:
    first, second, third = (report(n, outcomes=rows(10 * n, n)) for n in (1, 2, 3))
    fleet.take([first, third, second, third, first])
    assert totals(fleet) == {0: ((30, 3), (0, 0))}
    fleet.take([report(9, outcomes=rows(90, 9))])
    assert totals(fleet) == {0: ((60, 6), (0, 0))}


def test_sides_and_stages_are_kept_apart_and_consumers_added_up(fleet: Fleet) -> None:
    both = (*rows(1, 1), *rows(99, exposed=False))
    fleet.take([report(outcomes=both), report(consumer="consumer-b", outcomes=both)])
    fleet.take([report(2, outcomes=(*both, *rows(5, stage=1)))])
    assert totals(fleet) == {0: ((2, 2), (198, 0)), 1: ((5, 0), (0, 0))}


def test_outcomes_of_what_does_not_run_are_passed_over(fleet: Fleet) -> None:
    ended = Outcomes("production.3", 0, True, 10, 10)
    fleet.take([report(outcomes=(ended,))])
    assert fleet.look("production.3") == {}
    assert fleet.exposed_s("production.3") is None


def test_when_an_exposed_request_was_last_told_of(fleet: Fleet, clock: Clock) -> None:
    fleet.take([report(1, outcomes=rows(10, exposed=False))])
    assert fleet.exposed_s(ROLLOUT) is None
    fleet.take([report(2, outcomes=rows(1))])
    clock.now_s += 50
    fleet.take([report(3, outcomes=rows(1))])
    assert fleet.exposed_s(ROLLOUT) == 1_000.0, "no request since"
    fleet.forget([])
    assert fleet.exposed_s(ROLLOUT) is None


def test_a_refusal_is_an_alarm_once_for_each_consumer(fleet: Fleet) -> None:
    rung: list[int] = []
    fleet.on_alarm = lambda: rung.append(1)
    fleet.take([report(1, refusals=(BAD,))])
    fleet.take([report(2, refusals=(BAD,))])
    fleet.take([report(1, consumer="consumer-b", refusals=(BAD,))])
    alarms = fleet.alarms()
    assert [(each.consumer, each.refusal) for each in alarms] == [
        ("consumer-a", BAD),
        ("consumer-b", BAD),
    ]
    assert alarms[0].subject == Subject("production", "shop")
    assert fleet.alarms() == []
    assert len(rung) == 2


def test_a_crash_is_an_alarm_of_what_ran_before_it(fleet: Fleet) -> None:
    fleet.take([report(1, revision=7, crashes=1)])
    assert fleet.alarms() == [], "it may be from long ago"
    fleet.take([report(2, revision=6, crashes=2)])
    (alarm,) = fleet.alarms()
    assert (alarm.revision, alarm.refusal) == (7, None)


def test_consumers_are_listed_by_subject_and_forgotten_when_long_silent(
    fleet: Fleet, clock: Clock
) -> None:
    fleet.take([report(consumer="consumer-b"), report(consumer="consumer-a", service="mail")])
    fleet.take([report(consumer="consumer-a", environment="staging")])
    assert [(str(each.subject), each.report.consumer) for each in fleet.consumers()] == [
        ("production/mail", "consumer-a"),
        ("production/shop", "consumer-b"),
        ("staging/shop", "consumer-a"),
    ]
    assert len(fleet.consumers("production")) == 2
    assert len(fleet.consumers("production", "mail")) == 1
    clock.now_s += module.FORGET_S + 1
    assert fleet.consumers() == []


def test_heads_and_samples_are_handed_on(fleet: Fleet) -> None:
    sampled: list[Any] = []
    fleet.on_samples = lambda subject, samples: sampled.append((subject, samples))
    seen = (Sample({"tenant": "contoso"}, 3),)
    heads = (Witness(7, "a" * 64),)
    fleet.take([report(heads=heads, contexts=seen), report(consumer="consumer-b", heads=heads)])
    assert sampled == [(Subject("production", "shop"), seen)]
    assert fleet.heads() == {Head(7, "a" * 64): 2}
    assert fleet.consumers()[0].report.contexts == (), "they are not kept here"


def test_every_table_is_bounded_and_counted(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALARMS_MAX", 5)
    monkeypatch.setattr(module, "WITNESSED_MAX", 5)
    fleet = Fleet(clock, lambda: [ROLLOUT], consumers_max=10)
    fleet.take(
        report(consumer=f"consumer-{n:03}", refusals=(BAD,), heads=(Witness(n, "a" * 64),))
        for n in range(25)
    )
    assert len(fleet.consumers()) == 10
    assert fleet.forgotten == 15
    assert len(fleet.alarms()) == 5
    assert fleet.dropped == 20
    assert len(fleet.heads()) == 5


def test_what_was_forgotten_is_not_counted_again(clock: Clock) -> None:
    """Counted twice, the errors of one side would look like more than they are."""
    fleet = Fleet(clock, lambda: [ROLLOUT], consumers_max=1)
    fleet.take([report(1, outcomes=rows(10, 5))])
    fleet.take([report(1, consumer="consumer-b")])
    fleet.take([report(2, outcomes=rows(11, 5))])
    fleet.take([report(3, outcomes=rows(12, 6))])
    assert totals(fleet) == {0: ((11, 6), (0, 0))}


def test_after_a_restart_the_counts_come_again(clock: Clock) -> None:
    fleet = Fleet(clock, lambda: [ROLLOUT])
    fleet.take([report(57, outcomes=rows(100, 3))])
    assert totals(fleet) == {0: ((100, 3), (0, 0))}


STEPS = st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 9)), max_size=30)


@given(STEPS, st.randoms(use_true_random=False))
def test_however_reports_come_the_sums_are_those_of_the_newest(
    steps: list[tuple[int, bool, int]], chance: Any
) -> None:
    """Lost, doubled and shuffled: what is added up is each consumer's newest count."""
    clock = Clock()
    fleet = Fleet(clock, lambda: [ROLLOUT])
    counts, sent = {n: [0, 0] for n in range(3)}, []
    for number, (consumer, exposed, more) in enumerate(steps):
        counts[consumer][exposed] += more
        outcomes = (
            *rows(counts[consumer][True]),
            *rows(counts[consumer][False], exposed=False),
        )
        sent.append(report(number + 1, consumer=f"consumer-{consumer}", outcomes=outcomes))
    arrived = [each for each in sent if chance.random() < 0.7] * 2
    chance.shuffle(arrived)
    newest: dict[str, ConsumerReport] = {}
    for each in arrived:
        fleet.take([each])
        if each.sequence > newest.get(each.consumer, report(0)).sequence:
            newest[each.consumer] = each
    wanted = [sum(each.outcomes[side].requests for each in newest.values()) for side in (0, 1)]
    found = fleet.look(ROLLOUT).get(0)
    got = [found.exposed.requests, found.baseline.requests] if found else [0, 0]
    assert got == wanted


def test_two_rows_of_one_side_are_no_more_than_the_last_of_them(fleet: Fleet) -> None:
    for sequence in (1, 2, 3):
        fleet.take([report(sequence, outcomes=rows(100, 50) + rows(5, 1))])
    assert totals(fleet) == {0: ((5, 1), (0, 0))}


def test_nobody_has_more_errors_than_requests(fleet: Fleet) -> None:
    fleet.take([report(1, outcomes=rows(3, 1_000))])
    assert totals(fleet) == {0: ((3, 3), (0, 0))}


def test_large_reports_are_bounded_by_their_bytes(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPORTS_BYTES_MAX", 10_000)
    refusals = tuple(Refusal(7, "d" * 64, "probe", "x" * 250, n, "k") for n in range(10))
    for sequence in (1, 2):
        for number in range(8):
            fleet.take([report(sequence, f"consumer-{number}", refusals=refusals)])
        assert 1 <= fleet.remembered <= 2
    assert fleet.forgotten
    fleet.take([report(1, "consumer-small")])
    assert "consumer-small" in {each.report.consumer for each in fleet.consumers()}
