"""From request bodies to the write door and back: documents become edits, outcomes become answers.

Everything here runs on the one writer thread. A change made from documents is worked out against a
head and committed on exactly that head, so that nobody's commit in between is overwritten unseen;
when there was one and the caller named no base revision, it is worked out again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec

from holdfast.adapters.ed25519 import verify
from holdfast.apps.control import schemas
from holdfast.apps.control.door import require_somewhere
from holdfast.apps.control.repeats import first_answer
from holdfast.apps.control.traffic import Metrics
from holdfast.apps.observe import logger
from holdfast.core.access import Grant, issue, may_grant, scope_problems
from holdfast.core.authority import authorise
from holdfast.core.errors import (
    CallerError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Problem,
    Untrusted,
)
from holdfast.core.fold import after
from holdfast.core.model import (
    Change,
    DeleteSegment,
    DeleteService,
    Edit,
    PutRoot,
    PutSegment,
    PutService,
    PutToken,
)
from holdfast.core.revert import Undo, still_stands
from holdfast.core.roots import extend
from holdfast.core.state import State
from holdfast.core.wire import Envelope
from holdfast.engine.judgement import ALONE, Mandate
from holdfast.engine.publish import Committed, Publisher
from holdfast.engine.records import Records
from holdfast.engine.views import View
from holdfast.ports import Blobs

ATTEMPTS_MAX: Final = 8
"""Times a change is worked out again because another node committed in between."""

_log = logger("holdfast.commit")

Drafted = tuple[Change, tuple[Problem, ...]]
Advise: TypeAlias = Callable[[State, Change], Iterable[Problem]]
"""Warnings about what a change puts, beside those of the write door."""


class Desk:
    """One node's use of the write door on behalf of callers. Owned by the writer thread."""

    def __init__(  # noqa: PLR0913  # every part by name
        self,
        *,
        view: View,
        publisher: Publisher,
        blobs: Blobs,
        records: Records,
        metrics: Metrics,
        advise: Advise | None = None,
    ) -> None:
        self._advise = advise
        self._view = view
        self._publisher = publisher
        self._blobs = blobs
        self._records = records
        self._metrics = metrics

    # -- check and commit

    def check(self, caller: Grant, body: schemas.ChangeBody) -> schemas.Checked:
        """What a commit would do; `Forbidden` where the commit would be."""
        change, problems = self.draft(body)
        checked = self._check(caller, change, problems, Mandate(break_glass=body.break_glass))
        if not checked.ok or self._advise is None:
            return checked
        found = self._advise(self._view.state, change)
        return msgspec.structs.replace(checked, problems=(*checked.problems, *found))

    def commit(
        self, caller: Grant, body: schemas.ChangeBody, attempt: str = ""
    ) -> schemas.Committed:
        """Raises `Invalid` with all problems, `Forbidden`, `Guarded`, `Conflict`."""
        mandate = Mandate(break_glass=body.break_glass, attempt=attempt)
        return self.commit_drafts(caller, lambda: self.draft(body), body.base_revision, mandate)

    def commit_edits(
        self, caller: Grant, edits: Iterable[Edit], reason: str, break_glass: str = ""
    ) -> schemas.Committed:
        """Commit edits that mean the same on every head."""
        change = Change(edits=tuple(edits), reason=reason)
        return self._commit(caller, change, (), Mandate(break_glass=break_glass))

    def upload(self, body: bytes) -> schemas.Blob:
        """Keep a list of members: sorted, each once, a line each."""
        from holdfast.core.authoring import lines  # see `draft`

        members = sorted(set(lines(body)))
        kept = "".join(f"{member}\n" for member in members).encode()
        return schemas.Blob(self._blobs.put(kept), len(kept))

    def issue(
        self, caller: Grant, body: schemas.TokenBody, token_id: str, secret: bytes
    ) -> schemas.Issued:
        """Issue a token. Raises `Invalid`, and `Forbidden` for more than the caller has."""
        problems = scope_problems(body.scopes)
        if problems:
            raise Invalid(problems)
        if any(not may_grant(caller, scope) for scope in body.scopes):
            raise Forbidden(f"the token {caller.token} can't grant more than it may do itself")
        text, token = issue(token_id, secret, body.name, body.scopes, body.expires_s)
        reason = f"token {token_id} for {body.name}"
        committed = self.commit_edits(caller, (PutToken(token_id, token),), reason)
        return schemas.Issued(token_id, text, committed.revision)

    def put_root(self, caller: Grant, body: schemas.RootBody) -> schemas.Committed:
        """Add the next root document. Raises `Invalid` unless the one before hands over to it."""
        journaled = self.head(None).roots
        try:
            chain = [msgspec.convert(each, Envelope) for each in (*journaled, body.envelope)]
            version = extend(None, chain, verify).version
        except (msgspec.ValidationError, Untrusted) as error:
            hint = "make it with `holdfast keys rotate`, from the newest root"
            problem = Problem(code="root", message=str(error), path="/envelope", hint=hint)
            raise Invalid([problem]) from None
        if version != body.version:
            raise Conflict(body.version, version)
        edit = PutRoot(version, body.envelope)
        return self.commit_edits(caller, (edit,), body.reason or f"root version {version}")

    def import_flagd(self, caller: Grant, body: schemas.ImportBody) -> schemas.Imported:
        """Take a flagd file over. With `check` nothing is written. Raises as `commit` does."""
        from holdfast.core.flagd import import_flagd  # see `draft`

        mended: tuple[Problem, ...] = ()

        def draft() -> Drafted:
            nonlocal mended
            state = self.head(body.base_revision)
            imported = import_flagd(
                body.text.encode(),
                body.file,
                service=body.service,
                environment=body.environment,
                services=state.services,
                lenient=body.lenient,
            )
            mended = imported.mended
            reason = body.reason or f"import of {body.file}"
            return Change(imported.edits, reason, state.head.revision), imported.problems

        change, problems = draft()
        checked = self._check(caller, change, problems)
        if body.check:
            return schemas.Imported(checked, mended, None)
        committed = self.commit_drafts(caller, draft, body.base_revision)
        return schemas.Imported(checked, mended, committed)

    # -- undoing

    def revert(
        self, caller: Grant, body: schemas.RevertBody, attempt: str = ""
    ) -> schemas.Committed:
        """Undo one revision on top of the head."""
        mandate = Mandate(break_glass=body.break_glass, attempt=attempt)
        base_revision = body.base_revision
        return self.commit_drafts(caller, lambda: self.reverting(body), base_revision, mandate)

    def reverting(self, body: schemas.RevertBody) -> Drafted:
        """The change that undoes a revision on the head."""
        head = self.head(body.base_revision).head.revision
        undone = self._records.revert(body.revision, body.revision)
        reason = body.reason or f"revert of revision {body.revision}"
        return Change(undone.edits, reason, head), undone.problems

    def restore(
        self, caller: Grant, body: schemas.RestoreBody, attempt: str = ""
    ) -> schemas.Committed:
        """Bring back one setting, one segment or a whole service."""
        if body.key is not None and body.segment is not None:
            raise CallerError("give `key` or `segment`, not both: each is restored by itself")
        require_somewhere(caller, "write", body.service)

        def undo() -> Undo:
            if body.segment is not None:
                return self._restore_segment(body.service, body.segment, body.revision)
            return self._records.restore(body.service, body.key or "", body.revision or 0)

        what = "/".join(part for part in (body.service, body.key or body.segment) if part)
        mandate = Mandate(break_glass=body.break_glass, attempt=attempt)
        reason = body.reason or f"restore of {what}"

        def draft() -> Drafted:
            head = self.head(body.base_revision).head.revision
            undone = undo()
            return Change(undone.edits, reason, head), undone.problems

        return self.commit_drafts(caller, draft, body.base_revision, mandate)

    def _restore_segment(self, service: str, segment: str, revision: int | None) -> Undo:
        """Edits that bring a segment back, as of a revision or of its removal."""
        head = self._view.state
        now = head.services.get(service)
        if now is not None and segment in now.segments:
            return Undo(problems=(still_stands(segment),))
        past = self._records.state_at(
            self._removal(service, segment) - 1 if revision is None else revision
        )
        was = past.services.get(service)
        if was is None or segment not in was.segments:
            raise NotFound(f"revision {past.head.revision} has no segment {segment}")
        before: tuple[Edit, ...] = () if now else (PutService(service, was.info),)
        return Undo(edits=(*before, PutSegment(service, segment, was.segments[segment].segment)))

    def _removal(self, service: str, segment: str) -> int:
        """The newest revision that took a segment away. Raises `NotFound`."""
        before = 0
        while True:
            page = self._records.history(service=service, before=before)
            for entry in page.entries:
                if any(_removes(edit, service, segment) for edit in entry.edits):
                    return entry.revision
            if not page.before:
                raise NotFound(f"nothing shows that {segment} of {service} was removed")
            before = page.before

    # -- the way through the door

    def head(self, base_revision: int | None) -> State:
        """What stands now. Raises `Conflict` when a base revision is given and not the head."""
        self._view.catch_up()
        state = self._view.state
        if base_revision not in (None, state.head.revision):
            self._metrics.conflicts.inc()
            raise Conflict(base_revision or 0, state.head.revision)
        return state

    def draft(self, body: schemas.ChangeBody) -> Drafted:
        """The change that a body means on the head as it is."""
        # Large, and imported before the first change comes (`plane.Control`).
        from holdfast.core import authoring

        state = self.head(body.base_revision)
        if body.prune and not body.documents:
            raise CallerError("`prune` without documents would delete every service")
        planned = authoring.plan(
            [authoring.SourceFile(each.file, each.text.encode()) for each in body.documents],
            state.services,
            environments=state.environments.keys(),
            prune=body.prune,
            put_blob=self._blobs.put,
        )
        given: tuple[Edit, ...] = body.edits
        problems = planned.problems
        if authoring.carries_conditions(given) and not _errors(problems):
            standing = after(state, (*planned.edits, *given)).services
            given, found = authoring.settle_conditions(given, standing)
            problems = (*problems, *found)
        edits = (*planned.edits, *given)
        return Change(edits, body.reason, state.head.revision), problems

    def _check(
        self,
        caller: Grant,
        change: Change,
        problems: tuple[Problem, ...],
        mandate: Mandate = ALONE,
    ) -> schemas.Checked:
        if _errors(problems):
            return schemas.Checked(False, problems, (), change.base_revision or 0, "")
        checked = self._publisher.check(change, mandate)
        authorise(caller, change.edits, checked.differences, self._view.state)
        return schemas.Checked(
            ok=checked.ok,
            problems=(*problems, *checked.problems),
            differences=checked.differences,
            base_revision=checked.base_revision,
            digest=checked.digest,
            approvals_needed=checked.approvals_needed,
        )

    def commit_drafts(
        self,
        caller: Grant,
        draft: Callable[[], Drafted],
        base_revision: int | None,
        mandate: Mandate = ALONE,
    ) -> schemas.Committed:
        """Commit what `draft` works out: on the base revision once, however often it is asked for;
        without one anew when another node wrote in between.
        """
        if base_revision is not None:
            return self._commit_once(caller, draft, base_revision, mandate)
        if mandate.attempt:
            raise CallerError("`Idempotency-Key` goes with `base_revision`: name both, or neither")
        for _ in range(ATTEMPTS_MAX - 1):
            change, problems = draft()
            with contextlib.suppress(Conflict):
                return self._commit(caller, change, problems, mandate)
        change, problems = draft()
        return self._commit(caller, change, problems, mandate)

    def _commit_once(
        self, caller: Grant, draft: Callable[[], Drafted], base_revision: int, mandate: Mandate
    ) -> schemas.Committed:
        """Commit it on that revision, or answer as when this very request was carried out there."""
        try:
            change, problems = draft()
            return self._commit(caller, change, problems, mandate)
        except Conflict:
            self._view.catch_up()
            answered = first_answer(self._records, base_revision, mandate.attempt)
            if answered is None:
                raise
        self._metrics.repeats.inc()
        _log.info("commit asked for again", revision=answered.revision, actor=caller.token)
        return answered

    def _commit(
        self, caller: Grant, change: Change, problems: tuple[Problem, ...], mandate: Mandate
    ) -> schemas.Committed:
        if _errors(problems):
            raise Invalid(problems)
        try:
            committed = self._publisher.commit(change, caller.actor, caller, mandate)
        except Conflict:
            self._metrics.conflicts.inc()
            raise
        return self.told(caller.token, committed, problems)

    def told(
        self, token: str, committed: Committed, problems: tuple[Problem, ...] = ()
    ) -> schemas.Committed:
        """Log and count a commit; the answer to who made it."""
        if committed.differences:
            self._metrics.commits.inc()
            _log.info(
                "commit",
                revision=committed.revision,
                actor=token,
                differences=len(committed.differences),
                subjects=len(committed.subjects),
            )
        for each in committed.broken:
            self._metrics.break_glass.labels(each.environment).inc()
            _log.warning(
                "break-glass",
                revision=committed.revision,
                actor=token,
                environment=each.environment,
                reason=each.reason,
                until_s=each.until_s,
            )
        return _answer(committed, problems)


def _answer(committed: Committed, problems: tuple[Problem, ...]) -> schemas.Committed:
    return schemas.Committed(
        revision=committed.revision,
        hash=committed.hash,
        differences=committed.differences,
        subjects=tuple(
            schemas.SubjectBody(made.subject.environment, made.subject.service, made.revision)
            for made in committed.subjects
        ),
        problems=tuple(dict.fromkeys((*problems, *committed.problems))),
        broken=committed.broken,
    )


def _removes(edit: Edit, service: str, segment: str) -> bool:
    match edit:
        case DeleteSegment():
            return (edit.service, edit.segment) == (service, segment)
        case DeleteService():
            return edit.service == service
        case _:
            return False


def _errors(problems: Iterable[Problem]) -> bool:
    return any(problem.severity == "error" for problem in problems)
