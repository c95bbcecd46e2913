"""Conversations with the machine: events in, commands out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pytest

from holdfast.core.conversation import (
    PATIENCE_S,
    Activate,
    Answered,
    Catalogued,
    CloseStream,
    Command,
    Event,
    Failed,
    Fetch,
    FetchCatalogue,
    Hinted,
    Keep,
    OpenStream,
    Refused,
    Report,
    Restored,
    Standing,
    StreamClosed,
    StreamOpened,
    Tick,
    WakeAt,
)
from holdfast.core.follow import (
    HINT_GAP_S,
    HINT_SPREAD_S,
    PATIENCE_MAX_S,
    START_SPREAD_S,
    Follow,
    Plan,
)
from holdfast.core.listening import REOPEN_SPREAD_S
from holdfast.core.model import Subject
from holdfast.core.pacing import RETRIES_PER_S
from holdfast.core.snapshot import Pacing

SHOP = Subject("production", "demo-shop")
MAIL = Subject("production", "mail")
ONE, TWO, THREE = (Standing(n, f"digest-{n}") for n in (1, 2, 3))
C = TypeVar("C", bound=Command)


def of(kind: type[C], commands: Sequence[Command]) -> list[C]:
    return [command for command in commands if isinstance(command, kind)]


def follow(upstreams: int = 1, **plan: object) -> Follow:
    asked = Plan(upstreams=upstreams, **{"subjects": (SHOP,), "streams": False, **plan})  # type: ignore[arg-type]
    return Follow(asked, lambda: 0.5, 0.0)


def asking(subject: Subject, upstream: int, have: str | None) -> Fetch:
    """The question where nobody else could be asked."""
    return Fetch(subject, upstream, have, PATIENCE_MAX_S)


def wake_s(commands: Sequence[Command]) -> float:
    (wake,) = of(WakeAt, commands)
    return wake.at_s


def test_it_asks_at_once_then_at_a_steady_rate() -> None:
    machine = follow()
    assert machine.step(Tick(), 0) == [asking(SHOP, 0, None)]
    commands = machine.step(Answered(SHOP, 0, ONE), 1)
    assert commands == [Activate(SHOP, ONE), Keep(SHOP, ONE), WakeAt(31)]
    assert machine.step(Tick(), 30) == [WakeAt(31)]
    assert machine.step(Tick(), 31) == [asking(SHOP, 0, "digest-1")]
    assert machine.step(Answered(SHOP, 0, None), 31) == [WakeAt(61)]


def test_what_was_restored_answers_before_anything_is_asked() -> None:
    machine = follow()
    commands = machine.step(Restored(SHOP, (ONE, TWO)), 0)
    assert commands == [Activate(SHOP, TWO), WakeAt(START_SPREAD_S / 2)]
    assert machine.step(Tick(), 2.5) == [asking(SHOP, 0, "digest-2")]


@pytest.mark.parametrize("late", [ONE, TWO])
def test_an_older_answer_changes_nothing(late: Standing) -> None:
    machine = follow()
    machine.step(Restored(SHOP, (TWO,)), 0)
    assert of(Activate, machine.step(Answered(SHOP, 0, late), 1)) == []
    assert machine.standing(SHOP) == TWO


def test_the_publisher_paces_the_poll_unless_the_host_does() -> None:
    paced = Standing(1, "digest-1", Pacing(poll_interval_s=7))
    assert wake_s(_after(follow(), paced)) == 7
    assert wake_s(_after(follow(poll_interval_s=3), paced)) == 3


@pytest.mark.parametrize(("asked_s", "kept_s"), [(0, 0.05), (10**9, 3600)])
def test_pacing_is_bounded(asked_s: int, kept_s: float) -> None:
    paced = Standing(1, "digest-1", Pacing(poll_interval_s=asked_s))
    assert wake_s(_after(follow(), paced)) == kept_s


def _after(machine: Follow, standing: Standing) -> list[Command]:
    machine.step(Tick(), 0)
    return machine.step(Answered(SHOP, 0, standing), 0)


def test_a_hint_asks_soon() -> None:
    machine = follow()
    _after(machine, ONE)
    due_s = wake_s(machine.step(Hinted({SHOP: "digest-2"}), 10))
    assert 10 <= due_s <= 10 + HINT_SPREAD_S
    assert of(Fetch, machine.step(Tick(), due_s)) == [asking(SHOP, 0, "digest-1")]


def test_a_hint_at_what_is_active_asks_nothing() -> None:
    machine = follow()
    _after(machine, ONE)
    assert wake_s(machine.step(Hinted({SHOP: "digest-1"}), 10)) == 30


def test_a_hint_during_a_question_is_looked_at_after_its_answer() -> None:
    machine = follow()
    machine.step(Tick(), 0)
    assert machine.step(Hinted({SHOP: "digest-2"}), 0) == []
    assert wake_s(machine.step(Answered(SHOP, 0, ONE), 0.01)) < 0.1
    machine.step(Tick(), 0.1)
    assert wake_s(machine.step(Answered(SHOP, 0, TWO), 0.11)) > 20


def test_a_storm_of_hints_is_bounded() -> None:
    machine, asked, now_s = follow(), 0, 0.0
    _after(machine, ONE)
    for number in range(1, 10_001):
        now_s = number / 1000
        for fetch in of(Fetch, machine.step(Hinted({SHOP: f"made-up-{number}"}), now_s)):
            asked += 1
            machine.step(Answered(fetch.subject, fetch.upstream, None), now_s)
    assert asked <= now_s / HINT_GAP_S + 1


def test_hints_do_not_stop_the_steady_poll() -> None:
    """A stream that only lies keeps nobody from the truth."""
    machine = follow()
    _after(machine, ONE)
    for second in range(1, 30):
        machine.step(Hinted({SHOP: "digest-1"}), second)
    assert of(Fetch, machine.step(Tick(), 30))


def test_hinted_subjects_go_first() -> None:
    machine = follow(subjects=(SHOP, MAIL))
    machine.step(Tick(), 0)
    machine.step(Answered(SHOP, 0, ONE), 0)
    machine.step(Answered(MAIL, 0, ONE), 0)
    machine.step(Hinted({MAIL: "digest-2"}), 29.99)
    assert of(Fetch, machine.step(Tick(), 40))[0].subject == MAIL


def test_hinted_subjects_go_first_among_overdue_ones() -> None:
    """An edge that can't keep up with its polls must not let hints wait for all of them."""
    machine = follow(subjects=(SHOP, MAIL))
    machine.step(Tick(), 0)
    machine.step(Answered(SHOP, 0, ONE), 0)
    machine.step(Answered(MAIL, 0, ONE), 1)
    assert of(Fetch, machine.step(Hinted({MAIL: "digest-2"}), 60))[0].subject == MAIL


