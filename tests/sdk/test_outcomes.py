"""Outcomes are counted on the side of each rollout that a request is on, once a unit and window."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sdk.publisher import Publisher

from holdfast.core.snapshot import Snapshot
from holdfast.core.wire import canonical
from holdfast.sdk import outcomes
from holdfast.sdk.outcomes import Ledger

PILOTS = {"in": [{"var": "ring"}, ["ring0"]]}


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(canonical(value))


def snapshot(stage: int = 0, condition: Any = PILOTS, **rollouts: Any) -> Snapshot:
    """One with rollouts under way; `first` when none is named."""
    publisher = Publisher()
    publisher.put(tiles=9)
    facts = rollouts or {"first": {"stage": stage, "objective_ms": 100}}
    made = publisher.snapshot(rollouts={name: raw(each) for name, each in facts.items()})
    evaluators = {f"rollout:{name}": raw(condition) for name in facts}
    return msgspec.structs.replace(made, evaluators=evaluators)


class Clock:
    def __init__(self) -> None:
        self.now_s = 600.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    made = Ledger(clock)
    made.replace(snapshot())
    return made


def counts(ledger: Ledger) -> dict[tuple[str, int, bool], tuple[int, int, int, int]]:
    """(rollout, stage, exposed) -> (requests, errors, slow, units)."""
    return {
        (rollout, stage, exposed): (side.requests, side.errors, side.slow, side.units)
        for rollout, stage, exposed, side in ledger.rows()
    }


def test_a_request_counts_on_the_side_that_it_is_on(ledger: Ledger) -> None:
    ledger.count({"ring": "ring0", "targetingKey": "a"}, ok=False, latency_ms=500)
    ledger.count({"ring": "general", "targetingKey": "b"}, latency_ms=99)
    ledger.count({"targetingKey": "c"})
    assert counts(ledger) == {
        ("first", 0, True): (1, 1, 1, 1),
        ("first", 0, False): (2, 0, 0, 2),
    }


def test_a_unit_has_one_error_and_one_slow_request_in_a_window(
    ledger: Ledger, clock: Clock
) -> None:
    for _ in range(5):
        ledger.count({"ring": "ring0", "targetingKey": "a"}, ok=False, latency_ms=500)
    ledger.count({"ring": "ring0", "targetingKey": "b"}, ok=False)
    assert counts(ledger)["first", 0, True] == (6, 2, 1, 2)
    clock.now_s += outcomes.WINDOW_S
    ledger.count({"ring": "ring0", "targetingKey": "a"}, ok=False)
    assert counts(ledger)["first", 0, True] == (7, 3, 1, 2)


def test_without_rollouts_nothing_is_counted(clock: Clock) -> None:
    ledger = Ledger(clock)
    ledger.count({"ring": "ring0"}, ok=False)
    assert ledger.rows() == []
    assert not ledger.counting


def test_a_new_snapshot_of_the_same_stage_goes_on_counting(ledger: Ledger) -> None:
    ledger.count({"ring": "ring0"})
    ledger.replace(snapshot())
    ledger.count({"ring": "ring0"})
    assert counts(ledger) == {("first", 0, True): (2, 0, 0, 1)}


def test_the_next_stage_counts_anew_and_the_one_before_stays(ledger: Ledger) -> None:
    ledger.count({"ring": "ring0"}, ok=False)
    everybody = {"==": [1, 1]}
    ledger.replace(snapshot(1, everybody))
    ledger.count({"ring": "general"}, ok=False)
    assert counts(ledger) == {("first", 0, True): (1, 1, 0, 1), ("first", 1, True): (1, 1, 0, 1)}
    ledger.replace(snapshot(0, PILOTS, second={"stage": 0}))
    assert ledger.rows() == [], "an ended rollout is of no use to anybody"


def test_a_stage_that_comes_again_goes_on_counting(ledger: Ledger) -> None:
    """A consumer that went back a generation and forth: two rows of a stage would count twice."""
    everybody = {"==": [1, 1]}
    ledger.replace(snapshot(1, everybody))
    for _ in range(3):
        ledger.count({"ring": "general"}, ok=False)
    ledger.replace(snapshot(0))
    ledger.count({"ring": "ring0"})
    ledger.replace(snapshot(1, everybody))
    ledger.count({"ring": "general"})
    assert [row[:3] for row in ledger.rows()] == [("first", 0, True), ("first", 1, True)]
    assert counts(ledger)["first", 1, True][0] == 4


def test_two_rollouts_are_counted_each_for_itself(clock: Clock) -> None:
    ledger = Ledger(clock)
    ledger.replace(snapshot(0, PILOTS, a={"stage": 0, "unit": "tenant"}, b={"stage": 2}))
    for user in ("u1", "u2"):
        ledger.count({"ring": "ring0", "tenant": "contoso", "targetingKey": user}, ok=False)
    assert counts(ledger) == {("a", 0, True): (2, 1, 0, 1), ("b", 2, True): (2, 2, 0, 2)}


def test_facts_that_make_no_sense_are_passed_over(clock: Clock) -> None:
    ledger = Ledger(clock)
    made = snapshot(0, PILOTS, odd={"stage": "x"}, bare={"stage": 1})
    evaluators = {"rollout:odd": raw(PILOTS)}
    ledger.replace(msgspec.structs.replace(made, evaluators=evaluators))
    ledger.count({"ring": "ring0"}, ok=False)
    assert ledger.rows() == []


def test_a_condition_that_fails_exposes_nobody(clock: Clock) -> None:
    ledger = Ledger(clock)
    ledger.replace(snapshot(0, {"nonsense": []}))
    ledger.count({"ring": "ring0"}, ok=False)
    assert counts(ledger) == {("first", 0, False): (1, 1, 0, 1)}


def test_every_table_is_bounded_and_counted(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("EVENTS_MAX", "UNITS_MAX"):
        monkeypatch.setattr(outcomes, bound, 3)
    ledger = Ledger(clock)
    many = {f"r{number:02}": {"stage": 0} for number in range(outcomes.ROLLOUTS_MAX + 2)}
    ledger.replace(snapshot(0, PILOTS, **many))
    assert ledger.dropped["rollouts"] == 2
    ledger.replace(snapshot())
    for number in range(5):
        ring = "ring0" if number % 2 else "general"
        ledger.count({"ring": ring, "targetingKey": f"u{number}"}, ok=False)
    assert ledger.dropped["events"] == 2, "of both sides together: neither looks better for it"
    assert sum(errors for _, errors, _, _ in counts(ledger).values()) == 3
    for stage in range(1, outcomes.ROWS_MAX):
        ledger.replace(snapshot(stage))
        ledger.count({"ring": "ring0"})
    assert len(ledger.rows()) <= outcomes.ROWS_MAX
    assert ledger.dropped["rows"] > 0


def test_after_a_fork_everything_begins_at_zero(ledger: Ledger) -> None:
    ledger.count({"ring": "ring0"}, ok=False)
    ledger.clear()
    assert ledger.rows() == []
    ledger.count({"ring": "ring0"}, ok=False)
    assert counts(ledger) == {("first", 0, True): (1, 1, 0, 1)}


def test_no_count_is_lost_between_threads(ledger: Ledger) -> None:
    def work(name: str) -> None:
        for number in range(500):
            ledger.count({"ring": "ring0", "targetingKey": f"{name}{number}"}, ok=False)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts(ledger)["first", 0, True][:2] == (2_000, 2_000)


UNITS = st.sampled_from(["a", "b", "c"])
REQUESTS = st.lists(st.tuples(UNITS, st.booleans(), st.booleans(), st.integers(0, 40)))


@given(REQUESTS)
def test_counts_are_what_a_slow_count_gives(requests: list[tuple[str, bool, bool, int]]) -> None:
    """A model: sets of (window, unit), side by side."""
    clock = Clock()
    ledger = Ledger(clock)
    ledger.replace(snapshot())
    errors: dict[bool, set[tuple[int, str]]] = {True: set(), False: set()}
    seen: set[tuple[int, str]] = set()
    for unit, exposed, ok, wait_s in requests:
        clock.now_s += wait_s
        ledger.count({"ring": "ring0" if exposed else "x", "targetingKey": unit}, ok=ok)
        event = (int(clock.now_s / outcomes.WINDOW_S), unit)
        if not ok and event not in seen:
            seen.add(event)
            errors[exposed].add(event)
    found = counts(ledger)
    for exposed in (True, False):
        row = found.get(("first", 0, exposed), (0, 0, 0, 0))
        assert row[0] == sum(each[1] is exposed for each in requests)
        assert row[1] == len(errors[exposed])
