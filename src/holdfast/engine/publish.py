"""The one write door: authorise, validate, append with compare-and-set. Nothing else writes.

People, CI, importers, schedules and automation all come through `Publisher`. The main path of a
commit, under the view's lock so that nothing moves in between:

    catch up, base revision, seal, fold and compare, authorise, validate, build, append
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

from holdfast.core import limits
from holdfast.core.difference import Difference, diff
from holdfast.core.errors import Conflict, Forbidden, Invalid, NotFound, Problem, Unavailable
from holdfast.core.fold import fold
from holdfast.core.history import seal
from holdfast.core.lineage import Step
from holdfast.core.model import Change, DeleteToken, Edit, Entry, PutToken, Scope, Subject, Verb
from holdfast.core.state import State
from holdfast.core.wire import canonical, digest
from holdfast.engine.members import settle
from holdfast.engine.views import View
from holdfast.ports import Blobs, Clock, Journal, Proposal, Proposals

ATTEMPTS_MAX: Final = 16
"""Tries of a change without a base revision while other nodes write too."""
EVERY: Final = "*"

Validate: TypeAlias = Callable[[State, Sequence[Edit], State], Sequence[Problem]]
"""(the state before, the edits, the state after) -> all problems; `core.validate.validate`."""

_Settled: TypeAlias = tuple[tuple[Edit, ...], list[Problem]]


class Rights(Protocol):
    """What the caller may do; `core.access.Grant` is one."""

    def allows(self, verb: Verb, environment: str, service: str) -> bool: ...

    def allows_somewhere(self, verb: Verb, service: str) -> bool: ...


class Checked(msgspec.Struct, frozen=True):
    """What a change would do on revision `base_revision`. With an error it can't be committed.

    `digest` is that of the change's canonical bytes; an approval is bound to it.
    """

    problems: tuple[Problem, ...]
    differences: tuple[Difference, ...]
    base_revision: int
    digest: str

    @property
    def ok(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)


class Made(msgspec.Struct, frozen=True):
    """A snapshot that a commit made anew."""

    subject: Subject
    revision: int
    digest: str


class Committed(msgspec.Struct, frozen=True):
    """What was committed. A change that differs in nothing appends nothing: no `differences`, and
    revision and hash are those of the head as it was. `problems` are warnings.
    """

    revision: int
    hash: str
    differences: tuple[Difference, ...] = ()
    subjects: tuple[Made, ...] = ()
    problems: tuple[Problem, ...] = ()


class _Plan(msgspec.Struct, frozen=True):
    """A change worked out on one head."""

    edits: tuple[Edit, ...]
    entry: Entry
    problems: tuple[Problem, ...]
    differences: tuple[Difference, ...]


class Publisher:
    """The write door of one node. Thread-safe; commits of one node go one after the other.

    `new_id` draws ids of proposals that can't be guessed.
    """

    def __init__(  # noqa: PLR0913 - every port by name
        self,
        *,
        view: View,
        journal: Journal,
        blobs: Blobs,
        proposals: Proposals,
        clock: Clock,
        validate: Validate,
        new_id: Callable[[], str],
    ) -> None:
        self._view = view
        self._journal = journal
        self._blobs = blobs
        self._proposals = proposals
        self._clock = clock
        self._validate = validate
        self._new_id = new_id

    def check(self, change: Change) -> Checked:
        """All problems of the change and all that it would do. Writes nothing but member lists.

        Raises `Conflict` when its base revision is not the head.
        """
        problems = bounds(change)
        if problems:
            return Checked(tuple(problems), (), self._view.state.head.revision, "")
        settled = settle(change.edits, self._view.state, self._blobs)
        with self._view.exclusive():
            state = self._caught_up()
            _check_base(change, state)
            try:
                plan = self._plan(state, settled, "check", change.reason)
                name = digest(canonical(change))
                if not _errors(plan.problems) and plan.differences:
                    self._view.prepare(plan.entry)
            except Invalid as error:
                return Checked(error.problems, (), state.head.revision, "")
        return Checked(plan.problems, plan.differences, state.head.revision, name)

    def propose(self, change: Change, author: str, rights: Rights) -> Proposal:
        """Keep a change without errors for a later commit. Raises `Invalid`, `Forbidden`."""
        checked = self.check(change)
        if not checked.ok:
            raise Invalid(_errors(checked.problems))
        authorise(rights, change.edits, checked.differences, self._view.state)
        body = canonical(change)
        proposal = Proposal(
            proposal=self._new_id(),
            digest=digest(body),
            change=body,
            author=author,
            at_ms=int(self._clock() * 1000),
        )
        self._proposals.put(proposal)
        return proposal

    def commit(self, change: Change, actor: str, rights: Rights) -> Committed:
        """Commit all of the change, or nothing.

        Without a base revision it goes onto the head as it is by then. Raises `Invalid` with all
        problems, `Forbidden`, `Conflict` with both revisions, and `Unavailable` when the journal
        can't write; then, as after a lost connection, the head tells whether it was written.
        """
        problems = bounds(change)
        if problems:
            raise Invalid(problems)
        settled = settle(change.edits, self._view.state, self._blobs)
        for _ in range(ATTEMPTS_MAX - 1):
            try:
                return self._commit(change, settled, actor, rights)
            except Conflict:
                if change.base_revision is not None:
                    raise
        return self._commit(change, settled, actor, rights)

    def commit_proposal(
        self, proposal: str, actor: str, rights: Rights, expected_digest: str = ""
    ) -> Committed:
        """Check a waiting change again on the head and commit it; it waits no longer.

        Raises `NotFound`, and `Invalid` when `expected_digest` is given and not its own.
        """
        kept = self._proposals.get(proposal)
        if kept is None:
            raise NotFound(f"no change waits under {proposal[:64]!r}")
        if expected_digest and expected_digest != kept.digest:
            message = f"the waiting change has the digest {kept.digest}, not {expected_digest}"
            hint = "look at the change again before you commit it"
            raise Invalid([Problem(code="another-change", message=message, hint=hint)])
        committed = self.commit(msgspec.json.decode(kept.change, type=Change), actor, rights)
        self._proposals.delete(proposal)
        return committed

    def _caught_up(self) -> State:
        self._view.catch_up()
        return self._view.state

    def _commit(self, change: Change, settled: _Settled, actor: str, rights: Rights) -> Committed:
        with self._view.exclusive():
            state = self._caught_up()
            _check_base(change, state)
            plan = self._plan(state, settled, actor, change.reason)
            authorise(rights, plan.edits, plan.differences, state)
            if _errors(plan.problems):
                raise Invalid(plan.problems)
            if not plan.differences:
                return Committed(state.head.revision, state.head.hash, problems=plan.problems)
            prepared = self._view.prepare(plan.entry)
            self._append(plan.entry)
            self._view.install(prepared)
        return Committed(
            revision=plan.entry.revision,
            hash=plan.entry.hash,
            differences=plan.differences,
            subjects=tuple(_made(prepared)),
            problems=plan.problems,
        )

    def _plan(self, state: State, settled: _Settled, actor: str, reason: str) -> _Plan:
        """Raises `Invalid` for values that have no canonical form: they can't even be compared."""
        edits, problems = settled
        at_ms = max(int(self._clock() * 1000), self._view.standing.at_ms)
        try:
            entry = seal(state.head, at_ms, actor, reason, edits)
        except Invalid as error:
            located = list(_without_canonical_form(edits))
            raise Invalid([*problems, *(located or error.problems)]) from None
        new = fold(state, entry)
        return _Plan(
            edits=entry.edits,
            entry=entry,
            problems=(*problems, *self._validate(state, entry.edits, new)),
            differences=diff(state, new),
        )

    def _append(self, entry: Entry) -> None:
        try:
            self._journal.append(entry)
        except Unavailable:
            if self._journal.head().hash != entry.hash:  # it may have been written all the same
                raise


