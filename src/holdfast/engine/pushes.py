"""A push comes home: what edges took while the journal was out of reach is brought into it.

The very entry is appended where nobody wrote meanwhile: then all that was handed out is this
journal's own. Where somebody did, two histories meet. The overrides are then put anew on the head
as it is, every setting of their subjects counts as touched, and the new revisions are above those
that consumers hold: each of them goes on, and nobody back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from holdfast.core.authority import Rights
from holdfast.core.build import build
from holdfast.core.errors import Conflict, Invalid, Problem, Unavailable
from holdfast.core.limits import TEXT_CHARS_MAX
from holdfast.core.model import Change, Edit, Entry, Head, PutOverride, Subject, TouchSubject
from holdfast.core.pushes import Taken
from holdfast.core.subjects import subject_revision
from holdfast.engine.judgement import AUTOMATION
from holdfast.engine.publish import Committed, Publisher
from holdfast.engine.views import View

HASH_CHARS: Final = 16
"""Of a push's hash, in the reason of the entries that bring it in: it is told by them."""


class Home(msgspec.Struct, frozen=True):
    """Where a push came in. `met`: two histories did, and it is an entry of another revision."""

    revision: int
    hash: str
    met: bool = False


class PushDoor:
    """The journal's side of pushes, on the one write door. Belongs to the writer thread."""

    def __init__(self, publisher: Publisher, view: View) -> None:
        self._publisher = publisher
        self._view = view

    def bring(self, taken: Taken, actor: str, rights: Rights) -> Home:
        """Bring a push in; one that is in already changes nothing.

        Raises `Unavailable` where this journal lacks what the push was made on, and otherwise as
        `Publisher.commit`.
        """
        entry = taken.entry
        try:
            made = self._publisher.adopt(entry, rights, taken.digests)
        except Conflict as error:
            if error.actual_revision < entry.revision - 1:
                raise Unavailable(
                    f"this journal ends at revision {error.actual_revision}, and the push "
                    f"was made on {entry.revision - 1}: restore a newer copy of the journal first"
                ) from None
            return self._meet(entry, sorted(taken.digests), actor, rights)
        return Home(made.revision, made.hash)

    def lift(self, where: Subject, key: str, reason: str, actor: str, rights: Rights) -> Committed:
        """Take what stands over a setting away. Raises `Invalid` while that would move answers."""
        edit = PutOverride(where.environment, where.service, key, None)
        return self._publisher.commit(Change((edit,), reason), actor, rights)

    def _meet(self, entry: Entry, subjects: list[Subject], actor: str, rights: Rights) -> Home:
        reason = _reason(entry)
        before = self._brought(entry, reason)
        if before is None:
            puts = tuple(edit for edit in entry.edits if isinstance(edit, PutOverride))
            self._check(puts, subjects)
            touch = tuple(TouchSubject(one.environment, one.service) for one in subjects)
            # A consumer holds another snapshot of that revision: what it takes next follows none
            # of that number.
            while any(self._revision(one) <= entry.revision for one in subjects):
                self._commit(touch, reason, actor, rights)
            self._commit((*touch, *puts), reason, actor, rights)
            before = self._view.state.head
        return Home(before.revision, before.hash, met=True)

    def _brought(self, entry: Entry, reason: str) -> Head | None:
        """Where this push came in before. Nobody else may write such an entry; what was pushed or
        lifted since then stands."""
        for there in self._view.entries(entry.revision - 1):
            if there.reason == reason and any(map(_lays_over, there.edits)):
                return Head(there.revision, there.hash)
        return None

    def _check(self, puts: Iterable[PutOverride], subjects: Iterable[Subject]) -> None:
        """Raises `Invalid` for what was deleted meanwhile, before anything is written."""
        state, live = self._view.state, self._view.standing.live
        problems = [_lost(str(one)) for one in subjects if one not in live]
        heads = {
            one: Head(subject_revision(state, one), state.head.hash)
            for one in subjects
            if one in live
        }
        known = {one: build(state, one, None, head=head).flags for one, head in heads.items()}
        for put in puts:
            subject = Subject(put.environment, put.service)
            if put.key not in known.get(subject, (put.key,)):
                problems.append(_lost(f"{put.key!r} in {subject}"))
        if problems:
            raise Invalid(problems)

    def _commit(self, edits: tuple[Edit, ...], reason: str, actor: str, rights: Rights) -> None:
        self._publisher.commit(Change(edits, reason), actor, rights, AUTOMATION)

    def _revision(self, subject: Subject) -> int:
        return self._view.standing.lineages[subject].revision


def _reason(entry: Entry) -> str:
    """Of the entries that a push makes where two histories met; no other push makes the same."""
    made = f"revision {entry.revision}, {entry.hash[:HASH_CHARS]}"
    return f"pushed offline ({made}) by {entry.actor}: {entry.reason}"[:TEXT_CHARS_MAX]


def _lays_over(edit: Edit) -> bool:
    return isinstance(edit, PutOverride) and edit.to is not None


def _lost(what: str) -> Problem:
    return Problem(
        code="push",
        message=f"{what} was deleted since the push was made",
        path="/entry",
        hint="restore it first (holdfast restore), or leave the push out",
    )
