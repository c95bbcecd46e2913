"""Overrides over random histories: the same bytes wherever they are made, and never a step back."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.core.staged_histories import CONTEXTS, Journal, actions, admitted, evaluator_of

from holdfast.core import proof, trust
from holdfast.core.errors import Untrusted
from holdfast.core.history import decode_state, encode_state
from holdfast.core.lineage import rebuild, step
from holdfast.core.model import (
    DeleteService,
    DeleteSetting,
    Edit,
    Entry,
    Head,
    PutOverride,
    PutSetting,
    Setting,
    Subject,
    Targeting,
    TouchSubject,
)
from holdfast.core.overrides import serving, successor, valued
from holdfast.core.probes import PROBES_MAX, count
from holdfast.core.pushes import Order, entry_of
from holdfast.core.snapshot import Snapshot, decode, encode, pushed_keys
from holdfast.core.validate import validate
from holdfast.core.wire import digest

SHORT = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
LONG = settings(SHORT, max_examples=1_500)
Actions = list[Sequence[Edit] | str]


def pushable(journal: Journal) -> list[tuple[Subject, str]]:
    found = []
    for subject in sorted(journal.standing.live):
        if subject.service.startswith("_"):
            continue
        snapshot = decode(rebuild(journal.standing, subject))
        found += [(subject, key) for key in sorted(snapshot.flags)]
    return found


def offline(body: bytes, subject: Subject, key: str, head: Head) -> tuple[Entry, bytes]:
    """What a push makes of an edge's generation, with nothing else at hand."""
    active = admitted(body, subject, None)
    variants = msgspec.json.decode(active.snapshot.flags[key])["variants"]
    flags = {key: serving(active.snapshot, key, min(variants), "INC-7")}
    entry = entry_of([Order(active, flags)], head, 10**12, "linus", "INC-7")
    made = successor(active.snapshot, active.digest, flags, Head(entry.revision, entry.hash))
    return entry, encode(made)


def append(journal: Journal, entry: Entry) -> None:
    made = step(journal.standing, entry)
    journal.standing = made.standing
    journal.steps.append(made)


def serves(snapshot: Snapshot, key: str) -> set[object]:
    return {evaluator_of(snapshot).evaluate(key, context).value for context in CONTEXTS}


def believe(old: trust.Admitted, body: bytes) -> trust.Admitted:
    """As a consumer takes it, by all of its checks but those that need a table."""
    new = admitted(body, old.subject, old)
    if not (old.snapshot.holdfast.segments or new.snapshot.holdfast.segments):
        generations = (trust.equip(one, {}, lambda: 0.0) for one in (new, old))
        proof.prove(*generations)
    return new


def held_after(old: trust.Admitted, body: bytes) -> trust.Admitted:
    """What a consumer has then: the old one where authors broke a setting that nobody pushed."""
    try:
        return believe(old, body)
    except Untrusted as refused:
        if refused.code != "probe" or refused.key in pushed_keys(old.snapshot):
            raise
        return old


@given(actions, actions, st.integers(0, 10**6))
@SHORT
def test_who_has_a_snapshot_makes_the_bytes_of_the_journal(
    before: Actions, after: Actions, pick: int
) -> None:
    check_bytes(before, after, pick)


@pytest.mark.long
@given(actions, actions, st.integers(0, 10**6))
@LONG
def test_who_has_a_snapshot_makes_the_bytes_of_the_journal_at_length(
    before: Actions, after: Actions, pick: int
) -> None:
    check_bytes(before, after, pick)


