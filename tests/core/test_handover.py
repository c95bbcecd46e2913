"""Conversations with the machine that gives a place away: whatever happens, somebody serves."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.handover import Event, OutOfTurn, step


def talk(*events: str) -> tuple[str, list[str]]:
    state, done = "serving", []
    for event in events:
        state, commands = step(state, event)  # type: ignore[arg-type]
        done += commands
    return state, done


def test_a_takeover() -> None:
    assert talk("asked", "proven", "serving") == ("left", ["offer", "lay down", "give", "leave"])


@pytest.mark.parametrize("end", ["gone", "ended", "late"])
def test_who_proves_nothing_changes_nothing(end: str) -> None:
    assert talk("asked", end) == ("serving", ["offer", "hang up"])


@pytest.mark.parametrize("end", ["gone", "ended"])
def test_who_was_given_the_cache_and_goes_leaves_it_to_who_had_it(end: str) -> None:
    state, done = talk("asked", "proven", end)
    assert (state, done[-2:]) == ("serving", ["take up", "hang up"])


def test_who_dies_after_it_served_is_stood_in_for() -> None:
    state, done = talk("asked", "proven", "serving", "gone")
    assert (state, done[-3:]) == ("serving", ["take up", "stay", "hang up"])


def test_who_is_told_to_end_is_not_stood_in_for() -> None:
    assert talk("asked", "proven", "serving", "ended")[0] == "done"


def test_a_second_takeover_follows_a_failed_one() -> None:
    assert talk("asked", "gone", "asked", "proven", "serving")[0] == "left"


def test_what_comes_out_of_turn_is_refused() -> None:
    with pytest.raises(OutOfTurn):
        talk("serving")


@given(st.lists(st.sampled_from(get_args(Event)), max_size=30))
def test_the_cache_has_one_writer_and_somebody_accepts(events: list[str]) -> None:
    """Ours: the cache is written here. Theirs: it was given, and who has it is still there."""
    state, ours, theirs, accepts, they_accept = "serving", True, False, True, False
    for event in events:
        try:
            state, commands = step(state, event)  # type: ignore[arg-type]
        except OutOfTurn:
            continue
        they_accept = they_accept or event == "serving"
        if event in {"gone", "ended"}:
            theirs = they_accept = False
        for command in commands:
            assert command != "give" or not ours
            assert command != "take up" or not theirs
            ours = {"lay down": False, "take up": True}.get(command, ours)
            theirs = theirs or command == "give"
            accepts = {"leave": False, "stay": True}.get(command, accepts)
        assert not (ours and theirs)
        assert accepts or they_accept or state == "done"