def test_one_question_at_a_time() -> None:
    machine = follow(subjects=(SHOP, MAIL))
    assert len(of(Fetch, machine.step(Tick(), 0))) == 1
    assert machine.step(Tick(), 99) == []


def test_a_failure_is_retried_soon_elsewhere() -> None:
    machine = follow(upstreams=2)
    machine.step(Tick(), 0)
    due_s = wake_s(machine.step(Failed(SHOP, 0), 0))
    assert due_s <= 0.5
    assert of(Fetch, machine.step(Tick(), due_s)) == [asking(SHOP, 1, None)]


def test_retries_end_with_the_budget_and_the_poll_goes_on() -> None:
    """An hour of a dead upstream costs whoever has an answer no more than an hour of a live one."""
    machine, now_s, asked = follow(), 0.0, 0
    commands = machine.step(Restored(SHOP, (ONE,)), now_s)
    while now_s < 3600:
        if of(Fetch, commands):
            asked += 1
            commands = machine.step(Failed(SHOP, 0), now_s)
        else:
            now_s = wake_s(commands)
            commands = machine.step(Tick(), now_s)
    assert 119 <= asked <= 121


def test_who_has_no_answer_asks_oftener_and_within_bounds() -> None:
    machine, now_s, asked = follow(), 0.0, 0
    commands = machine.step(Tick(), now_s)
    while now_s < 3600:
        if of(Fetch, commands):
            asked += 1
            commands = machine.step(Failed(SHOP, 0), now_s)
        else:
            now_s = wake_s(commands)
            commands = machine.step(Tick(), now_s)
    assert 120 <= asked <= 120 * 1.2 + 8 + 3600 * RETRIES_PER_S