def check_bytes(before: Actions, after: Actions, pick: int) -> None:
    journal = Journal()
    for action in before:
        journal.act(action)
    choices = pushable(journal)
    if not choices:
        return
    subject, key = choices[pick % len(choices)]
    held = rebuild(journal.standing, subject)
    active = admitted(held, subject, None)
    for again in (key, choices[pick // 7 % len(choices)][1], key):  # one push, and more on top
        if again not in active.snapshot.flags:
            continue
        entry, made = offline(active.body, subject, again, journal.state.head)
        append(journal, entry)
        assert journal.steps[-1].bodies == {subject: made}
        assert rebuild(journal.standing, subject) == made
        active = believe(active, made)
        assert again in pushed_keys(active.snapshot)
    (value,) = serves(active.snapshot, key)
    assert decode_state(encode_state(journal.state)) == journal.state
    for action in after:  # life goes on, and it stands
        if not journal.act(action):
            continue
        body = journal.steps[-1].bodies.get(subject)
        if body is None:
            continue
        active = held_after(active, body)
        if key in pushed_keys(active.snapshot):
            assert serves(active.snapshot, key) == {value}


def test_what_authors_break_beside_it_is_refused_and_what_was_pushed_stands() -> None:
    """A found history: a rollout is completed, and with it a rule that nobody pushed gives for some
    what is no variant. To them it gave an answer as long as they were not exposed."""
    variants = {"few": 1, "many": 3, "none": 0}
    logic = {"if": [{"$ref": "pilot"}, {"cat": ["fe", "w"]}, {"missing": ["user"]}]}
    breaking = Setting("integer", variants, {"production": Targeting(logic=logic)})
    plain = Setting("integer", variants, {"production": Targeting(default="few")})
    before: Actions = [[PutSetting("beta", "a", plain), PutSetting("beta", "c", breaking)]]
    journal, beta = Journal(), Subject("production", "beta")
    assert journal.act(before[0])
    active = admitted(rebuild(journal.standing, beta), beta, None)
    assert journal.act("complete")
    with pytest.raises(Untrusted, match="'c' fails"):
        believe(active, journal.steps[-1].bodies[beta])
    check_bytes(before, ["complete"], 0)


@given(actions, actions, st.integers(0, 10**6))
@SHORT
def test_where_two_histories_meet_every_consumer_goes_on(
    before: Actions, meanwhile: Actions, pick: int
) -> None:
    journal = Journal()
    for action in before:
        journal.act(action)
    choices = pushable(journal)
    assume(choices)
    subject, key = choices[pick % len(choices)]
    held = admitted(rebuild(journal.standing, subject), subject, None)
    entry, made = offline(held.body, subject, key, journal.state.head)
    pushed = believe(held, made)
    for action in meanwhile:  # somebody writes on another node
        journal.act(action)
    assume(subject in journal.standing.live)
    assume(key in decode(rebuild(journal.standing, subject)).flags)
    edits = [edit for edit in entry.edits if isinstance(edit, PutOverride)]
    touch = TouchSubject(subject.environment, subject.service)
    while journal.standing.lineages[subject].revision <= entry.revision:
        assert journal.commit((touch,))
    assume(journal.commit((touch, *edits)))  # a type that changed meanwhile is refused
    body = journal.steps[-1].bodies[subject]
    after = admitted(body, subject, pushed)
    assert after.revision > pushed.revision
    assert serves(after.snapshot, key) == serves(pushed.snapshot, key)
    assert digest(body) == after.digest


def test_what_no_probe_had_room_for_can_be_pushed_over() -> None:
    """A push brings a probe of its own, on top of those that there is room for."""
    journal, beta = Journal(), Subject("staging", "beta")
    plain = Setting("integer", {"few": 1, "many": 3}, {"staging": Targeting(default="few")})
    assert journal.act([PutSetting("beta", f"k{n}", plain) for n in range(PROBES_MAX + 1)])
    active = admitted(rebuild(journal.standing, beta), beta, None)
    probes = active.snapshot.holdfast.probes
    assert count(probes) == PROBES_MAX
    (key,) = active.snapshot.flags.keys() - probes.keys()
    entry, made = offline(active.body, beta, key, journal.state.head)
    append(journal, entry)
    assert pushed_keys(believe(active, made).snapshot) == [key]


SMALL = Setting(
    "integer",
    {"few": 1, "many": 3},
    {"production": Targeting(default="few")},
    schema={"maximum": 5},
)
WIDE = msgspec.structs.replace(
    SMALL, variants={"few": 1, "many": 3, "lots": 40}, schema={"maximum": 50}
)
ALPHA = Subject("production", "alpha")


def standing(setting: Setting) -> Journal:
    """A journal where production has the setting as `alpha/a`, for everybody."""
    journal = Journal()
    assert journal.act([PutSetting("alpha", "a", setting)])
    assert journal.act("complete")
    return journal


def push(journal: Journal, value: int) -> trust.Admitted:
    """Over `alpha/a` in production; what a consumer has then."""
    active = admitted(rebuild(journal.standing, ALPHA), ALPHA, None)
    order = Order(active, {"a": valued(active.snapshot, "a", value, "INC-7")})
    append(journal, entry_of([order], journal.state.head, 10**12, "linus", "INC-7"))
    return believe(active, rebuild(journal.standing, ALPHA))


def test_a_push_is_in_no_rollbacks_way() -> None:
    journal = standing(SMALL)
    assert journal.act([PutSetting("alpha", "a", WIDE)])
    active = push(journal, 30)
    assert journal.act("back"), "what was pushed fits the new schema alone"
    active = believe(active, rebuild(journal.standing, ALPHA))
    assert serves(active.snapshot, "a") == {30}


def test_a_push_elsewhere_widens_no_schema_that_goes_back() -> None:
    journal = standing(WIDE)
    push(journal, 30)
    assert journal.act([PutSetting("beta", "a", SMALL)])
    assert journal.act("complete")
    assert journal.act([PutSetting("beta", "a", WIDE)])
    assert journal.act("back")
    assert journal.state.services["beta"].settings["a"].setting.schema == SMALL.schema


def test_a_change_that_a_push_does_not_fit_in_the_end_is_refused_at_its_beginning() -> None:
    """While both sides answer it fits one of them, and the rollout could not be completed."""
    journal = standing(WIDE)
    push(journal, 30)
    narrowed = [PutSetting("alpha", "a", SMALL)]
    (problem,) = validate(journal.state, narrowed)
    assert (problem.code, problem.path) == ("override", "/overrides/production/alpha/a")
    push(journal, 3)
    assert journal.act(narrowed)
    assert journal.act("complete")


def test_a_push_on_the_way_that_fits_the_old_side_alone_is_in_no_kill_switchs_way() -> None:
    journal = standing(WIDE)
    assert journal.act([PutSetting("alpha", "a", SMALL)])
    push(journal, 30)
    off = {"production": Targeting(default="few", enabled=False)}
    assert journal.act([PutSetting("alpha", "a", msgspec.structs.replace(SMALL, environments=off))])


def test_variants_that_fit_no_more_are_in_no_consumers_way() -> None:
    """The pushed flag has the variants that there were; consumers look at all of them."""
    journal = standing(WIDE)
    active = push(journal, 3)
    assert journal.act([PutSetting("alpha", "a", SMALL)])
    assert journal.act("complete")
    active = believe(active, rebuild(journal.standing, ALPHA))
    assert serves(active.snapshot, "a") == {3}
    entry, made = offline(active.body, ALPHA, "a", journal.state.head)
    append(journal, entry)
    assert journal.steps[-1].bodies == {ALPHA: made}


@pytest.mark.parametrize(
    "edits",
    [
        (DeleteSetting("alpha", "a"),),
        (DeleteService("alpha"),),
        (PutSetting("alpha", "a", msgspec.structs.replace(SMALL, environments={})),),
        (DeleteSetting("alpha", "a"), PutSetting("alpha", "a", SMALL)),
    ],
)
def test_what_a_push_stands_over_is_not_deleted(edits: Sequence[Edit]) -> None:
    """It would be lifted for everybody at once, or stand over what comes under its name."""
    journal = standing(SMALL)
    push(journal, 1)
    (problem,) = validate(journal.state, edits)
    assert (problem.code, problem.path) == ("override", "/overrides/production/alpha/a")
    assert journal.commit([PutOverride("production", "alpha", "a", None)])
    assert validate(journal.state, edits) == []


def test_what_was_pushed_over_what_is_going_keeps_it_from_going() -> None:
    """Its rollout's end would lift the push for everybody at once, by itself."""
    journal = standing(SMALL)
    assert journal.act([DeleteSetting("alpha", "a")])
    push(journal, 5)
    assert journal.act("on")
    assert not journal.act("complete")
    assert journal.act("back")
    assert serves(decode(rebuild(journal.standing, ALPHA)), "a") == {5}


def test_a_push_that_outlived_its_setting_stands_over_no_other() -> None:
    """Its rollout went back in one environment alone, and it is nobody's edit that lifts it."""
    everywhere = dict.fromkeys(("production", "staging"), Targeting(default="few"))
    both = msgspec.structs.replace(SMALL, environments=everywhere)
    journal = Journal()
    assert journal.act([PutSetting("alpha", "a", both)])
    push(journal, 5)
    assert journal.act("back")
    (problem,) = validate(journal.state, [PutSetting("alpha", "a", both)])
    assert (problem.code, problem.path) == ("override", "/overrides/production/alpha/a")
    assert "an earlier `a`" in problem.message
    assert journal.commit([PutOverride("production", "alpha", "a", None)])
    assert journal.act([PutSetting("alpha", "a", both)])


def test_a_kill_switch_lifts_no_push() -> None:
    journal = Journal()
    assert journal.act([PutSetting("alpha", "a", SMALL)])
    push(journal, 5)
    off = {"production": Targeting(default="few", enabled=False)}
    assert journal.act([PutSetting("alpha", "a", msgspec.structs.replace(SMALL, environments=off))])
    assert serves(decode(rebuild(journal.standing, ALPHA)), "a") == {5}


def test_a_kill_switch_lifts_no_other_push_in_the_shade_of_its_rollback() -> None:
    journal = standing(SMALL)
    push(journal, 5)
    assert journal.act([PutSetting("alpha", "b", SMALL)])
    off = {"production": Targeting(default="few", enabled=False)}
    kill = PutSetting("alpha", "b", msgspec.structs.replace(SMALL, environments=off))
    assert not journal.act([kill, DeleteSetting("alpha", "a")])
    assert journal.act([kill])


def test_what_a_rollout_brought_goes_with_what_was_pushed_over_it() -> None:
    journal = Journal()
    assert journal.act([PutSetting("alpha", "a", SMALL)])
    push(journal, 5)
    assert journal.act("back")
    assert not decode(rebuild(journal.standing, ALPHA)).flags
