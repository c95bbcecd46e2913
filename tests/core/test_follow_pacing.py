"""Conversations about pace: hints within the contract, gentle starts, the throttle."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core import pacing
from holdfast.core.conversation import (
    Answered,
    Catalogued,
    CloseStream,
    Command,
    Failed,
    Fetch,
    FetchCatalogue,
    Hinted,
    OpenStream,
    Restored,
    Standing,
    StreamClosed,
    StreamOpened,
    Tick,
    WakeAt,
)
from holdfast.core.follow import START_SPREAD_S, Follow, Plan
from holdfast.core.model import Subject
from holdfast.core.pacing import RetryBudget
from holdfast.core.snapshot import Pacing
from holdfast.core.throttle import WINDOW_S, Throttle

SHOP = Subject("production", "demo-shop")
ONE = Standing(1, "digest-1")
C = TypeVar("C", bound=Command)
CHANCES = st.floats(0, 1, exclude_max=True)
PACINGS = st.builds(
    Pacing,
    poll_interval_s=st.integers(1, 600),
    poll_interval_max_s=st.integers(600, 3_600),
    retry_after_max_s=st.integers(1, 3_600),
)


def of(kind: type[C], commands: Sequence[Command]) -> list[C]:
    return [command for command in commands if isinstance(command, kind)]


def wake_s(commands: Sequence[Command]) -> float:
    (wake,) = of(WakeAt, commands)
    return wake.at_s


def follow(upstreams: int = 1, chance: float = 0.5, **plan: object) -> Follow:
    asked = Plan(upstreams=upstreams, **{"subjects": (SHOP,), "streams": False, **plan})  # type: ignore[arg-type]
    return Follow(asked, lambda: chance, 0.0)


def settled(**plan: object) -> Follow:
    machine = follow(**plan)  # type: ignore[arg-type]
    machine.step(Tick(), 0)
    machine.step(Answered(SHOP, 0, ONE), 0)
    return machine


# Hints of an edge, which nobody signed


@given(PACINGS, st.floats(0, 1e12), CHANCES)
def test_a_hint_only_slows_down_and_never_beyond_the_contract(
    contract: Pacing, hint_s: float, chance: float
) -> None:
    interval_s = pacing.obeyed_interval_s(contract, None, hint_s)
    assert contract.poll_interval_s <= interval_s <= contract.poll_interval_max_s
    wait_s = pacing.obeyed_wait_s(contract, hint_s, chance)
    assert 0 <= wait_s <= contract.retry_after_max_s
    assert wait_s >= min(hint_s, contract.retry_after_max_s / (1 + pacing.RETRY_SPREAD))


def test_a_poll_hint_holds_until_the_next_answer() -> None:
    machine = settled()
    machine.step(Tick(), 30)
    assert wake_s(machine.step(Answered(SHOP, 0, None, poll_s=120), 30)) == 150
    machine.step(Tick(), 150)
    assert wake_s(machine.step(Answered(SHOP, 0, None), 150)) == 180


def test_a_refusal_may_slow_the_polls_down_too() -> None:
    machine = settled()
    machine.step(Tick(), 30)
    assert wake_s(machine.step(Failed(SHOP, 0, poll_s=120), 30)) == 150
    machine.step(Tick(), 150)
    assert wake_s(machine.step(Answered(SHOP, 0, None), 150)) == 180


def test_a_hostile_hint_costs_at_most_what_was_signed() -> None:
    machine = settled()
    machine.step(Tick(), 30)
    assert wake_s(machine.step(Answered(SHOP, 0, None, poll_s=1e9), 30)) == 330
    machine.step(Tick(), 330)
    due_s = wake_s(machine.step(Failed(SHOP, 0, retry_after_s=1e9), 330))
    while not of(Fetch, commands := machine.step(Tick(), due_s)):
        due_s = wake_s(commands)
    assert due_s <= 630


def test_before_anything_is_signed_a_hint_counts_for_little() -> None:
    machine = follow()
    machine.step(Tick(), 0)
    due_s = wake_s(machine.step(Failed(SHOP, 0, retry_after_s=1e9), 0))
    while not of(Fetch, commands := machine.step(Tick(), due_s)):
        due_s = wake_s(commands)
    assert due_s <= 30


def test_who_asks_to_be_left_alone_is_and_another_one_asked() -> None:
    machine = settled(upstreams=2)
    machine.step(Tick(), 30)
    due_s = wake_s(machine.step(Failed(SHOP, 0, retry_after_s=60), 30))
    (fetch,) = of(Fetch, machine.step(Tick(), due_s))
    assert fetch.upstream == 1
    machine.step(Answered(SHOP, 1, None), due_s)
    (fetch,) = of(Fetch, machine.step(Tick(), 85))
    assert fetch.upstream == 1, "the first one is still left alone"


@pytest.mark.parametrize(
    ("text", "asked_s"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("Sun, 22 Nov 2026 08:00:30 GMT", 30),
        ("Sun, 22 Nov 2026 07:00:00 GMT", 0),
        ("", 0),
        ("-5", 0),
        ("1e9", 0),
        ("soon", 0),
        ("Sun, 99 Nov 9999 99:99:99 GMT", 0),
        ("9" * 5_000, 0),
        ("x" * 100_000, 0),
    ],
)
def test_retry_after_in_seconds_and_as_a_date(text: str, asked_s: float) -> None:
    assert pacing.retry_after_s(text, 1_795_334_400.0) == asked_s


@given(st.text(max_size=80), st.floats(0, 1e10))
def test_no_header_raises(text: str, now_s: float) -> None:
    assert pacing.retry_after_s(text, now_s) >= 0
    assert pacing.pace_s(text) >= 0


@given(PACINGS, st.floats(0, 1e6))
def test_what_an_edge_advises_is_what_clients_obey(contract: Pacing, times: float) -> None:
    hint_s = pacing.pace_s(pacing.advised_pace(contract, times))
    assert pacing.obeyed_interval_s(contract, None, hint_s) == hint_s
    assert 1 <= pacing.advised_retry_s(contract, times) <= max(1, contract.retry_after_max_s)


# The contract


def test_streams_end_and_begin_as_the_contract_says() -> None:
    machine = settled(streams=True)
    machine.step(StreamOpened(0), 1)
    machine.step(Tick(), 2)
    silent = Standing(2, "digest-2", Pacing(streams=False))
    assert of(CloseStream, machine.step(Answered(SHOP, 0, silent), 2))
    assert of(OpenStream, machine.step(Tick(), 200)) == []
    machine.step(Answered(SHOP, 0, Standing(3, "digest-3")), 200)
    assert of(OpenStream, machine.step(Tick(), 201)) or machine.step(Tick(), 230)


def test_the_catalogue_is_polled_as_often_as_the_quickest_of_its_subjects() -> None:
    machine = follow(subjects=(), catalogue=True)
    assert of(FetchCatalogue, machine.step(Tick(), 0))
    other = Subject("staging", "demo-shop")
    now_s, asked = 0.0, 0
    commands = machine.step(Catalogued(0, {SHOP: "a", other: "b"}), 0)
    pacings = {SHOP: Pacing(poll_interval_s=300), other: Pacing(poll_interval_s=5)}
    while now_s < 61:
        if fetches := of(Fetch, commands):
            subject = fetches[0].subject
            standing = Standing(1, f"of {subject}", pacings[subject])
            commands = machine.step(Answered(subject, 0, standing), now_s)
        elif of(FetchCatalogue, commands):
            asked += 1
            commands = machine.step(Catalogued(0, {}), now_s)
        else:
            now_s = wake_s(commands)
            commands = machine.step(Tick(), now_s)
    assert 6 <= asked <= 14


# Starts


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.999])
def test_a_start_that_has_nothing_asks_at_once(chance: float) -> None:
    machine = follow(chance=chance, streams=True)
    commands = machine.step(Restored(SHOP, ()), 0)
    assert of(Fetch, commands)
    assert of(OpenStream, commands)


@given(CHANCES, st.one_of(st.none(), st.floats(0, 1e9)))
def test_a_start_from_disk_asks_within_one_poll_interval(
    chance: float, vouched_s: float | None
) -> None:
    machine = follow(chance=chance, streams=True)
    commands = machine.step(Restored(SHOP, (ONE,), vouched_s), 0)
    assert not of(Fetch, commands) or chance == 0
    recent = vouched_s is not None and vouched_s <= 180
    due_s = 0.0 if of(Fetch, commands) else wake_s(commands)
    assert due_s <= (30 if recent else START_SPREAD_S)


def test_without_gentleness_a_start_asks_at_once() -> None:
    commands = follow(streams=True, gentle=False).step(Restored(SHOP, (ONE,), 0.0), 0)
    assert of(Fetch, commands)
    assert of(OpenStream, commands)


# Streams


def test_a_stream_that_could_not_be_opened_waits_for_an_answer() -> None:
    machine = settled(streams=True)
    machine.step(StreamClosed(0), 1)
    assert of(OpenStream, machine.step(Tick(), 5))  # that upstream answered meanwhile
    machine.step(StreamClosed(0), 5.1)
    machine.step(Tick(), 25)
    assert of(OpenStream, machine.step(Tick(), 29.9)) == []
    machine.step(Tick(), 31)
    assert of(OpenStream, machine.step(Failed(SHOP, 0), 31)) == []
    machine.step(Tick(), 61)
    assert of(OpenStream, machine.step(Answered(SHOP, 0, None), 61)) == [OpenStream(0)]


def test_a_stream_that_is_refused_comes_back_when_it_was_told_to() -> None:
    machine = settled(streams=True)
    machine.step(StreamClosed(0, retry_after_s=100), 1)
    machine.step(Tick(), 30)
    assert of(OpenStream, machine.step(Answered(SHOP, 0, None), 30)) == []
    machine.step(Tick(), 60)
    assert of(OpenStream, machine.step(Answered(SHOP, 0, None), 60)) == []
    assert of(OpenStream, machine.step(Tick(), 127)) == [OpenStream(0)]


# The throttle and the budget


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=60), CHANCES)
def test_the_share_is_googles(steps: list[tuple[float, bool]], chance: float) -> None:
    throttle, now_s, times = Throttle(), 0.0, []
    for wait_s, accepted in steps:
        now_s += wait_s
        throttle.ask(now_s, chance, agreed=True)
        if accepted:
            throttle.accepted(now_s)
        times.append((now_s, accepted))
    width_s = WINDOW_S / 12
    recent = [ok for at_s, ok in times if int(at_s / width_s) > int(now_s / width_s) - 12]
    share = max(0.0, (len(recent) - 2 * sum(recent)) / (len(recent) + 1))
    assert throttle.rejected_share(now_s) == pytest.approx(share)
    assert throttle.ask(now_s, chance, agreed=False) is not (chance < share)


def test_an_upstream_that_takes_half_is_asked_everything() -> None:
    throttle = Throttle()
    for number in range(100):
        assert throttle.ask(number / 10, 0.0, agreed=False)
        if number % 2 == 0:
            throttle.accepted(number / 10)


def test_hints_of_a_dead_upstream_are_throttled_and_its_polls_are_not() -> None:
    machine, asked, now_s = settled(chance=0.1), 0, 30.0
    polls: list[float] = []
    commands = machine.step(Tick(), now_s)
    while now_s < 330:
        if of(Fetch, commands):
            asked += 1
            commands = machine.step(Failed(SHOP, 0), now_s)
            polls.append(now_s)
            commands = machine.step(Hinted({SHOP: f"made-up-{asked}"}), now_s + 0.01)
        else:
            now_s = min(wake_s(commands), now_s + 1)
            commands = machine.step(Hinted({SHOP: f"made-up at {now_s}"}), now_s)
    assert machine.throttled > 200
    assert max(later - one for one, later in itertools.pairwise(polls)) <= 33


def test_the_floor_is_for_who_has_nothing() -> None:
    budget = RetryBudget(0.0, 0.0)
    assert budget.spend() is None
    assert budget.wait(10.0).spend() is not None
    assert budget.wait(1e9).saved == pacing.RETRIES_SAVED_MAX
