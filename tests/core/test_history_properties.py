"""No unexplained change: an entry touches exactly what it changes. Played on random journals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core import staged_histories

from holdfast.core.history import (
    EMPTY,
    State,
    closure,
    decode_state,
    diff,
    encode_state,
    fold,
    fold_all,
    restore,
    revert,
    seal,
)
from holdfast.core.model import (
    Audience,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    Edit,
    Entry,
    Environment,
    PutEnvironment,
    PutSegment,
    PutService,
    PutSetting,
    Rule,
    Segment,
    Service,
    Setting,
    Targeting,
)
from holdfast.core.subjects import revisions

SHORT = settings(deadline=None, max_examples=25)
LONG = settings(deadline=None, max_examples=1_500)

ENVIRONMENTS = ("production", "staging", "test")
SERVICES = ("shop", "mail", "shared")
KEYS = ("a", "b", "c")

_values = st.sampled_from([0, 1, True, False, "x", 1.5, {"deep": [1, True]}])
_targeting = st.builds(
    Targeting,
    default=st.sampled_from([None, "on", "off"]),
    enabled=st.booleans(),
    rules=st.sampled_from([(), (Rule(serve="on", logic={"var": "beta"}),)]),
)
_setting = st.builds(
    Setting,
    type=st.just("object"),
    variants=st.fixed_dictionaries({"on": _values, "off": _values}),
    environments=st.dictionaries(st.sampled_from(ENVIRONMENTS), _targeting),
    description=st.sampled_from(["", "words"]),
    schema=st.sampled_from([None, {"minimum": 1}]),
)
_audience = st.builds(
    Audience, by=st.just("tenant"), members=st.sampled_from([(), ("a",), ("a", "b")])
)
_segment = st.builds(
    Segment,
    audience=_audience,
    environments=st.dictionaries(st.sampled_from(ENVIRONMENTS), _audience, max_size=2),
)
_service = st.builds(
    Service,
    includes=st.lists(st.sampled_from(SERVICES), unique=True, max_size=2).map(tuple),
    description=st.sampled_from(["", "words"]),
)
_names, _keys = st.sampled_from(SERVICES), st.sampled_from(KEYS)
_edit: st.SearchStrategy[Edit] = st.one_of(
    st.builds(PutSetting, _names, _keys, _setting),
    st.builds(PutSetting, _names, _keys, _setting),
    st.builds(DeleteSetting, _names, _keys),
    st.builds(PutSegment, _names, _keys, _segment),
    st.builds(DeleteSegment, _names, _keys),
    st.builds(PutService, _names, _service),
    st.builds(DeleteService, _names),
    st.builds(
        PutEnvironment,
        st.sampled_from(ENVIRONMENTS),
        st.builds(Environment, bucketing=st.sampled_from(["v2", "v3"])),
    ),
)
_changes = st.lists(st.lists(_edit, min_size=1, max_size=4), min_size=1, max_size=12)


def entries_of(changes: list[list[Edit]]) -> list[Entry]:
    entries, state = [], EMPTY
    for edits in changes:
        entries.append(seal(state.head, 1, "ann", "", edits))
        state = fold(state, entries[-1])
    return entries


def own_content(state: State, service: str, environment: str) -> bytes:
    """All of a service that may move an answer in one environment, its includes' names too."""
    kept = state.services.get(service)
    if kept is None:
        return b"gone"
    shown: list[Any] = []
    for key in sorted(kept.settings):
        one = kept.settings[key].setting
        if environment in one.environments:
            targeting = one.environments[environment]
            shown.append([key, one.type, one.variants, one.schema, one.metadata, targeting])
    for name in sorted(kept.segments):
        segment = kept.segments[name].segment
        shown.append([name, segment.environments.get(environment, segment.audience)])
    return msgspec.json.encode(shown, order="deterministic")


def reached(state: State, service: str) -> set[str]:
    names = closure(state.services, service)
    return {environment for name in names for environment in state.services[name].touched}


@given(_changes)
@SHORT
def test_an_entry_touches_exactly_the_environments_that_it_changes(
    changes: list[list[Edit]],
) -> None:
    check_touching(changes)


@pytest.mark.long
@given(_changes)
@LONG
def test_an_entry_touches_exactly_the_environments_that_it_changes_at_length(
    changes: list[list[Edit]],
) -> None:
    check_touching(changes)


def check_touching(changes: list[list[Edit]]) -> None:
    old = EMPTY
    for entry in entries_of(changes):
        new = fold(old, entry)
        for service in new.services:
            before, now = old.services.get(service), new.services[service]
            includes = before.info.includes if before else ()
            by_include = includes != now.info.includes
            wide = reached(old, service) | reached(new, service) if by_include else set()
            came = before is None and now.touched
            for environment in ENVIRONMENTS:
                segments_only = environment not in new.environments.keys() | now.touched.keys()
                differs = own_content(old, service, environment) != own_content(
                    new, service, environment
                )
                if before is None and own_content(new, service, environment) == b"[]":
                    differs = environment in came if came else False
                expected = (differs and not segments_only) or environment in wide
                touched = now.touched.get(environment) == entry.revision
                assert touched == expected, (entry, service, environment)
        old = new


