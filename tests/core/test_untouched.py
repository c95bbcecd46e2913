"""Who restarts makes every snapshot from the state as it is then: what an entry does not mark as
touched must have the bytes that it had before, or that build refuses to serve anything."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core import histories, staged_histories

from holdfast.core.lineage import rebuild
from holdfast.core.model import (
    Audience,
    Contract,
    DeleteContract,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    Edit,
    Need,
    Probe,
    PutContexts,
    PutContract,
    PutSegment,
    PutService,
    PutSetting,
    Segment,
    Service,
    Subject,
)

SHORT = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
LONG = settings(SHORT, max_examples=3_000)

_around = st.one_of(
    st.builds(DeleteService, histories.services),
    st.builds(DeleteSegment, histories.services, st.sampled_from(histories.SEGMENTS)),
    st.builds(PutContract, histories.services, st.just("web"), histories.contracts_made),
    st.builds(DeleteContract, histories.services, st.just("web")),
    st.builds(
        PutService,
        histories.services,
        st.builds(
            Service,
            includes=st.lists(histories.services, unique=True, max_size=2).map(tuple),
            attributes=st.sampled_from([{}, {"tenant": "string"}]),
        ),
    ),
    st.builds(
        PutContexts,
        st.sampled_from(histories.ENVIRONMENTS),
        histories.services,
        st.sampled_from([(), ({"tenant": "contoso"},), ({"ring": "general"}, {"user": "u"})]),
    ),
)
_settings = st.lists(histories.edits, min_size=1, max_size=3)
_some = st.lists(_around, min_size=1, max_size=2)
_act = st.one_of(_some, _some, _some, _settings, _settings, staged_histories.steps)
actions = st.lists(_act, min_size=1, max_size=16)
"""Changes to services and to what hangs on them, more often than elsewhere."""


def check_restarts(acts: Sequence[Sequence[Edit] | str]) -> None:
    journal = staged_histories.Journal()
    for act in acts:
        if journal.act(act):
            for subject in journal.standing.live:
                rebuild(journal.standing, subject)


@SHORT
@given(actions)
def test_who_restarts_after_any_entry_makes_the_same_bytes(
    acts: Sequence[Sequence[Edit] | str],
) -> None:
    check_restarts(acts)


@pytest.mark.long
@LONG
@given(actions)
def test_who_restarts_after_any_entry_makes_the_same_bytes_at_length(
    acts: Sequence[Sequence[Edit] | str],
) -> None:
    check_restarts(acts)


@SHORT
@given(st.lists(st.tuples(_act, _act), max_size=8))
def test_what_was_only_checked_leaves_nothing_behind(
    acts: Sequence[tuple[Sequence[Edit] | str, Sequence[Edit] | str]],
) -> None:
    """The journal holds every build that was written against one from scratch."""
    journal = staged_histories.Journal()
    for checked, written in acts:
        journal.check(checked)
        journal.act(written)


def test_a_plan_that_was_only_checked_exposes_nobody() -> None:
    """A found history: both changes would have begun the rollout of one name, by other plans."""
    journal = staged_histories.Journal()
    assert journal.commit([PutSetting("alpha", "a", histories.serving("on"))])
    assert journal.act("complete")
    assert journal.check([PutSetting("alpha", "a", histories.serving("off"))])
    assert journal.commit([DeleteSetting("alpha", "a")])
    assert staged_histories.rollout_of(journal.state).plan == staged_histories.FAST


def test_attributes_are_in_the_snapshots_of_all_that_include_who_declares_them() -> None:
    """Where the service that declares them has nothing of its own, too."""
    subject = Subject("production", "alpha")
    journal = staged_histories.Journal()
    assert journal.commit(
        [PutService("words", Service()), PutService("alpha", Service(includes=("words",)))]
    )
    assert journal.act("complete")
    assert journal.commit([PutService("words", Service(attributes={"tenant": "string"}))])
    assert subject in journal.steps[-1].bodies
    rebuild(journal.standing, subject)


def test_contexts_of_a_service_that_is_leaving_make_its_probes() -> None:
    subject = Subject("production", "alpha")
    journal = staged_histories.Journal()
    put = PutSetting("alpha", "a", histories.serving("on", {"==": [{"var": "ring"}, "x"]}))
    assert journal.commit([put])
    assert journal.act("complete")
    for tenant in ("contoso", "fabrikam"):
        assert journal.commit(
            [PutContexts(subject.environment, subject.service, ({"tenant": tenant},))]
        )
        assert tenant.encode() in journal.steps[-1].bodies[subject]
        rebuild(journal.standing, subject)
        journal.act([DeleteService("alpha")])


def test_a_contract_of_a_service_that_is_leaving_is_in_its_snapshot() -> None:
    """A found history: it answers until its rollout ends, and says which contracts hold."""
    subject = Subject("production", "alpha")
    journal = leaving()
    assert journal.act("on")
    assert subject in journal.standing.live
    assert journal.commit([DeleteContract("alpha", "web")])
    assert subject in journal.steps[-1].bodies
    rebuild(journal.standing, subject)


def test_a_contract_of_a_service_that_has_left_makes_no_snapshot() -> None:
    journal = leaving()
    assert journal.act("complete")
    assert journal.commit([DeleteContract("alpha", "web")])
    assert journal.steps[-1].bodies == {}


def test_a_probe_of_what_goes_back_is_in_no_rollbacks_way() -> None:
    """It was written while the segment was on its way. Now it fails, and is in nobody's way."""
    journal, subject = staged_histories.Journal(), Subject("production", "alpha")
    pilot = Segment(Audience("tenant", ("contoso",)))
    assert journal.commit([PutSegment("alpha", "pilot", pilot)])
    (on_its_way,) = journal.state.rollouts
    wish = Probe({"tenant": "contoso"}, "yes")
    assert journal.commit(
        [PutSetting("alpha", "a", histories.serving("on", {"$ref": "pilot"}, probes=(wish,)))]
    )
    assert journal.act_on(on_its_way, "back")
    assert journal.commit([PutSetting("alpha", "b", histories.serving("on"))])
    assert journal.act("hold"), "a move of the rollout that the failing setting goes out by"
    assert b"authored" not in rebuild(journal.standing, subject)


def leaving() -> staged_histories.Journal:
    """`alpha`, which has a contract, is being taken out of production."""
    journal = staged_histories.Journal()
    assert journal.commit([PutContract("alpha", "web", Contract({"a": Need("integer")}))])
    assert journal.commit([DeleteService("alpha")])
    return journal
