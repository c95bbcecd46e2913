"""Environments and their policies on behalf of callers: each change of one keeps the rest of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from holdfast.apps.control import schemas
from holdfast.apps.control.desk import Desk, Drafted
from holdfast.apps.control.policy_schemas import (
    BrokenGlass,
    BrokenGlasses,
    PolicyBody,
    PutPolicy,
)
from holdfast.apps.control.proposal_schemas import Proposed
from holdfast.apps.control.proposing import ProposalDesk
from holdfast.core.access import Grant
from holdfast.core.errors import NotFound
from holdfast.core.model import Change, Environment, PutEnvironment
from holdfast.core.policy import frozen
from holdfast.core.state import State
from holdfast.engine.glass import Glass
from holdfast.ports import Clock


class EnvironmentDesk:
    """Owned by the writer thread, but for `policy` and `broken`."""

    def __init__(
        self,
        desk: Desk,
        proposals: ProposalDesk,
        glass: Glass,
        state: Callable[[], State],
        clock: Clock,
    ) -> None:
        self._desk = desk
        self._proposals = proposals
        self._glass = glass
        self._state = state
        self._clock = clock

    def put(self, caller: Grant, name: str, body: schemas.EnvironmentBody) -> schemas.Committed:
        """Make an environment, or change all of it but its policy."""

        def draft() -> Drafted:
            state = self._desk.head(None)
            standing = state.environments.get(name)
            to = msgspec.structs.replace(
                standing.environment if standing else Environment(),
                bucketing=body.bucketing,
                description=body.description,
            )
            if body.pacing is not None:
                to = msgspec.structs.replace(to, pacing=body.pacing)
            ahead = body.ahead or to.ahead
            over = ahead is not None and ahead.bucketing == to.bucketing
            to = msgspec.structs.replace(to, ahead=None if over else ahead)
            reason = body.reason or f"environment {name}"
            return Change((PutEnvironment(name, to),), reason, state.head.revision), ()

        return self._desk.commit_drafts(caller, draft, None)

    def policy(self, name: str) -> PolicyBody:
        """Raises `NotFound`."""
        found = _environment(self._state(), name).policy
        return PolicyBody(name, found, frozen(found, self._clock()))

    def put_policy(self, caller: Grant, name: str, body: PutPolicy) -> schemas.Committed:
        """Judged by the policy that stands. Raises `Guarded` when that asks for approvals."""

        def draft() -> Drafted:
            state = self._desk.head(None)
            return Change((_put(state, name, body),), _reason(name, body), state.head.revision), ()

        return self._desk.commit_drafts(caller, draft, None)

    def propose_policy(self, caller: Grant, name: str, body: PutPolicy) -> Proposed:
        state = self._desk.head(None)
        edit = _put(state, name, body)
        return self._proposals.propose_edit(caller, edit, _reason(name, body), state.head.revision)

    def broken(self, since_s: float) -> BrokenGlasses:
        """Commits from a time on that broke glass."""
        now_s = self._clock()
        return BrokenGlasses(
            tuple(
                BrokenGlass(
                    revision=one.revision,
                    at_ms=one.at_ms,
                    actor=one.actor,
                    environment=one.environment,
                    reason=one.reason,
                    until_s=one.until_s,
                    open=one.until_s > now_s,
                )
                for one in self._glass.since(since_s)
            )
        )


def _put(state: State, name: str, body: PutPolicy) -> PutEnvironment:
    to = msgspec.structs.replace(_environment(state, name), policy=body.policy)
    return PutEnvironment(name, to)


def _reason(name: str, body: PutPolicy) -> str:
    return body.reason or f"policy of {name}"


def _environment(state: State, name: str) -> Environment:
    found = state.environments.get(name)
    if found is None:
        raise NotFound(f"there is no environment {name!r}")
    return found.environment