@given(_changes)
@SHORT
def test_a_revision_moves_exactly_with_what_it_is_of(changes: list[list[Edit]]) -> None:
    old = EMPTY
    for entry in entries_of(changes):
        new = fold(old, entry)
        for service, kept in new.services.items():
            for key, now in kept.settings.items():
                assert now.revisions.keys() == now.setting.environments.keys()
                past = old.services.get(service)
                before = past.settings.get(key) if past else None
                for environment, revision in now.revisions.items():
                    assert revision <= kept.touched[environment] <= entry.revision
                    if before is None or environment not in before.revisions:
                        assert revision == entry.revision
        old = new


@given(_changes)
@SHORT
def test_what_goes_away_is_named_and_what_stands_is_not(changes: list[list[Edit]]) -> None:
    old = EMPTY
    for entry in entries_of(changes):
        new = fold(old, entry)
        for service, kept in {**new.gone, **new.services}.items():
            past = old.services.get(service)
            for key, before in past.settings.items() if past else ():
                for environment in before.setting.environments:
                    now = kept.settings.get(key)
                    stands = now is not None and environment in now.setting.environments
                    buried = kept.removed.get(environment, {}).get(key)
                    assert stands or buried == entry.revision
        old = new


@given(_changes)
@SHORT
def test_folds_agree_whole_stepwise_and_through_a_checkpoint(changes: list[list[Edit]]) -> None:
    entries, stepwise, through = entries_of(changes), EMPTY, EMPTY
    for entry in entries:
        stepwise = fold(stepwise, entry)
        through = fold(decode_state(encode_state(through)), entry)
    assert fold_all(EMPTY, entries) == stepwise == through
    assert encode_state(stepwise) == encode_state(through)


@given(_changes)
@SHORT
def test_a_difference_names_the_environments_that_a_setting_touches(
    changes: list[list[Edit]],
) -> None:
    old = EMPTY
    for entry in entries_of(changes):
        new = fold(old, entry)
        for found in diff(old, new):
            if found.kind == "setting" and found.after is not None:
                revisions = new.services[found.service].settings[found.name].revisions
                moved = {name for name, at in revisions.items() if at == entry.revision}
                gone = set(found.environments) - moved
                assert moved <= set(found.environments)
                assert all(name not in revisions for name in gone)
        old = new


@given(_changes)
@SHORT
def test_no_difference_means_the_same_content(changes: list[list[Edit]]) -> None:
    states = [EMPTY]
    for entry in entries_of(changes):
        states.append(fold(states[-1], entry))
    for old, new in pairwise(states):
        assert diff(new, new) == ()
        assert bool(diff(old, new)) == (content(old) != content(new))


def content(state: State) -> Any:
    """A state without its bookkeeping: what authors put there."""
    return msgspec.json.encode(
        [
            {
                name: [
                    one.info,
                    {key: kept.setting for key, kept in one.settings.items()},
                    {key: kept.segment for key, kept in one.segments.items()},
                ]
                for name, one in state.services.items()
            },
            {name: one.environment for name, one in state.environments.items()},
        ],
        order="deterministic",
    )


@given(_changes, st.data())
@SHORT
def test_undoing_the_newest_revisions_leads_back(
    changes: list[list[Edit]], data: st.DataObject
) -> None:
    states = [EMPTY]
    for entry in entries_of(changes):
        states.append(fold(states[-1], entry))
    first = data.draw(st.integers(1, len(changes)))
    before, head = states[first - 1], states[-1]

    undo = revert(before, head, head)

    assert all(problem.severity == "warning" for problem in undo.problems)
    undone = fold(head, seal(head.head, 1, "ann", "", undo.edits))
    assert [one for one in diff(before, undone) if one.kind != "environment"] == []


@given(_changes, st.data())
@SHORT
def test_undoing_an_old_revision_never_takes_newer_work_away(
    changes: list[list[Edit]], data: st.DataObject
) -> None:
    states = [EMPTY]
    for entry in entries_of(changes):
        states.append(fold(states[-1], entry))
    revision = data.draw(st.integers(1, len(changes)))
    before, after, head = states[revision - 1], states[revision], states[-1]

    undo = revert(before, after, head)

    mine = {(one.kind, one.service, one.name) for one in diff(before, after)}
    undone = fold(head, seal(head.head, 1, "ann", "", undo.edits))
    for found in diff(head, undone):
        if undo.problems:
            break
        assert (found.kind, found.service, found.name) in mine


@given(_changes, st.data())
@SHORT
def test_restoring_brings_back_what_stood(changes: list[list[Edit]], data: st.DataObject) -> None:
    states = [EMPTY]
    for entry in entries_of(changes):
        states.append(fold(states[-1], entry))
    past, head = data.draw(st.sampled_from(states)), states[-1]
    service, key = data.draw(_names), data.draw(_keys)

    undo = restore(past, head, service, key)

    stood = past.services.get(service)
    if undo.problems:
        codes = {problem.code for problem in undo.problems}
        assert codes == ({"exists"} if stood and key in stood.settings else {"not-found"})
    else:
        back = fold(head, seal(head.head, 1, "ann", "", undo.edits))
        assert stood is not None
        assert back.services[service].settings[key].setting == stood.settings[key].setting


@settings(max_examples=60, deadline=None)
@given(staged_histories.actions)
def test_the_state_tells_which_snapshots_its_entry_made(
    actions: list[Sequence[Edit] | str],
) -> None:
    """By this a commit that is asked for again is answered as the first time."""
    journal = staged_histories.Journal()
    for action in actions:
        journal.act(action)
    for made in journal.steps:
        state = made.standing.state
        told = {one for one, at in revisions(state).items() if at == state.head.revision}
        assert told == made.bodies.keys()
