"""The one write door: authorise, validate, ask the policy, append. Nothing else writes.

People, CI, importers, schedules and automation all come through `Publisher`. The main path of a
commit, under the view's lock so that nothing moves in between:

    catch up, base revision, fold and compare, judge by policy, stage, validate, authorise, build,
    append with compare-and-set

What only the door may write (rollouts, approvals, broken glass), it adds itself to the entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from holdfast.core import limits
from holdfast.core.authority import Rights, authorise
from holdfast.core.difference import Difference, diff
from holdfast.core.errors import Conflict, Fenced, Guarded, Invalid, Problem, Unavailable
from holdfast.core.fold import fold
from holdfast.core.history import seal
from holdfast.core.lineage import Step, unrecorded
from holdfast.core.model import BreakGlass, Change, Edit, Entry, Subject
from holdfast.core.policies import Approval
from holdfast.core.policy import TrafficShare
from holdfast.core.reserved import reserved
from holdfast.core.rollout import staged
from holdfast.core.state import State, same
from holdfast.core.wire import canonical, digest
from holdfast.engine.glass import Glass
from holdfast.engine.judgement import ALONE, Case, Judged, Mandate, hastened, judge
from holdfast.engine.leading import uptime_s
from holdfast.engine.members import settle
from holdfast.engine.views import View
from holdfast.ports import Blobs, Clock, Journal

ATTEMPTS_MAX: Final = 16
"""Tries of a change without a base revision while other nodes write too."""

Validate: TypeAlias = Callable[[State, Sequence[Edit], State], Sequence[Problem]]
"""(the state before, the edits, the state after) -> all problems; `core.validate.validate`."""

FRESH_S: Final = 600.0
"""How long ago a change's blobs may have been put when its entry is appended; see `collecting`."""


class _Settled(msgspec.Struct, frozen=True):
    """A change's edits, their long lists put as blobs at `at_s`, and what is wrong with them."""

    edits: tuple[Edit, ...]
    problems: list[Problem]
    at_s: float


