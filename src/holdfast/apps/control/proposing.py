"""Waiting changes on behalf of callers: who sees them, who may do what, what they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from holdfast.apps.control import schemas
from holdfast.apps.control.desk import Desk, Drafted
from holdfast.apps.control.door import require_somewhere
from holdfast.apps.control.proposal_schemas import (
    ApprovalLine,
    CommitProposed,
    FailureBody,
    Proposals,
    Proposed,
    ProposedDetail,
    RejectionBody,
    Status,
)
from holdfast.apps.control.traffic import Metrics
from holdfast.apps.observe import logger
from holdfast.core.access import EVERY, Grant
from holdfast.core.errors import Conflict, Forbidden, Invalid, NotFound
from holdfast.core.model import BreakGlass, Change, Edit, PutEnvironment, StartRollout
from holdfast.engine import waiting
from holdfast.engine.waiting import Ran, Waiting
from holdfast.ports import Proposal
from holdfast.ports import Proposals as Store

_log = logger("holdfast.proposals")
_decode_change = msgspec.json.Decoder(Change).decode
_OF_ENVIRONMENTS: Final = (PutEnvironment, StartRollout, BreakGlass)


class ProposalDesk:
    """One node's waiting changes. Owned by the writer thread, but for `list`."""

    def __init__(self, desk: Desk, waiting: Waiting, store: Store, metrics: Metrics) -> None:
        self._desk = desk
        self._waiting = waiting
        self._store = store
        self._metrics = metrics

    def propose(self, caller: Grant, body: schemas.ChangeBody) -> Proposed:
        """Keep a change. It remembers the revision that it was made on."""
        return proposed(self._waiting.propose(self._drafted(body), caller))

    def propose_revert(self, caller: Grant, body: schemas.RevertBody) -> Proposed:
        """Keep the change that undoes a revision."""
        change = self._sound(body.break_glass, lambda: self._desk.reverting(body))
        return proposed(self._waiting.propose(change, caller))

    def propose_edit(self, caller: Grant, edit: Edit, reason: str, base_revision: int) -> Proposed:
        change = Change((edit,), reason, base_revision)
        return proposed(self._waiting.propose(change, caller))

    def revise(self, caller: Grant, name: str, body: schemas.ChangeBody) -> Proposed:
        """Put another change in its place. Raises `NotFound`, `Forbidden` for other authors."""
        self._seen(caller, name)
        return proposed(self._waiting.revise(name, self._drafted(body), caller))

    def list(self, caller: Grant) -> Proposals:
        """Changes on services that the caller may see, oldest first."""
        kept = (each for each in self._store.all() if _sees(caller, _change_of(each)))
        return Proposals(tuple(proposed(each) for each in kept))

    def detail(self, caller: Grant, name: str) -> ProposedDetail:
        """A waiting change and what it would do now. Raises `NotFound`."""
        kept = self._seen(caller, name)
        checked = self._waiting.look(name)
        return ProposedDetail(
            change=proposed(kept),
            edits=_change_of(kept).edits,
            approvals_counted=len(checked.approvals),
            check=schemas.Checked(
                ok=checked.ok,
                problems=checked.problems,
                differences=checked.differences,
                base_revision=checked.base_revision,
                digest=kept.digest,
                approvals_needed=checked.approvals_needed,
            ),
        )

    def approve(self, caller: Grant, name: str, digest: str) -> Proposed:
        """Raises `NotFound`, `Forbidden`, `Invalid` for another digest, `Conflict`."""
        self._seen(caller, name)
        approved = self._waiting.approve(name, caller, digest)
        _log.info("approved", change=name, actor=caller.token, digest=digest)
        return proposed(approved)

    def reject(self, caller: Grant, name: str, reason: str) -> Proposed:
        """Raises `NotFound`, `Forbidden`."""
        self._seen(caller, name)
        rejected = self._waiting.reject(name, caller, reason)
        _log.info("rejected", change=name, actor=caller.token)
        return proposed(rejected)

    def schedule(self, caller: Grant, name: str, at_s: int | None) -> Proposed:
        """Raises `NotFound`, `Forbidden`, `Invalid` for a time that is past or too far ahead."""
        self._seen(caller, name)
        return proposed(self._waiting.schedule(name, caller, at_s or 0))

    def commit(self, caller: Grant, name: str, body: CommitProposed) -> schemas.Committed:
        """Commit a waiting change onto the head.

        Commits since it was proposed do no harm unless they touched what it touches: that is a
        `Conflict`. Raises `Guarded` without its approvals, `Invalid` for another digest than its
        own, `NotFound`, `Forbidden`.
        """
        self._seen(caller, name)
        try:
            committed = self._waiting.commit(name, caller, body.digest or "", body.break_glass)
        except Conflict:
            self._metrics.conflicts.inc()
            raise
        return self._desk.told(caller.token, committed)

    def drop(self, caller: Grant, name: str) -> None:
        """Take it back.

        Raises `NotFound`; `Forbidden` unless the caller wrote it or could commit it; `Invalid` when
        its author puts another change in its place in that moment.
        """
        kept = self._seen(caller, name)
        if kept.token != caller.token:
            for edit in _change_of(kept).edits:
                if isinstance(edit, _OF_ENVIRONMENTS):
                    if not caller.allows("admin", edit.environment, EVERY):
                        raise Forbidden(f"the token {caller.token} may not drop this change")
                else:
                    require_somewhere(caller, "write", _service(edit))
        self._waiting.drop(kept)

    def run_due(self, fence: int = 0) -> None:
        """Commit what is due, as who leads; tell the log and the metrics how it went."""
        for ran in self._waiting.run_due(fence):
            self._tell(ran)

    def _tell(self, ran: Ran) -> None:
        if ran.committed is not None:
            self._metrics.scheduled.labels("committed").inc()
            self._desk.told(ran.actor, ran.committed)
        elif ran.failure is not None:
            self._metrics.scheduled.labels("failed").inc()
            _log.warning(
                "scheduled change failed",
                change=ran.proposal,
                code=ran.failure.code,
                why=ran.failure.message,
            )

    def _drafted(self, body: schemas.ChangeBody) -> Change:
        return self._sound(body.break_glass, lambda: self._desk.draft(body))

    @staticmethod
    def _sound(break_glass: str, draft: Callable[[], Drafted]) -> Change:
        if break_glass:
            raise Invalid([waiting.unbroken()])
        change, problems = draft()
        if any(problem.severity == "error" for problem in problems):
            raise Invalid(problems)
        return change

    def _seen(self, caller: Grant, name: str) -> Proposal:
        kept = self._store.get(name)
        if kept is None or not _sees(caller, _change_of(kept)):
            raise NotFound(f"no change waits under {name!r}")
        return kept


