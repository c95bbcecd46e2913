"""The checker of histories: known good ones, known bad ones, and one that tries every order."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.gameday.linear import (
    Append,
    Appended,
    Call,
    Delivery,
    Look,
    Names,
    Operation,
    Outcome,
    Read,
    Refused,
    Seen,
    linearizable,
    watch_faults,
)


def op(
    who: str, call: Call, called_s: float, outcome: Outcome | None = None, end_s: float = math.inf
) -> Operation:
    return Operation(who, call, called_s, outcome, end_s)


def put(name: str, expected: int | None = None) -> Append:
    return Append(name, expected)


GOOD = {
    "nothing happened": (),
    "one after the other": (
        op("a", put("x", 0), 0, Appended(1), 1),
        op("b", put("y", 1), 2, Appended(2), 3),
        op("a", Read(), 4, Names(("x", "y")), 5),
        op("a", Read(1, 1), 6, Names(("y",)), 7),
        op("a", Read(9), 6, Names(()), 7),
    ),
    "of two at once, one is refused": (
        op("a", put("x", 0), 0, Appended(1), 5),
        op("b", put("y", 0), 1, Refused(), 4),
        op("a", Look(), 6, Seen(1, "x"), 7),
    ),
    "a read beside an append sees it or not": (
        op("a", put("x", 0), 0, Appended(1), 5),
        op("b", Look(), 1, Seen(0, ""), 2),
        op("b", Look(), 3, Seen(1, "x"), 4),
    ),
    "no answer, and it took effect later": (
        op("a", put("x", 0), 0),
        op("b", Look(), 5, Seen(0, ""), 6),
        op("b", Look(), 7, Seen(1, "x"), 8),
    ),
    "no answer, and it never took effect": (
        op("a", put("x", 0), 0),
        op("b", put("y", 0), 5, Appended(1), 6),
        op("b", Read(), 7, Names(("y",)), 8),
    ),
    "no answer, and who comes after is refused": (
        op("a", put("x", 0), 0),
        op("b", put("y", 0), 5, Refused(), 6),
    ),
    "an entry that goes onto whatever is there": (
        op("a", put("x"), 0, Appended(2), 9),
        op("b", put("y"), 1, Appended(1), 8),
        op("c", put("z"), 2),
        op("a", Read(), 10, Names(("y", "x", "z")), 11),
    ),
    "a read that failed says nothing": (op("a", Look(), 0),),
}

BAD = {
    "stale read": (
        op("a", put("x", 0), 0, Appended(1), 1),
        op("b", Look(), 2, Seen(0, ""), 3),
    ),
    "a read goes back": (
        op("a", put("x", 0), 0, Appended(1), 9),
        op("b", Look(), 1, Seen(1, "x"), 2),
        op("c", Look(), 3, Seen(0, ""), 4),
    ),
    "acknowledged and lost": (
        op("a", put("x", 0), 0, Appended(1), 1),
        op("b", Read(), 2, Names(()), 3),
    ),
    "acknowledged, then another one in its place": (
        op("a", put("x", 0), 0, Appended(1), 1),
        op("b", put("y", 0), 2, Appended(1), 3),
    ),
    "appended twice": (
        op("a", put("x"), 0, Appended(1), 1),
        op("b", Read(), 2, Names(("x", "x")), 3),
    ),
    "tried again blindly after no answer": (
        op("a", put("x"), 0),
        op("b", put("y"), 0, Appended(2), 1),
        op("b", Read(), 5, Names(("x", "y", "x")), 6),
    ),
    "refused, and appended": (
        op("a", put("y", 0), 0, Appended(1), 1),
        op("b", put("x", 0), 2, Refused(), 3),
        op("b", Read(), 4, Names(("y", "x")), 5),
    ),
    "refused without a reason": (
        op("a", put("x", 0), 0, Refused(), 1),
        op("b", Look(), 2, Seen(0, ""), 3),
    ),
    "both of two at once": (
        op("a", put("x", 0), 0, Appended(1), 5),
        op("b", put("y", 0), 1, Appended(1), 4),
    ),
    "an entry before anybody asked for it": (
        op("b", Look(), 0, Seen(1, "x"), 1),
        op("a", put("x", 0), 2, Appended(1), 3),
    ),
    "without an answer it takes effect once at most": (
        op("a", put("x", 0), 0),
        op("b", Look(), 1, Seen(1, "x"), 2),
        op("b", Look(), 3, Seen(0, ""), 4),
    ),
    "an entry that nobody appended": (op("a", Read(), 0, Names(("x",)), 1),),
    "an entry changes": (
        op("a", put("x", 0), 0),
        op("a", put("y", 0), 0),
        op("b", Read(), 1, Names(("x",)), 2),
        op("b", Read(), 3, Names(("y",)), 4),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_is_explained_by_an_order(name: str) -> None:
    history = GOOD[name]
    verdict = linearizable(history)
    assert verdict.ok
    assert explains([history[index] for index in verdict.order])


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_refused_and_says_where(name: str) -> None:
    verdict = linearizable(BAD[name])
    assert verdict.text == "not linearizable"
    assert verdict.stuck


# -- the slow one: all orders of all subsets


def explains(order: Sequence[Operation]) -> bool:
    """Whether a list could have answered so, one after the other."""
    names: list[str] = []
    for one in order:
        if isinstance(one.call, Append):
            fits = one.call.expected in {None, len(names)}
            if one.outcome is None or one.outcome == Appended(len(names) + 1):
                if not fits:
                    return False
                names.append(one.call.name)
            elif one.outcome != Refused() or fits:
                return False
        elif isinstance(one.call, Look):
            if one.outcome != Seen(len(names), names[-1] if names else ""):
                return False
        else:
            end = None if one.call.limit is None else one.call.after + one.call.limit
            if one.outcome != Names(tuple(names[one.call.after : end])):
                return False
    return True


def in_time(order: Sequence[Operation]) -> bool:
    pairs = itertools.combinations(order, 2)
    return not any(later.returned_s < earlier.called_s for earlier, later in pairs)


def slowly(history: Sequence[Operation]) -> bool:
    done = [one for one in history if one.outcome is not None]
    open_ones = [one for one in history if one.outcome is None and isinstance(one.call, Append)]
    return any(
        in_time(order) and explains(order)
        for count in range(len(open_ones) + 1)
        for some in itertools.combinations(open_ones, count)
        for order in itertools.permutations([*done, *some])
    )


def played(chance: random.Random, length: int, lost: float = 0.2) -> list[Operation]:
    """What a right journal answers to `length` operations that overlap; some answers are lost.

    What an operation does, it does at the moment `at_s`; it was called before and returns after.
    """
    names: list[str] = []
    history = []
    for number in range(length):
        at_s = float(number)
        called_s, end_s = at_s - chance.uniform(0, 3), at_s + chance.uniform(0, 3)
        kind = chance.randrange(4)
        outcome: Outcome
        call: Call
        if kind < 2:
            near = len(names) - chance.randrange(2)
            call = put(f"e{number}", None if kind else max(0, near))
            happens = chance.random() > lost / 2
            if not happens:
                history.append(op(f"w{number}", call, called_s))
                continue
            outcome = Refused()
            if call.expected in {None, len(names)}:
                names.append(call.name)
                outcome = Appended(len(names))
        elif kind == 2:
            call, outcome = Look(), Seen(len(names), names[-1] if names else "")
        else:
            after = chance.randrange(len(names) + 1)
            call, outcome = Read(after), Names(tuple(names[after:]))
        unheard = chance.random() < lost
        history.append(
            op(f"w{number}", call, called_s, *((None,) if unheard else (outcome, end_s)))
        )
    chance.shuffle(history)
    return history


def broken(chance: random.Random, history: Sequence[Operation]) -> list[Operation]:
    """The same with one answer changed to another one of its kind."""
    answered = [number for number, one in enumerate(history) if one.outcome is not None]
    if not answered:
        return list(history)
    number = chance.choice(answered)
    one = history[number]
    outcome: Outcome
    if isinstance(one.outcome, Appended):
        outcome = chance.choice((Refused(), Appended(one.outcome.revision + 1)))
    elif isinstance(one.outcome, Refused):
        outcome = Appended(chance.randrange(1, 4))
    elif isinstance(one.outcome, Seen):
        outcome = chance.choice((Seen(0, ""), Seen(one.outcome.revision, "nobody's")))
    else:
        assert isinstance(one.outcome, Names)
        outcome = Names((*one.outcome.names[:-1], *chance.choice(((), ("e0",), ("e0", "e0")))))
    changed = op(one.who, one.call, one.called_s, outcome, one.returned_s)
    return [*history[:number], changed, *history[number + 1 :]]


SEEDS = st.integers(0, 2**32)


@given(SEEDS, st.integers(0, 60))
def test_whatever_a_right_journal_answered_is_accepted(seed: int, length: int) -> None:
    history = played(random.Random(seed), length)
    verdict = linearizable(history)
    assert verdict.ok
    order = [history[index] for index in verdict.order]
    assert explains(order)
    assert in_time(order)
    left = [one for one in history if one not in order]
    assert all(one.outcome is None for one in left)


@given(SEEDS, st.integers(0, 6))
def test_it_agrees_with_one_that_tries_all_orders(seed: int, length: int) -> None:
    chance = random.Random(seed)
    history = broken(chance, played(chance, length))
    assert linearizable(history).ok == slowly(history)


@given(SEEDS, st.integers(20, 60))
def test_what_was_acknowledged_and_lost_is_seen(seed: int, length: int) -> None:
    history = played(random.Random(seed), length, lost=0.0)
    names = max(
        (one.outcome.revision, one.call.name)
        for one in history
        if isinstance(one.call, Append) and isinstance(one.outcome, Appended)
    )
    lost = Read(names[0] - 1)
    assert not linearizable([*history, op("last", lost, length + 9, Names(()), length + 10)]).ok


def test_a_journal_may_have_entries_at_first() -> None:
    history = [
        op("a", put("x", 2), 0, Appended(3), 1),
        op("b", Read(1), 2, Names(("two", "x")), 3),
        op("b", put("y", 0), 2, Refused(), 3),
    ]
    assert linearizable(history, ("one", "two")).ok
    assert not linearizable(history).ok
    assert not linearizable(history, ("one", "other")).ok


def test_a_long_history_takes_as_many_steps_as_it_has_operations() -> None:
    history = played(random.Random(1), 4_000)
    verdict = linearizable(history)
    assert verdict.ok
    assert verdict.configurations < 5 * len(history)


def test_a_history_may_be_too_hard_and_then_it_says_so() -> None:
    """Many appends without an answer, onto anything, and none of them is ever read."""
    history = [op(f"w{number}", put(f"e{number}"), 0) for number in range(40)]
    history.append(op("a", put("last", 3), 0, Appended(5), 1))
    verdict = linearizable(history, configurations_max=1_000)
    assert verdict.text == "too hard"
    assert not verdict.ok
    assert verdict.configurations == 1_000


# -- watches


def given_to(watcher: str, *revisions: int) -> list[Delivery]:
    return [Delivery(watcher, revision, f"e{revision}") for revision in revisions]


JOURNAL = ("e1", "e2", "e3", "e4")


def test_all_in_order_is_well_whatever_the_watchers_began_with() -> None:
    came = [*given_to("a", 1, 2), *given_to("b", 4), *given_to("a", 3, 4)]
    assert watch_faults(came, JOURNAL, {"a": 0, "b": 3, "c": 4}) == []


@pytest.mark.parametrize(
    ("revisions", "told"),
    [
        ((1, 3, 4), "a: gap: 2 to 2 never came"),
        ((1, 2, 2, 3, 4), "a: 2 came again, or after 2"),
        ((2, 1, 3, 4), "a: 1 came again, or after 2"),
        ((1, 2), "a: 3 to 4 never came"),
        ((1, 2, 3, 4, 5), "a: 5 was e5, the journal has nothing"),
    ],
)
def test_what_is_missing_doubled_or_early_is_told(revisions: tuple[int, ...], told: str) -> None:
    assert told in watch_faults(given_to("a", *revisions), JOURNAL, {"a": 0})


def test_another_entry_than_the_journal_has_is_told() -> None:
    (fault,) = watch_faults([Delivery("a", 4, "x")], JOURNAL, {"a": 3})
    assert fault == "a: 4 was x, the journal has e4"


@given(st.permutations(JOURNAL), st.integers(0, 4))
def test_no_other_order_is_well(names: list[str], keep: int) -> None:
    came = [Delivery("a", JOURNAL.index(name) + 1, name) for name in names[:keep]]
    well = tuple(names[:keep]) == JOURNAL
    assert (watch_faults(came, JOURNAL, {"a": 0}) == []) == well
