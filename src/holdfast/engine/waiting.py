"""Changes that wait: proposed, revised, approved or rejected, scheduled, committed at last.

All of them are committed through the write door (`engine.publish`), which counts the approvals
itself; here they are collected. An approval is bound to the change's digest and to the revision
that it was made on: an edit makes another digest, and any commit since that touched what the
change touches makes it a conflict, also when that was undone again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

from holdfast.core import limits
from holdfast.core.access import Grant
from holdfast.core.authority import authorise, grant_of
from holdfast.core.errors import (
    Conflict,
    Fenced,
    Forbidden,
    HoldfastError,
    Invalid,
    NotFound,
    OperatorError,
    Problem,
    Unavailable,
)
from holdfast.core.model import (
    Change,
    DeleteContract,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    DeleteToken,
    Edit,
    PutContract,
    PutEnvironment,
    PutRoot,
    PutSegment,
    PutService,
    PutSetting,
    PutToken,
)
from holdfast.core.policies import Approval
from holdfast.core.wire import canonical, digest
from holdfast.engine.judgement import Mandate
from holdfast.engine.publish import Checked, Committed, Publisher, bounds
from holdfast.engine.views import View
from holdfast.ports import Clock, Failure, Journal, Proposal, Proposals, Rejection, Schedule

ATTEMPTS_MAX: Final = 8
"""Times that a change is put onto another head because somebody committed in between."""
BEHIND_MAX: Final = 20_000
"""Revisions that a change may be behind the head; each of them is looked through."""
AHEAD_MAX_S: Final = 366 * 86_400
"""How far ahead a commit may be scheduled."""
PAST_MAX_S: Final = 60
"""A time that was now when the caller wrote it."""
LATE_MAX_S: Final = 3_600
"""How late a scheduled commit may still be made, after an outage say."""
DUE_MAX: Final = 16
"""Scheduled commits made at one turn; the rest is due at the next."""
APPROVALS_MAX: Final = 32
"""Approvals kept with one change."""
OF_ONE_MAX: Final = 100
"""Changes of one token that wait: the store forgets the oldest, and nobody is to drown others'."""
OF_ONE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of them, as canonical JSON."""

_decode = msgspec.json.Decoder(Change).decode
_Place: TypeAlias = tuple[str, str, str]
_WHOLE: Final = "*"


class Ran(msgspec.Struct, frozen=True):
    """A change whose time had come: committed, or why not; with neither it is tried again."""

    proposal: str
    actor: str
    committed: Committed | None = None
    failure: Failure | None = None


class Waiting:
    """Use cases of waiting changes. Thread-safe as far as its store and the door are."""

    def __init__(  # noqa: PLR0913 - every port by name
        self,
        *,
        publisher: Publisher,
        view: View,
        journal: Journal,
        proposals: Proposals,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._publisher = publisher
        self._view = view
        self._journal = journal
        self._proposals = proposals
        self._clock = clock
        self._new_id = new_id

    def get(self, name: str) -> Proposal:
        """Raises `NotFound`."""
        kept = self._proposals.get(name)
        if kept is None:
            raise NotFound(f"no change waits under {name[:64]!r}")
        return kept

    def propose(self, change: Change, author: Grant) -> Proposal:
        """Keep a change without errors for a later commit. Raises `Invalid`, `Forbidden`."""
        proposal = self._drawn(self._new_id(), change, author)
        mine = [one for one in self._proposals.all() if one.token == author.token]
        size = sum(len(one.change) for one in (*mine, proposal))
        if len(mine) >= OF_ONE_MAX or size > OF_ONE_BYTES_MAX:
            raise Invalid([_too_many(len(mine))])
        self._proposals.put(proposal)
        return proposal

    def revise(self, name: str, change: Change, caller: Grant) -> Proposal:
        """Put another change in the place of a waiting one: whatever was said of it is void.

        Raises `Forbidden` unless the caller is its author: two authors could approve each other.
        """
        kept = self.get(name)
        if caller.token != kept.token:
            raise Forbidden("only its author can edit a waiting change: propose one of your own")
        revised = self._drawn(name, change, caller)
        return self._replaced(kept, lambda _: revised)

    def approve(self, name: str, caller: Grant, expected_digest: str) -> Proposal:
        """Vouch for the change of that digest; it takes the rights to commit it.

        Raises `Forbidden` for its author, `Conflict` when what it touches was touched since, and
        `Invalid` for another digest and for a change that can't be committed.
        """
        kept = self._open(name, expected_digest)
        if caller.token == kept.token or caller.name == kept.name:
            raise Forbidden("nobody approves a change of their own: ask somebody else")
        self._vouch(kept, caller)
        approval = Approval(
            token=caller.token,
            name=caller.name,
            actor=caller.actor,
            digest=kept.digest,
            at_ms=self._now_ms(),
        )

        def approved(now: Proposal) -> Proposal:
            others = [one for one in now.approvals if one.token != caller.token]
            if len(others) >= APPROVALS_MAX:
                raise Invalid([Problem(code="too-many", message="it has enough approvals")])
            return msgspec.structs.replace(now, approvals=(*others, approval))

        return self._replaced(kept, approved)

    def reject(self, name: str, caller: Grant, reason: str) -> Proposal:
        """Say no: it can't be committed before its author edits it. Takes the rights to commit."""
        kept = self.get(name)
        differences = self._look(kept).differences
        authorise(caller, _decode(kept.change).edits, differences, self._view.state)
        rejection = Rejection(caller.actor, self._now_ms(), reason)
        return self._replaced(
            kept, lambda now: msgspec.structs.replace(now, rejection=rejection, schedule=None)
        )

    def schedule(self, name: str, caller: Grant, at_s: int) -> Proposal:
        """Let it be committed at a time, in the caller's name; 0 takes that back."""
        kept = self._open(name, "")
        self._vouch(kept, caller)
        now_s = self._clock()
        if at_s and not now_s - PAST_MAX_S <= at_s <= now_s + AHEAD_MAX_S:
            message = f"{at_s} is not a time from now to {AHEAD_MAX_S // 86_400} days ahead"
            hint = "give unix seconds, or a time like 2026-11-30T08:00Z"
            raise Invalid([Problem(code="schedule", message=message, path="/at_s", hint=hint)])
        schedule = Schedule(at_s, caller.token, caller.actor) if at_s else None
        return self._replaced(
            kept, lambda now: msgspec.structs.replace(now, schedule=schedule, failure=None)
        )

    def commit(
        self,
        name: str,
        caller: Grant,
        expected_digest: str = "",
        break_glass: str = "",
        fence: int = 0,
    ) -> Committed:
        """Commit it onto the head; it waits no longer. When that fails, it waits on as it was.

        Raises `Guarded` without the approvals that it needs, `Conflict` when what it touches was
        touched since it was made, `Invalid`, `Forbidden`, `NotFound`; `Fenced` as the door does.
        """
        for attempt in range(ATTEMPTS_MAX):
            kept = self._open(name, expected_digest)
            change = self._on_head(kept)
            mandate = Mandate(proposal=kept, break_glass=break_glass, fence=fence)
            try:
                committed = self._publisher.commit(change, caller.actor, caller, mandate)
            except Conflict:
                if attempt == ATTEMPTS_MAX - 1:
                    raise
                continue
            with contextlib.suppress(OperatorError):  # its next commit finds nothing to change
                self._taken_away(kept)
            return committed
        raise NotFound(name)

    def drop(self, kept: Proposal) -> None:
        """It waits no longer. Raises `Invalid` when it is another change by now, `NotFound`."""
        if not self._taken_away(kept):
            raise _another_change(self.get(kept.proposal))

    def look(self, name: str) -> Checked:
        """What it would do on the head, and what it still lacks; a `Conflict` is a problem of it.

        Raises `NotFound`.
        """
        kept = self.get(name)
        found = self._look(kept)
        problems = (*found.problems, *_standing_problems(kept), *self._overlaps(kept))
        return msgspec.structs.replace(found, problems=problems, digest=kept.digest)

    def run_due(self, fence: int = 0) -> tuple[Ran, ...]:
        """Commit what is due: in the name, and by today's rights, of who scheduled it.

        `fence` is the token of the lease of who leads. Raises `Fenced` when another one does.
        """
        now_s = self._clock()
        due = self._proposals.due(now_s)[:DUE_MAX]
        return tuple(self._run(kept, now_s, fence) for kept in due)

    # -- one proposal

    def _drawn(self, name: str, change: Change, author: Grant) -> Proposal:
        problems = bounds(change)
        if problems:
            raise Invalid(problems)
        self._view.catch_up()
        if change.base_revision is None:
            change = msgspec.structs.replace(change, base_revision=self._view.state.head.revision)
        checked = self._publisher.check(change)
        if not checked.ok:
            raise Invalid([one for one in checked.problems if one.severity == "error"])
        authorise(author, change.edits, checked.differences, self._view.state)
        body = canonical(change)
        return Proposal(
            proposal=name,
            digest=digest(body),
            change=body,
            author=author.actor,
            at_ms=self._now_ms(),
            token=author.token,
            name=author.name,
        )

    def _open(self, name: str, expected_digest: str) -> Proposal:
        kept = self.get(name)
        if expected_digest and expected_digest != kept.digest:
            raise _another_change(kept)
        if kept.rejection is not None:
            raise Invalid(_standing_problems(kept))
        return kept

    def _vouch(self, kept: Proposal, caller: Grant) -> None:
        """Raise what keeps the caller from standing up for the change as it is."""
        overlaps = self._overlaps(kept)
        if overlaps:
            raise self._conflict(kept)
        checked = self._look(kept)
        authorise(caller, _decode(kept.change).edits, checked.differences, self._view.state)
        if not checked.ok:
            raise Invalid([one for one in checked.problems if one.severity == "error"])

    def _look(self, kept: Proposal) -> Checked:
        return self._publisher.check(self._rebased(kept), Mandate(proposal=kept))

    def _rebased(self, kept: Proposal) -> Change:
        self._view.catch_up()
        head = self._view.state.head.revision
        return msgspec.structs.replace(_decode(kept.change), base_revision=head)

    def _on_head(self, kept: Proposal) -> Change:
        """The change on the head as it is. Raises `Conflict` for one that others have overtaken.

        One that has nothing left to change goes through: it was committed, and its end was lost.
        """
        change = self._rebased(kept)  # first: what comes after this head, the door sees
        if self._overlaps(kept) and self._look(kept).differences:
            raise self._conflict(kept)
        return change

    def _overlaps(self, kept: Proposal) -> list[Problem]:
        change, head = _decode(kept.change), self._view.state.head.revision
        base = change.base_revision or 0
        if head - base > BEHIND_MAX:
            return [_outdated(f"it was made {head - base} revisions ago")]
        wanted = set(_places(change.edits))
        for entry in self._journal.read(base):
            if _overlap(wanted, set(_places(entry.edits))):
                return [_outdated(f"revision {entry.revision} by {entry.actor} touched it since")]
        return []

    def _conflict(self, kept: Proposal) -> Conflict:
        base = _decode(kept.change).base_revision or 0
        return Conflict(base, self._view.state.head.revision)

    def _replaced(self, kept: Proposal, change: Callable[[Proposal], Proposal]) -> Proposal:
        """Compare and set, again on what others made of it meanwhile."""
        for _ in range(ATTEMPTS_MAX):
            new = change(kept)
            if self._proposals.replace(kept, new):
                return new
            known, kept = kept, self.get(kept.proposal)
            if kept.digest != known.digest:
                raise _another_change(kept)
        raise Unavailable(f"too many change {kept.proposal} at once")

    def _taken_away(self, kept: Proposal) -> bool:
        """Delete it, whatever was said of it meanwhile; not what its author put in its place."""
        for _ in range(ATTEMPTS_MAX):
            if self._proposals.delete(kept):
                return True
            now = self._proposals.get(kept.proposal)
            if now is None or now.digest != kept.digest:
                return False
            kept = now
        raise Unavailable(f"too many change {kept.proposal} at once")

    # -- what is due

    def _run(self, kept: Proposal, now_s: float, fence: int) -> Ran:
        schedule = kept.schedule
        assert schedule is not None  # noqa: S101 - the store's promise of what is due
        late_s = now_s - schedule.at_s
        if late_s > LATE_MAX_S:
            message = f"its time was missed by {late_s:.0f} s, more than {LATE_MAX_S} s"
            return self._fail(kept, schedule, "missed", message)
        self._view.catch_up()
        grant = grant_of(self._view.state, schedule.token, now_s)
        if grant is None:
            message = f"the token of {schedule.actor} is revoked or has expired"
            return self._fail(kept, schedule, "unauthenticated", message)
        try:
            committed = self.commit(kept.proposal, grant, kept.digest, fence=fence)
        except Fenced:
            raise
        except Unavailable:
            return Ran(kept.proposal, schedule.actor)
        except HoldfastError as refused:
            return self._fail(kept, schedule, refused.code, str(refused))
        return Ran(kept.proposal, schedule.actor, committed)

    def _fail(self, kept: Proposal, schedule: Schedule, code: str, message: str) -> Ran:
        failure = Failure(self._now_ms(), code, message[: limits.TEXT_CHARS_MAX])
        failed = msgspec.structs.replace(kept, schedule=None, failure=failure)
        self._proposals.replace(kept, failed)
        return Ran(kept.proposal, schedule.actor, failure=failure)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _places(edits: Iterable[Edit]) -> Iterator[_Place]:
    """What edits touch; what is only for the record touches nothing."""
    for edit in edits:
        match edit:
            case PutSetting() | DeleteSetting():
                yield "setting", edit.service, edit.key
            case PutSegment() | DeleteSegment():
                yield "segment", edit.service, edit.segment
            case PutContract() | DeleteContract():
                yield "contract", edit.service, edit.consumer
            case PutService():
                yield "service", edit.service, ""
            case DeleteService():
                yield _WHOLE, edit.service, ""
            case PutEnvironment():
                yield "environment", "", edit.environment
            case PutToken() | DeleteToken():
                yield "token", "", edit.token
            case PutRoot():
                yield "root", "", ""