class Checked(msgspec.Struct, frozen=True):
    """What a change would do on revision `base_revision`. With an error it can't be committed.

    `digest` is that of the change's canonical bytes; an approval is bound to it.
    `approvals_needed` is what the policies ask for, `approvals` those that count by now.
    """

    problems: tuple[Problem, ...]
    differences: tuple[Difference, ...]
    base_revision: int
    digest: str
    approvals_needed: int = 0
    approvals: tuple[Approval, ...] = ()

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
    revision and hash are those of the head as it was. `problems` are warnings, `broken` says which
    environments' glass it broke.
    """

    revision: int
    hash: str
    differences: tuple[Difference, ...] = ()
    subjects: tuple[Made, ...] = ()
    problems: tuple[Problem, ...] = ()
    broken: tuple[BreakGlass, ...] = ()


class _Plan(msgspec.Struct, frozen=True):
    """A change worked out on one head. `lacking` is what the policies ask for and it has not."""

    entry: Entry
    new: State
    problems: tuple[Problem, ...]
    differences: tuple[Difference, ...]
    needed: int = 0
    approvals: tuple[Approval, ...] = ()
    lacking: tuple[Problem, ...] = ()
    broken: tuple[BreakGlass, ...] = ()


class Publisher:
    """The write door of one node. Thread-safe; commits of one node go one after the other.

    `traffic_share` estimates what share of the seen requests a change moves. `uptime` is monotonic,
    sleeps counted in. `on_fenced` is told of
    each write that was refused because another node leads by now.
    """

    def __init__(  # noqa: PLR0913 - every port by name
        self,
        *,
        view: View,
        journal: Journal,
        blobs: Blobs,
        clock: Clock,
        validate: Validate,
        traffic_share: TrafficShare | None = None,
        uptime: Clock = uptime_s,
    ) -> None:
        self._view = view
        self._journal = journal
        self._blobs = blobs
        self._clock = clock
        self._validate = validate
        self._traffic_share = traffic_share
        self._uptime = uptime
        self._glass = Glass(journal)
        self.on_fenced: Callable[[Fenced], None] = _pass_over

    def check(self, change: Change, mandate: Mandate = ALONE) -> Checked:
        """All problems of the change and all that it would do. Writes nothing but member lists.

        What a policy asks for and the change has not is a warning: it may come yet. Raises
        `Conflict` when its base revision is not the head.
        """
        problems = bounds(change, automation=mandate.automation)
        if problems:
            return Checked(tuple(problems), (), self._view.state.head.revision, "")
        settled = self._settled(change)
        with self._view.exclusive():
            state = self._caught_up()
            _check_base(change, state)
            try:
                plan = self._plan(state, change, settled, "check", mandate)
                name = digest(canonical(change))
                if not _errors(plan.problems) and _moves(plan, state):
                    self._view.prepare(plan.entry)
            except Invalid as error:
                return Checked(error.problems, (), state.head.revision, "")
        lacking = (msgspec.structs.replace(one, severity="warning") for one in plan.lacking)
        return Checked(
            problems=(*plan.problems, *lacking),
            differences=plan.differences,
            base_revision=state.head.revision,
            digest=name,
            approvals_needed=plan.needed,
            approvals=plan.approvals,
        )

    def commit(
        self, change: Change, actor: str, rights: Rights, mandate: Mandate = ALONE
    ) -> Committed:
        """Commit all of the change, or nothing.

        Without a base revision it goes onto the head as it is by then. Raises `Invalid` with all
        problems, `Forbidden`, `Guarded` with all that a policy asks for, `Conflict` with both
        revisions, and `Unavailable` when the journal can't write; then, as after a lost
        connection, the head tells whether it was written. With a fence in the mandate, `Fenced`
        when another node leads by now: nothing was written.
        """
        problems = bounds(change, automation=mandate.automation)
        if problems:
            raise Invalid(problems)
        settled = self._settled(change)
        for _ in range(ATTEMPTS_MAX - 1):
            try:
                return self._commit(change, settled, actor, rights, mandate)
            except Conflict:
                if change.base_revision is not None:
                    raise
            if not self._is_fresh(settled):
                settled = self._settled(change)
        return self._commit(change, settled, actor, rights, mandate)

    def adopt(self, entry: Entry, rights: Rights, digests: Mapping[Subject, str]) -> Committed:
        """Append an entry that was sealed elsewhere on this very journal's head (`core.pushes`).

        `digests` are of the snapshots that it made there. Raises `Conflict` when somebody wrote
        meanwhile, or when other bytes come of it here, and otherwise as `commit`. One that is there
        already is appended no second time.
        """
        with self._view.exclusive():
            state = self._caught_up()
            for there in self._journal.read(entry.revision - 1, 1):
                if there.hash == entry.hash:
                    return Committed(there.revision, there.hash)
            if (entry.revision - 1, entry.previous) != (state.head.revision, state.head.hash):
                raise Conflict(entry.revision - 1, state.head.revision)
            new = fold(state, entry)
            differences = diff(state, new)
            authorise(rights, entry.edits, differences, state)
            if problems := _errors(self._validate(state, entry.edits, new)):
                raise Invalid(problems)
            prepared = self._view.prepare(entry)
            if {one.subject: one.digest for one in _made(prepared)} != digests:
                raise Conflict(entry.revision - 1, state.head.revision)
            self._view.claim(prepared)
            try:
                self._append(entry)
            except Conflict:
                if self._journal.head().hash != entry.hash:  # else another node brought it in
                    raise
            self._view.install(prepared)
        return Committed(entry.revision, entry.hash, differences, tuple(_made(prepared)))

    def _settled(self, change: Change) -> _Settled:
        at_s = self._uptime()
        return _Settled(*settle(change.edits, self._view.state, self._blobs), at_s)

    def _is_fresh(self, settled: _Settled) -> bool:
        return self._uptime() - settled.at_s < FRESH_S

    def _caught_up(self) -> State:
        self._view.catch_up()
        return self._view.state

    def _commit(
        self, change: Change, settled: _Settled, actor: str, rights: Rights, mandate: Mandate
    ) -> Committed:
        with self._view.exclusive():
            state = self._caught_up()
            _check_base(change, state)
            plan = self._plan(state, change, settled, actor, mandate)
            authorise(rights, plan.entry.edits, plan.differences, state)
            if _errors(plan.problems):
                raise Invalid(plan.problems)
            if not _moves(plan, state):
                return Committed(state.head.revision, state.head.hash, problems=plan.problems)
            if plan.lacking:
                raise Guarded(plan.lacking)
            prepared = self._view.prepare(plan.entry)
            self._view.claim(prepared)
            if not self._is_fresh(settled):
                raise Unavailable(
                    "this node stood still for too long: nothing was written, try again"
                )
            self._append(plan.entry, mandate.fence)
            self._view.install(prepared)
        return Committed(
            revision=plan.entry.revision,
            hash=plan.entry.hash,
            differences=plan.differences,
            subjects=tuple(_made(prepared)),
            problems=plan.problems,
            broken=plan.broken,
        )

    def _plan(
        self, state: State, change: Change, settled: _Settled, actor: str, mandate: Mandate
    ) -> _Plan:
        """Raises `Invalid` for values that have no canonical form: they can't even be compared."""
        edits, problems = settled.edits, settled.problems
        entry = self._sealed(state, edits, actor, change.reason, mandate.attempt, problems)
        new = fold(state, entry)
        differences = diff(state, new)
        case = Case(
            old=state,
            new=new,
            change=change,
            edits=edits,
            differences=differences,
            now_s=self._clock(),
        )
        judged = judge(case, mandate, self._glass, self._traffic_share)
        whole = self._completed(case, mandate, judged)
        if whole != edits:
            entry = self._sealed(state, whole, actor, change.reason, mandate.attempt, problems)
            new = fold(state, entry)
            differences = diff(state, new)
        return _Plan(
            entry=entry,
            new=new,
            problems=(
                *problems,
                *reserved(edits, state, automation=mandate.automation),
                *self._validate(state, entry.edits, new),
                *judged.problems,
            ),
            differences=differences,
            needed=judged.needed,
            approvals=judged.approvals,
            lacking=judged.lacking,
            broken=judged.broken,
        )

    def _completed(self, case: Case, mandate: Mandate, judged: Judged) -> tuple[Edit, ...]:
        """The edits with those that only the door adds: how they go out, and what is on record."""
        if mandate.automation:
            return tuple(case.edits)
        edits = staged(case.old, case.edits, case.new)
        return (*hastened(edits, judged.broken, case.old), *judged.added)

    def _sealed(  # noqa: PLR0913, PLR0917 - an entry's fields
        self,
        state: State,
        edits: Sequence[Edit],
        actor: str,
        reason: str,
        attempt: str,
        problems: Sequence[Problem],
    ) -> Entry:
        at_ms = max(int(self._clock() * 1000), self._view.standing.at_ms)
        try:
            recorded = unrecorded(self._view.standing)
            return seal(state.head, at_ms, actor, reason, edits, recorded, attempt)
        except Invalid as error:
            located = list(_without_canonical_form(edits))
            raise Invalid([*problems, *(located or error.problems)]) from None

    def _append(self, entry: Entry, fence: int = 0) -> None:
        try:
            self._journal.append(entry, fence)
        except Fenced as error:
            self.on_fenced(error)
            raise
        except Unavailable:
            if self._journal.head().hash != entry.hash:  # it may have been written all the same
                raise


def _pass_over(_: Fenced) -> None:
    """Nobody asked to be told."""


def _moves(plan: _Plan, state: State) -> bool:
    """Whether anything stands otherwise after it; what is only for the record moves nothing."""
    new = plan.new
    kept = (
        (state.rollouts, new.rollouts),
        (state.contexts, new.contexts),
        (state.overrides, new.overrides),
    )
    return bool(plan.differences) or any(not same(was, now) for was, now in kept)


def bounds(change: Change, *, automation: bool = False) -> list[Problem]:
    """Problems of a change's size, found before any work is put into it.

    One edit may delete a whole service, and as many take that back as it had settings.
    """
    problems = []
    if len(change.edits) > limits.EDITS_MAX and not automation:
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


def _check_base(change: Change, state: State) -> None:
    if change.base_revision not in (None, state.head.revision):
        raise Conflict(change.base_revision or 0, state.head.revision)


def _errors(problems: Sequence[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity == "error"]


def _made(prepared: Step) -> Iterator[Made]:
    for subject in sorted(prepared.bodies):
        lineage = prepared.standing.lineages[subject]
        yield Made(subject, lineage.revision, lineage.digest)
