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
    Contract,
    DeleteContract,
    DeleteService,
    Edit,
    Need,
    PutContexts,
    PutContract,
    PutService,
    Service,
    Subject,
)

SHORT = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
LONG = settings(SHORT, max_examples=3_000)

_around = st.one_of(
    st.builds(DeleteService, histories.services),
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
actions = st.lists(
    st.one_of(_some, _some, _some, _settings, _settings, staged_histories.steps),
    min_size=1,
    max_size=16,
)
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


def leaving() -> staged_histories.Journal:
    """`alpha`, which has a contract, is being taken out of production."""
    journal = staged_histories.Journal()
    assert journal.commit([PutContract("alpha", "web", Contract({"a": Need("integer")}))])
    assert journal.commit([DeleteService("alpha")])
    return journal