def _overlap(one: set[_Place], other: set[_Place]) -> bool:
    if one & other:
        return True
    gone = {service for kind, service, _ in one if kind == _WHOLE}
    went = {service for kind, service, _ in other if kind == _WHOLE}
    return any(service in gone for _, service, _ in other) or any(
        service in went for _, service, _ in one
    )


def unbroken() -> Problem:
    """A waiting change breaks no glass: it is in no hurry yet."""
    return Problem(
        code="break-glass-waiting",
        message="a change that is to wait can't break the glass",
        path="/break_glass",
        hint="break it with the commit",
    )


def _too_many(count: int) -> Problem:
    return Problem(
        code="too-many",
        message=f"{count} changes of yours wait already: that is as many, or as large, as may be",
        hint="commit some or drop them (holdfast change list, holdfast change drop ID)",
    )


def _standing_problems(kept: Proposal) -> list[Problem]:
    if kept.rejection is None:
        return []
    why = f": {kept.rejection.reason}" if kept.rejection.reason else ""
    return [
        Problem(
            code="rejected",
            message=f"{kept.rejection.actor} rejected this change{why}",
            hint="edit it, or propose another one",
        )
    ]


def _outdated(why: str) -> Problem:
    return Problem(
        code="outdated",
        message=f"its approvals are void: {why}",
        hint="propose it again on the newest revision",
    )


def _another_change(kept: Proposal) -> Invalid:
    return Invalid(
        [
            Problem(
                code="another-change",
                message=f"the waiting change has the digest {kept.digest}",
                path="/digest",
                hint="look at the change again before you approve or commit it",
            )
        ]
    )