def test_failing_over_needs_no_budget() -> None:
    """However much was retried before: a dead upstream is left within seconds, not polls."""
    machine, now_s = follow(upstreams=2, streams=True), 0.0
    commands = machine.step(Tick(), now_s)
    while now_s < 600:  # both are dead, and the budget is used up
        if of(Fetch, commands):
            commands = machine.step(Failed(SHOP, of(Fetch, commands)[0].upstream), now_s)
        else:
            now_s = wake_s(commands)
            commands = machine.step(Tick(), now_s)
    while now_s < 610 or not of(Fetch, commands):
        if of(Fetch, commands):
            commands = machine.step(Failed(SHOP, of(Fetch, commands)[0].upstream), now_s)
            continue
        now_s = wake_s(commands)
        commands = machine.step(Tick(), now_s)
    upstream = of(Fetch, commands)[0].upstream
    machine.step(Answered(SHOP, upstream, ONE), now_s)
    machine.step(Tick(), now_s + 45)
    machine.step(Answered(SHOP, 1 - upstream, None), now_s + 45)
    commands = machine.step(Hinted({SHOP: "digest-2"}), now_s + 50)
    asked_s = wake_s(commands)
    fetch = of(Fetch, machine.step(Tick(), asked_s))[0]
    assert wake_s(machine.step(Failed(SHOP, fetch.upstream), asked_s)) < asked_s + 1


def test_a_refusal_is_reported_once_and_another_upstream_asked() -> None:
    machine = follow(upstreams=2)
    machine.step(Tick(), 0)
    commands = machine.step(Refused(SHOP, 0, "signature", "no key signed it"), 0)
    assert of(Report, commands) == [Report(SHOP, 0, "signature", "no key signed it")]
    now_s = wake_s(commands)
    assert of(Fetch, machine.step(Tick(), now_s)) == [asking(SHOP, 1, None)]
    machine.step(Answered(SHOP, 1, ONE), now_s)
    now_s += 90
    assert of(Fetch, machine.step(Tick(), now_s)) == [Fetch(SHOP, 0, "digest-1", PATIENCE_S)]
    again = machine.step(Refused(SHOP, 0, "signature", "no key signed it"), now_s)
    assert of(Report, again) == []


def test_a_refusal_leaves_the_active_generation_alone() -> None:
    machine = follow()
    _after(machine, TWO)
    machine.step(Tick(), 30)
    commands = machine.step(Refused(SHOP, 0, "rollback", "older"), 30)
    assert of(Activate, commands) == []
    assert machine.standing(SHOP) == TWO


def test_when_all_refuse_they_are_asked_at_the_steady_rate() -> None:
    machine, asked, now_s = follow(upstreams=2), 0, 0.0
    commands = machine.step(Tick(), now_s)
    while now_s < 3600:
        fetches = of(Fetch, commands)
        if fetches:
            asked += 1
            event = Refused(SHOP, fetches[0].upstream, "signature", "no key signed it")
            commands = machine.step(event, now_s)
        else:
            now_s = wake_s(commands)
            commands = machine.step(Tick(), now_s)
    assert asked <= 120 * 1.2 + 8


def test_the_catalogue_names_whom_to_follow() -> None:
    machine = follow(subjects=(), catalogue=True)
    assert machine.step(Tick(), 0) == [FetchCatalogue(0, PATIENCE_MAX_S)]
    commands = machine.step(Catalogued(0, {SHOP: "digest-1"}), 0)
    assert commands == [asking(SHOP, 0, None)]
    commands = machine.step(Answered(SHOP, 0, ONE), 0)
    assert wake_s(commands) == 30


def test_the_catalogue_hints_too() -> None:
    machine = follow(subjects=(SHOP,), catalogue=True)
    machine.step(Tick(), 0)
    commands = machine.step(Catalogued(0, {SHOP: "digest-2"}), 0)
    commands = machine.step(Answered(SHOP, 0, ONE), 0.1)
    commands = machine.step(Tick(), wake_s(commands))
    assert of(FetchCatalogue, commands)
    commands = machine.step(Catalogued(0, {SHOP: "digest-2"}), 30)
    assert wake_s(commands) < 30.1


def test_a_subject_that_left_the_catalogue_still_answers() -> None:
    machine = follow(subjects=(), catalogue=True)
    machine.step(Tick(), 0)
    machine.step(Catalogued(0, {SHOP: "digest-1"}), 0)
    machine.step(Answered(SHOP, 0, ONE), 0)
    machine.step(Tick(), 30)
    machine.step(Catalogued(0, {}), 30)
    assert machine.standing(SHOP) == ONE