def proposed(kept: Proposal) -> Proposed:
    """A waiting change as the API tells it."""
    change = _change_of(kept)
    return Proposed(
        id=kept.proposal,
        digest=kept.digest,
        author=kept.author,
        at_ms=kept.at_ms,
        reason=change.reason,
        base_revision=change.base_revision,
        edit_count=len(change.edits),
        status=_status(kept),
        approvals=tuple(ApprovalLine(one.actor, one.at_ms) for one in kept.approvals),
        scheduled_s=kept.schedule.at_s if kept.schedule else None,
        rejection=_rejection(kept),
        failure=_failure(kept),
    )


def _status(kept: Proposal) -> Status:
    if kept.rejection is not None:
        return "rejected"
    if kept.schedule is not None:
        return "scheduled"
    return "waiting" if kept.failure is None else "failed"


def _rejection(kept: Proposal) -> RejectionBody | None:
    one = kept.rejection
    return RejectionBody(one.actor, one.at_ms, one.reason) if one else None


def _failure(kept: Proposal) -> FailureBody | None:
    one = kept.failure
    return FailureBody(one.at_ms, one.code, one.message) if one else None


def _change_of(kept: Proposal) -> Change:
    return _decode_change(kept.change)


def _sees(caller: Grant, change: Change) -> bool:
    return all(
        isinstance(edit, _OF_ENVIRONMENTS) or caller.allows_somewhere("read", _service(edit))
        for edit in change.edits
    )


def _service(edit: Edit) -> str:
    service: str = getattr(edit, "service", EVERY)
    return service