def bounds(change: Change) -> list[Problem]:
    """Problems of a change's size, found before any work is put into it."""
    problems = []
    if len(change.edits) > limits.EDITS_MAX:
        problems.append(
            Problem(
                code="too-many-edits",
                message=f"{len(change.edits)} edits, at most {limits.EDITS_MAX}",
                path="/edits",
                hint="split the change",
            )
        )
    if len(change.reason) > limits.TEXT_CHARS_MAX:
        problems.append(
            Problem(
                code="too-long",
                message=f"a reason of {len(change.reason)} characters, at most "
                f"{limits.TEXT_CHARS_MAX}",
                path="/reason",
                hint="say it shorter, or link to the long form",
            )
        )
    return problems


def _without_canonical_form(edits: Sequence[Edit]) -> Iterator[Problem]:
    for number, edit in enumerate(edits):
        try:
            canonical(edit)
        except Invalid as error:
            for problem in error.problems:
                path = f"/edits/{number}{problem.path}"
                yield msgspec.structs.replace(problem, path=path)


def authorise(
    rights: Rights, edits: Sequence[Edit], differences: Sequence[Difference], state: State
) -> None:
    """Raise `Forbidden`, naming the first right that is missing.

    Write is needed in each environment whose answers an item may change; for an item that changes
    none, as a description, in any one. Environments and roots need admin, a token admin over all
    that it gives or gave.
    """
    for difference in differences:
        for verb, environment, service in _needed(difference):
            if environment:
                allowed = rights.allows(verb, environment, service)
            else:
                allowed = rights.allows_somewhere(verb, service)
            if not allowed:
                raise _forbidden(verb, environment, service)
    for scope in _scopes(edits, state):
        if not rights.allows("admin", scope.environment, scope.service):
            raise _forbidden("admin", scope.environment, scope.service)


def _needed(difference: Difference) -> Iterator[tuple[Verb, str, str]]:
    if difference.kind == "root":
        yield "admin", EVERY, EVERY
    elif difference.kind == "environment":
        yield "admin", difference.name, EVERY
    elif difference.kind == "contract":  # it binds who publishes wherever it holds
        for contract in filter(None, (difference.before, difference.after)):
            for environment in contract.get("environments") or (EVERY,):
                yield "write", environment, difference.service
    elif difference.kind != "token":
        for environment in difference.environments or ("",):
            yield "write", environment, difference.service


def _scopes(edits: Sequence[Edit], state: State) -> Iterator[Scope]:
    for edit in edits:
        if isinstance(edit, PutToken | DeleteToken):
            old = state.tokens.get(edit.token)
            yield from old.token.scopes if old else ()
            yield from edit.to.scopes if isinstance(edit, PutToken) else ()


def _forbidden(verb: Verb, environment: str, service: str) -> Forbidden:
    where = f"{environment or 'any environment'}/{service}"
    return Forbidden(f"this takes a token with the verb {verb} for {where}")


def _check_base(change: Change, state: State) -> None:
    if change.base_revision not in (None, state.head.revision):
        raise Conflict(change.base_revision or 0, state.head.revision)


def _errors(problems: Sequence[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity == "error"]


def _made(prepared: Step) -> Iterator[Made]:
    for subject in sorted(prepared.bodies):
        lineage = prepared.standing.lineages[subject]
        yield Made(subject, lineage.revision, lineage.digest)