def test_names_that_one_upstream_made_up_are_not_asked_of_the_others_for_ever() -> None:
    machine = follow(subjects=(), catalogue=True, upstreams=2)
    made_up = {Subject("production", f"made-up-{number}"): "x" for number in range(100)}
    named = {0: {SHOP: "digest-1", **made_up}, 1: {SHOP: "digest-1"}}
    asked: list[Subject] = []
    commands = machine.step(Tick(), 0)
    now_s = 0.0
    while now_s < 600:
        if catalogues := of(FetchCatalogue, commands):
            upstream = catalogues[0].upstream
            gone = upstream == 0 and now_s > 0
            event: Event = Failed(None, 0) if gone else Catalogued(upstream, named[upstream])
        elif fetches := of(Fetch, commands):
            subject, upstream = fetches[0].subject, fetches[0].upstream
            asked += [subject] if now_s > 120 else []
            event = Answered(SHOP, upstream, ONE)
            if subject != SHOP:
                event = Refused(subject, upstream, "not-found", "there is no such subject")
        else:
            now_s, event = wake_s(commands), Tick()
        commands = machine.step(event, now_s)
    assert set(asked) == {SHOP}


def test_a_hint_at_an_unknown_subject_asks_the_catalogue() -> None:
    machine = follow(subjects=(), catalogue=True)
    machine.step(Tick(), 0)
    machine.step(Catalogued(0, {}), 0)
    due_s = wake_s(machine.step(Hinted({MAIL: "digest-1"}), 5))
    assert due_s < 5.1
    assert of(FetchCatalogue, machine.step(Tick(), due_s))


def test_the_stream_is_on_the_upstream_in_use() -> None:
    machine = follow(upstreams=2, streams=True)
    assert OpenStream(0) in machine.step(Tick(), 0)
    commands = machine.step(Failed(SHOP, 0), 0)
    assert of(CloseStream, commands)
    assert of(OpenStream, commands) == [OpenStream(1)]


def test_a_stream_that_opened_makes_up_for_what_was_not_heard() -> None:
    machine = follow(streams=True)
    _after(machine, ONE)
    assert wake_s(machine.step(StreamOpened(0), 5)) <= 6


def test_a_closed_stream_reopens_with_jitter_and_asks_once() -> None:
    machine = follow(streams=True)
    _after(machine, ONE)
    machine.step(StreamOpened(0), 0)
    machine.step(Tick(), 1)
    machine.step(Answered(SHOP, 0, None), 1)
    commands = machine.step(StreamClosed(0), 5)
    assert of(OpenStream, commands) == []
    assert wake_s(commands) <= 5 + REOPEN_SPREAD_S
    assert of(OpenStream, machine.step(Tick(), 9)) == [OpenStream(0)]


def test_a_hint_moves_no_steady_poll() -> None:
    """Thousands heard it at the same moment; their polls stay as far apart as they were."""
    machine = follow(streams=True)
    _after(machine, ONE)
    machine.step(StreamOpened(0), 0)
    machine.step(Tick(), 1)
    due_s = wake_s(machine.step(Answered(SHOP, 0, None), 1))
    machine.step(Hinted({SHOP: TWO.digest}), 5)
    machine.step(Tick(), 5.1)
    assert wake_s(machine.step(Answered(SHOP, 0, TWO), 5.2)) == due_s


def test_a_stream_that_was_cut_is_opened_again_where_a_poll_was_answered() -> None:
    machine = follow(streams=True)
    _after(machine, ONE)
    machine.step(StreamOpened(0), 0)
    machine.step(Tick(), 1)
    machine.step(Answered(SHOP, 0, None), 1)
    machine.step(StreamClosed(0, cut=True), 5)
    asked = machine.step(Tick(), 50)
    assert of(OpenStream, asked) == []
    assert len(of(Fetch, asked)) == 1
    assert of(OpenStream, machine.step(Failed(SHOP, 0), 50)) == []
    assert len(of(Fetch, machine.step(Tick(), 100))) == 1
    assert of(OpenStream, machine.step(Answered(SHOP, 0, None), 100)) == [OpenStream(0)]


def test_streams_that_never_hold_are_opened_ever_less_often() -> None:
    machine, now_s, opened = follow(streams=True, poll_interval_s=30), 0.0, 0
    commands = machine.step(Tick(), 0)
    while now_s < 600:
        event: object = None
        for command in commands:
            if isinstance(command, OpenStream):
                opened += 1
                event = StreamClosed(0)
            elif isinstance(command, Fetch):
                event = Answered(SHOP, 0, None)
                commands = machine.step(event, now_s)
                break
        else:
            if event is None:
                now_s = wake_s(commands)
                event = Tick()
            commands = machine.step(event, now_s)  # type: ignore[arg-type]
    assert opened < 60


def test_without_upstreams_it_answers_from_what_is_there() -> None:
    assert follow(upstreams=0).step(Restored(SHOP, (ONE,)), 0) == [Activate(SHOP, ONE)]
