"""Rollouts over random histories: sticky, exact on both sides, gone without a trace."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.core.histories import state_after
from tests.core.staged_histories import (
    BEGINNING,
    CONTEXTS,
    STAGED_EVERYWHERE,
    Journal,
    actions,
    admitted,
    check_answers,
    exposed,
)

from holdfast.core import trust
from holdfast.core.build import build
from holdfast.core.history import decode_state, encode_state
from holdfast.core.model import (
    Edit,
    Head,
    MoveRollout,
    PutSetting,
    Setting,
    StartRollout,
    Subject,
    Targeting,
)
from holdfast.core.snapshot import decode, encode
from holdfast.core.subjects import subject_revision, subjects

SHORT = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
LONG = settings(SHORT, max_examples=1_500)
Actions = list[Sequence[Edit] | str]
ON = Setting("integer", {"few": 9}, {"production": Targeting(), "staging": Targeting()})
OFF_IN_STAGING = Setting("integer", {"few": 9}, {"staging": Targeting(enabled=False)})


@given(actions)
@SHORT
def test_each_side_answers_as_it_would_alone(wanted: Actions) -> None:
    check_sides(wanted)


@pytest.mark.long
@given(actions)
@LONG
def test_each_side_answers_as_it_would_alone_at_length(wanted: Actions) -> None:
    check_sides(wanted)


def check_sides(wanted: Actions) -> None:
    journal = Journal()
    for action in wanted:
        if journal.act(action):
            for subject, body in journal.steps[-1].bodies.items():
                if not subject.service.startswith("_"):
                    check_answers(journal.state, subject, body)
    assert decode_state(encode_state(journal.state)) == journal.state


@given(actions)
@SHORT
def test_whoever_was_exposed_stays_so(wanted: Actions) -> None:
    journal = Journal()
    seen: defaultdict[tuple[Subject, str], set[int]] = defaultdict(set)
    for action in wanted:
        if not journal.act(action):
            continue
        for subject, body in journal.steps[-1].bodies.items():
            snapshot = decode(body)
            for name in snapshot.holdfast.rollouts:
                now = {n for n, c in enumerate(CONTEXTS) if exposed(snapshot, name, c)}
                assert seen[subject, name] <= now
                seen[subject, name] = now


@given(actions, st.randoms(use_true_random=False))
@SHORT
def test_consumers_that_skip_revisions_never_refuse(wanted: Actions, chance: random.Random) -> None:
    check_skipping(wanted, chance)


@pytest.mark.long
@given(actions, st.randoms(use_true_random=False))
@LONG
def test_consumers_that_skip_revisions_never_refuse_at_length(
    wanted: Actions, chance: random.Random
) -> None:
    check_skipping(wanted, chance)


def check_skipping(wanted: Actions, chance: random.Random) -> None:
    journal = Journal()
    held: dict[tuple[Subject, float], trust.Admitted] = {}
    for action in wanted:
        if not journal.act(action):
            continue
        for subject, body in journal.steps[-1].bodies.items():
            for patience in (0.0, 0.5, 0.8):
                if chance.random() >= patience:
                    before = held.get((subject, patience))
                    held[subject, patience] = admitted(body, subject, before)


@given(actions)
@SHORT
def test_completed_leaves_no_trace(wanted: Actions) -> None:
    """Once all rollouts are completed, bodies differ from those without any in numbers alone."""
    journal = Journal()
    for action in wanted:
        journal.act(action)
    while journal.state.rollouts:
        assert journal.act("complete")
    assert_like_a_plain_build(journal)


@example(
    [[PutSetting("alpha", "a", ON)], [PutSetting("alpha", "a", OFF_IN_STAGING)]], STAGED_EVERYWHERE
)
@given(actions, st.sampled_from([BEGINNING, STAGED_EVERYWHERE]))
@SHORT
def test_rolled_back_is_as_before(wanted: Actions, beginning: Sequence[Edit]) -> None:
    check_rolled_back(wanted, beginning)


@pytest.mark.long
@given(actions, st.sampled_from([BEGINNING, STAGED_EVERYWHERE]))
@LONG
def test_rolled_back_is_as_before_at_length(wanted: Actions, beginning: Sequence[Edit]) -> None:
    check_rolled_back(wanted, beginning)


def check_rolled_back(wanted: Actions, beginning: Sequence[Edit]) -> None:
    journal = Journal(beginning)
    for action in wanted:
        before = journal.state
        if not journal.act(action) or isinstance(action, str):
            continue
        begun = [name for name in journal.state.rollouts if name not in before.rollouts]
        if not begun:
            continue
        ended = [name for name in before.rollouts if name not in journal.state.rollouts]
        kept = bodies_before(journal, ended)
        environment = journal.state.rollouts[begun[0]].environment
        assert journal.act_on(begun[0], "back"), "a rollback is never refused"
        for subject, body in journal.steps[-1].bodies.items():
            if subject.environment == environment and subject in kept:
                assert content(body) == content(kept[subject]), subject


def bodies_before(journal: Journal, ended: Sequence[str]) -> dict[Subject, bytes]:
    """What consumers had before the last change.

    A kill switch takes back what was on its way to its setting, and begins from there: then it is
    what they would have had once those rollouts were rolled back.
    """
    earlier = Journal(journal.edits[0])
    for edits in journal.edits[1:-1]:
        assert earlier.commit(edits, automation=True)
    for name in ended:
        assert earlier.act_on(name, "back")
    return {s: b for one in earlier.steps for s, b in one.bodies.items()}


def content(body: bytes) -> Any:
    """A snapshot without its revision numbers and what follows from them."""
    document = msgspec.json.decode(body)
    facts = document["holdfast"]
    settings = {
        key: {name: value for name, value in one.items() if name not in ("revision", "digest")}
        for key, one in facts["settings"].items()
    }
    segments = document["$evaluators"], facts["segments"]
    return document["flags"], segments, settings, facts["schemas"], facts["rollouts"]


def assert_like_a_plain_build(journal: Journal) -> None:
    """As from a journal of the same edits in which nothing was ever on its way."""
    told = [
        [one for one in edits if not isinstance(one, StartRollout | MoveRollout)]
        for edits in journal.edits
    ]
    plain = state_after(*told)
    assert subjects(plain) == journal.standing.live
    for subject in journal.standing.live:
        at = Head(subject_revision(plain, subject), "0" * 64)
        alone = encode(build(plain, subject, None, head=at))
        bodies = [one.bodies[subject] for one in journal.steps if subject in one.bodies]
        assert content(bodies[-1]) == content(alone), subject
        assert b"rollout:" not in bodies[-1]
